"""Blocks that `deepen` inserts, and the initial values that make each an identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from net2net.graph import Shape
from net2net.rebuild import copy_of_layer
from net2net.rules.convolution import channel_axis


@dataclass(frozen=True)
class Block:
    """Layers to insert, one after another.

    Args:
        layers: The layers.
        initialize: Sets their values, once they are built.
    """

    layers: list[Any]
    initialize: Callable[[], None]


_CONVOLUTIONS = {
    3: keras.layers.Conv1D,
    4: keras.layers.Conv2D,
    5: keras.layers.Conv3D,
}
_SUPPORTED = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)


def can_deepen(layer: Any) -> bool:
    """Return whether a block can follow layers of this class."""
    return type(layer) in _SUPPORTED


def is_linear(activation: Any) -> bool:
    """Return whether an activation is the identity."""
    return activation is None or activation is keras.activations.linear


def is_idempotent(activation: Any) -> bool:
    """Return whether φ(φ(x)) = φ(x): linear, ReLU and ReLU6."""
    if isinstance(activation, keras.layers.ReLU):
        return not activation.negative_slope and not activation.threshold
    if isinstance(activation, keras.layers.Activation):
        activation = activation.activation
    return is_linear(activation) or activation in (keras.activations.relu, keras.activations.relu6)


def identity_block(
    layer: Any,
    activation: Any,
    shape: Shape,
    name: str,
    statistics: tuple[Any, Any] | None = None,
) -> Block:
    """Return a block that computes φ(x · I), with BatchNormalization before φ if asked.

    Args:
        layer: The layer that is deepened, whose window and settings it takes.
        activation: φ, a function, an activation layer or None; φ(φ(x)) = φ(x).
        shape: Shape of the block's input.
        name: Name of the first layer.
        statistics: Mean and variance of every channel of the input, for a BatchNormalization
            with β = μ, γ = √(σ² + ε), which undoes its own normalisation. Defaults to None: the
            block has none.
    """
    inner = None if statistics or isinstance(activation, keras.layers.Layer) else activation
    first = _mixing_layer(layer, shape, name, inner)
    layers = [first]
    normalization = None
    if statistics is not None:
        normalization = _normalization_layer(layer, shape, name)
        layers.append(normalization)
    separate = statistics is not None and not is_linear(activation)
    if separate or isinstance(activation, keras.layers.Layer):
        layers.append(_activation_layer(activation, f"{name}_activation", layer))

    def initialize() -> None:
        first.kernel.assign(_identity_kernel(first))
        if normalization is not None and statistics is not None:
            mean, variance = statistics
            normalization.beta.assign(mean)
            normalization.gamma.assign(np.sqrt(variance + normalization.epsilon))
            normalization.moving_mean.assign(mean)
            normalization.moving_variance.assign(variance)

    return Block(layers, initialize)


def residual_block(
    layer: Any, activation: Any, shape: Shape, name: str, batch_norm: bool, seed: int
) -> Block:
    """Return a block that computes x + W₂ φ(W₁ x), where W₂ is zero and W₁ is random.

    It is one nested model, so that a Sequential can hold it too.

    Args:
        layer: The layer that is deepened, whose window and settings it takes.
        activation: φ, a function or an activation layer.
        shape: Shape of the block's input.
        name: Name of the nested model.
        batch_norm: Whether there is a BatchNormalization before φ; W₂ = 0 hides it at first.
        seed: Seed of W₁.
    """
    inputs = keras.Input(batch_shape=shape, dtype=layer.compute_dtype, name=f"{name}_input")
    start = keras.initializers.GlorotUniform(seed=seed)
    x = _mixing_layer(layer, shape, f"{name}_inner", None, start)(inputs)
    if batch_norm:
        x = _normalization_layer(layer, shape, name)(x)
    x = _activation_layer(activation, f"{name}_activation", layer)(x)
    x = _mixing_layer(layer, shape, f"{name}_outer", None, keras.initializers.Zeros())(x)
    x = keras.layers.Add(dtype=_policy(layer), name=f"{name}_add")([inputs, x])
    return Block([keras.Model(inputs, x, name=name)], lambda: None)


def _mixing_layer(
    layer: Any, shape: Shape, name: str, activation: Any, initializer: Any = None
) -> Any:
    """Return a layer with as many units as its input has channels, by default all zero."""
    settings = {
        "activation": activation,
        "use_bias": layer.use_bias,
        "kernel_initializer": initializer or keras.initializers.Zeros(),
        "dtype": _policy(layer),
        "name": name,
    }
    if isinstance(layer, keras.layers.Dense):
        return keras.layers.Dense(shape[-1], **settings)
    return _CONVOLUTIONS[len(shape)](
        shape[channel_axis(layer, len(shape))],
        layer.kernel_size,
        # A causal layer stays causal; all others keep their places by padding.
        padding="causal" if layer.padding == "causal" else "same",
        data_format=layer.data_format,
        **settings,
    )


def _policy(layer: Any) -> Any:
    """Return a layer's dtype policy, without quantisation, which would round what passes."""
    name = getattr(layer.dtype_policy, "_source_name", None)
    return keras.DTypePolicy(name) if name else layer.dtype_policy


def _normalization_layer(layer: Any, shape: Shape, name: str) -> Any:
    axis = channel_axis(layer, len(shape)) if len(shape) > 2 else -1
    return keras.layers.BatchNormalization(axis=axis, dtype=_policy(layer), name=f"{name}_bn")


def _activation_layer(activation: Any, name: str, layer: Any) -> Any:
    if isinstance(activation, keras.layers.Layer):
        made = copy_of_layer(activation)
        made.name = name
        return made
    return keras.layers.Activation(activation, dtype=_policy(layer), name=name)


def _identity_kernel(layer: Any) -> Any:
    """Return the kernel that passes every channel on, at the centre of the padded window."""
    kernel = np.zeros(tuple(layer.kernel.shape), dtype=str(layer.kernel.dtype))
    if isinstance(layer, keras.layers.Dense):
        window: tuple[int, ...] = ()
    elif layer.padding == "causal":
        window = tuple(size - 1 for size in layer.kernel_size)
    else:
        window = tuple((size - 1) // 2 for size in layer.kernel_size)
    kernel[window] = np.eye(kernel.shape[-1])
    return kernel
