"""Layers that treat every element alike: activations, dropout, noise, masks, rescaling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from net2net.errors import RefusalError
from net2net.rules.base import CallView, MappedAxis, Rule
from net2net.rules.registry import register_rule

_MIXING = (
    keras.activations.softmax,
    keras.activations.log_softmax,
    keras.activations.glu,
    keras.activations.sparsemax,
)
_ELEMENTWISE_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)


class ElementwiseRule(Rule):
    """Passes a map on any axis through; the layer has no weights and does not mix channels."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on every input and output of the call."""
        if any(np.size(constant) > 1 for constant in call.constants):
            raise RefusalError(
                "it combines the channels with a constant array of fixed size",
                "Put the constant into a layer with a rule, for example BatchNormalization.",
            )
        return [MappedAxis(port, mapped.axis, mapped.map) for port in call.ports()]


class ActivationRule(ElementwiseRule):
    """Passes a map through an activation layer whose function is elementwise."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on the other side, or refuse softmax and its like."""
        require_elementwise(call.layer.activation, len(call.outputs[0]), mapped.axis)
        return super().propagate(call, mapped)


class SoftmaxRule(ElementwiseRule):
    """Passes a map on every axis but those that are normalised."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on the other side of an axis that is not normalised."""
        if mapped.axis in axes_of(call.layer.axis, len(call.inputs[0])):
            raise RefusalError(
                "softmax divides by the sum over the channels, which copies would change",
                "Widen a layer that is mixed by another before it reaches the softmax.",
            )
        return super().propagate(call, mapped)


class DropoutRule(ElementwiseRule):
    """Passes a map through dropout, unless its noise shape fixes the number of channels."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on the other side."""
        noise = getattr(call.layer, "noise_shape", None)
        if noise is not None and noise[mapped.axis] not in (None, 1):
            raise RefusalError(
                "its noise_shape fixes the number of channels", "Leave that entry None."
            )
        return super().propagate(call, mapped)


class RescalingRule(ElementwiseRule):
    """Passes a map through a rescaling by numbers, not by a list with one entry a channel."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on the other side."""
        if np.size(call.layer.scale) > 1 or np.size(call.layer.offset) > 1:
            raise RefusalError("it rescales by one number a channel", "Use BatchNormalization.")
        return super().propagate(call, mapped)


def axes_of(axis: Any, rank: int) -> list[int]:
    """Return a layer's axis or axes, counted from the front of a tensor of this rank."""
    return [one % rank for one in (axis if isinstance(axis, list | tuple) else [axis])]


def require_elementwise(activation: Any, rank: int = 2, axis: int = -1) -> None:
    """Refuse an activation that mixes what lies on an axis.

    Args:
        activation: The function, or an activation layer; Keras's own are known, others are tried
            on a small array.
        rank: Rank of the tensor that it is applied to. Defaults to 2.
        axis: The axis that must not be mixed. Defaults to -1.

    Raises:
        RefusalError: If an output depends on another place of the axis.
    """
    if isinstance(activation, keras.layers.Activation):
        activation = activation.activation
    if activation is None or isinstance(activation, _ELEMENTWISE_LAYERS):
        return
    name = getattr(activation, "__name__", None) or type(activation).__name__
    if isinstance(activation, keras.layers.Layer) and activation.weights:
        raise RefusalError(
            f"its activation is the layer {name}, which has weights of its own",
            "Put it behind the layer as a layer, instead of into it.",
        )
    known = getattr(keras.activations, name, None) is activation and activation not in _MIXING
    if not known and _mixes(activation, name, rank, axis):
        raise RefusalError(
            f"its activation '{name}' mixes the channels, so copies would change the result",
            "Widen a layer with an elementwise activation such as ReLU.",
        )


def _mixes(activation: Any, name: str, rank: int, axis: int) -> bool:
    """Return whether a function of a tensor mixes an axis, tried on numbers."""
    # Doubled channels give doubled outputs exactly where no channel sees another.
    size = 6
    shape = [2, 4, 3, 2, 2, 2][: rank - 1]
    values = np.linspace(-2.0, 2.0, int(np.prod(shape)) * size, dtype="float32")
    values = np.moveaxis(values.reshape(*shape, size), -1, axis)
    order = [*range(size), *range(0, size, 3)]
    try:
        single = _apply(activation, values)
        double = _apply(activation, np.take(values, order, axis=axis))
    except Exception as error:  # the user's own function may raise anything
        raise RefusalError(
            f"its activation '{name}' cannot be tried on a small array, to see whether it mixes "
            f"channels ({type(error).__name__}: {error})",
            "Let it take arrays of any size.",
        ) from error
    if single.shape != values.shape:
        return True
    expected = np.take(single, order, axis=axis)
    return double.shape != expected.shape or not np.allclose(double, expected, atol=1e-6)


def _apply(activation: Any, values: Any) -> Any:
    return keras.ops.convert_to_numpy(activation(keras.ops.convert_to_tensor(values)))


for _layer in (
    *_ELEMENTWISE_LAYERS,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.Identity,
    keras.layers.Masking,
    keras.layers.ActivityRegularization,
):
    register_rule(_layer, ElementwiseRule())
register_rule(keras.layers.Activation, ActivationRule())
register_rule(keras.layers.Softmax, SoftmaxRule())
register_rule(keras.layers.Dropout, DropoutRule())
register_rule(keras.layers.Rescaling, RescalingRule())
