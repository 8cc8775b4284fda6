"""Layers that treat every element alike: activations, dropout, noise, masks, rescaling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from net2net.errors import RefusalError
from net2net.rules.base import CallView, MappedOutput, Rule
from net2net.rules.registry import register_rule


class ElementwiseRule(Rule):
    """Passes a map on any axis through; the layer has no weights and does not mix channels."""

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the same map on every input and output of the call."""
        for constant in call.constants:
            if np.size(constant) > 1:
                raise RefusalError(
                    "it combines the channels with a constant array of fixed size",
                    "Put the constant into a layer with a rule, for example BatchNormalization.",
                )
        return [MappedOutput(port, mapped.axis, mapped.map) for port in call.ports()]


class ActivationRule(ElementwiseRule):
    """Passes a map through an activation layer whose function is elementwise."""

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the same map on the other side, or refuse softmax and its like."""
        require_elementwise(call.layer.activation)
        return super().spread(call, mapped)


class SoftmaxRule(ElementwiseRule):
    """Passes a map on every axis but those that are normalised."""

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the same map on the other side of an axis that is not normalised."""
        axis = call.layer.axis
        axes = axis if isinstance(axis, list | tuple) else [axis]
        if mapped.axis in [one % len(call.inputs[0]) for one in axes]:
            raise RefusalError(
                "softmax divides by the sum over the channels, which copies would change",
                "Widen a layer that is mixed by another before it reaches the softmax.",
            )
        return super().spread(call, mapped)


class DropoutRule(ElementwiseRule):
    """Passes a map through dropout, unless its noise shape fixes the number of channels."""

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the same map on the other side."""
        noise = getattr(call.layer, "noise_shape", None)
        if noise is not None and noise[mapped.axis] not in (None, 1):
            raise RefusalError(
                "its noise_shape fixes the number of channels", "Leave that entry None."
            )
        return super().spread(call, mapped)


class RescalingRule(ElementwiseRule):
    """Passes a map through a rescaling by numbers, not by a list with one entry a channel."""

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the same map on the other side."""
        if np.size(call.layer.scale) > 1 or np.size(call.layer.offset) > 1:
            raise RefusalError("it rescales by one number a channel", "Use BatchNormalization.")
        return super().spread(call, mapped)


_MIXING = (
    keras.activations.softmax,
    keras.activations.log_softmax,
    keras.activations.glu,
    keras.activations.sparsemax,
)


def require_elementwise(activation: Any) -> None:
    """Refuse an activation that mixes channels.

    Args:
        activation: The function; Keras's own are known, others are tried on a small array.

    Raises:
        Obstacle: Where an output depends on another channel.
    """
    if activation is None or isinstance(activation, keras.layers.Layer):
        inner = getattr(activation, "activation", None)
        if activation is not None and not isinstance(activation, _PLAIN) and inner is None:
            raise RefusalError(f"its activation is the layer {type(activation).__name__}")
        return
    name = getattr(activation, "__name__", repr(activation))
    mixes = activation in _MIXING
    known = getattr(keras.activations, name, None) is activation
    if not mixes and not known:
        # Doubled channels give doubled outputs exactly where no channel sees another.
        row = np.linspace(-2.0, 2.0, 30, dtype="float32").reshape(2, 3, 5)
        single = _applied(activation, row)
        double = _applied(activation, np.concatenate([row, row[..., :2]], axis=-1))
        expected = np.concatenate([single, single[..., :2]], axis=-1)
        mixes = double.shape != expected.shape or not np.allclose(double, expected, atol=1e-6)
    if mixes:
        raise RefusalError(
            f"its activation '{name}' mixes the channels, so copies would change the result",
            "Widen a layer with an elementwise activation such as ReLU.",
        )


def _applied(activation: Any, values: Any) -> Any:
    return keras.ops.convert_to_numpy(activation(keras.ops.convert_to_tensor(values)))


_PLAIN = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Activation)

for _layer in (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
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
