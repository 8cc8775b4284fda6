"""The blocks that `deepen` puts into a model, and the values that make them pass things on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from net2net.graph import Shape
from net2net.rules.convolution import channel_axis


@dataclass(frozen=True)
class Block:
    """Layers to insert, one after another.

    Args:
        layers: The layers.
        settle: Gives them their values, once they are built.
    """

    layers: list[Any]
    settle: Callable[[], None]


_CONVOLUTIONS = {
    3: keras.layers.Conv1D,
    4: keras.layers.Conv2D,
    5: keras.layers.Conv3D,
}
_DEEPENED = (
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
    """Return whether a block is known that can follow a layer of this class."""
    return type(layer) in _DEEPENED


def is_linear(activation: Any) -> bool:
    """Return whether an activation passes everything on."""
    return activation is None or activation is keras.activations.linear


def is_repeatable(activation: Any) -> bool:
    """Return whether φ(φ(x)) = φ(x), which holds for linear, ReLU and ReLU6."""
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
        shape: Shape of what goes in.
        name: Name of the first layer.
        statistics: Mean and variance of every channel of what goes in; the BatchNormalization
            then has β = μ, γ = √(σ² + ε) and undoes its own normalisation.

    Returns:
        The block.
    """
    inner = None if statistics or isinstance(activation, keras.layers.Layer) else activation
    first = _mixing(layer, shape, name, inner)
    layers = [first]
    normalization = None
    if statistics is not None:
        axis = channel_axis(layer, len(shape)) if len(shape) > 2 else -1
        normalization = keras.layers.BatchNormalization(
            axis=axis, dtype=layer.dtype_policy, name=f"{name}_bn"
        )
        layers.append(normalization)
    if isinstance(activation, keras.layers.Layer):
        layers.append(_activation(activation, f"{name}_activation", layer))
    elif statistics is not None and not is_linear(activation):
        layers.append(
            keras.layers.Activation(activation, dtype=layer.dtype_policy, name=f"{name}_activation")
        )

    def settle() -> None:
        first.kernel.assign(_identity(first))
        if normalization is not None and statistics is not None:
            mean, variance = statistics
            normalization.beta.assign(mean)
            normalization.gamma.assign(np.sqrt(variance + normalization.epsilon))
            normalization.moving_mean.assign(mean)
            normalization.moving_variance.assign(variance)

    return Block(layers, settle)


def residual_block(
    layer: Any, activation: Any, shape: Shape, name: str, batch_norm: bool, seed: int
) -> Block:
    """Return a block that computes x + W₂ φ(W₁ x), where W₂ is zero and W₁ is drawn.

    It is one nested model, so that it can stand in a Sequential too.

    Args:
        layer: The layer that is deepened, whose window and settings it takes.
        activation: φ, a function or an activation layer.
        shape: Shape of what goes in.
        name: Name of the nested model.
        batch_norm: Whether a BatchNormalization stands before φ; W₂ = 0 hides it at first.
        seed: Seed of W₁.

    Returns:
        The block.
    """
    inputs = keras.Input(batch_shape=shape, dtype=layer.compute_dtype, name=f"{name}_input")
    start = keras.initializers.GlorotUniform(seed=seed)
    x = _mixing(layer, shape, f"{name}_inner", None, start)(inputs)
    if batch_norm:
        axis = channel_axis(layer, len(shape)) if len(shape) > 2 else -1
        x = keras.layers.BatchNormalization(axis=axis, dtype=layer.dtype_policy, name=f"{name}_bn")(
            x
        )
    x = _activation(activation, f"{name}_activation", layer)(x)
    x = _mixing(layer, shape, f"{name}_outer", None, keras.initializers.Zeros())(x)
    x = keras.layers.Add(dtype=layer.dtype_policy, name=f"{name}_add")([inputs, x])
    return Block([keras.Model(inputs, x, name=name)], lambda: None)


def _mixing(layer: Any, shape: Shape, name: str, activation: Any, initializer: Any = None) -> Any:
    """Return a layer with as many units as go in; it starts at zero unless told otherwise."""
    settings = {
        "activation": activation,
        "use_bias": layer.use_bias,
        "kernel_initializer": initializer or keras.initializers.Zeros(),
        "dtype": layer.dtype_policy,
        "name": name,
    }
    if isinstance(layer, keras.layers.Dense):
        return keras.layers.Dense(shape[-1], **settings)
    return _CONVOLUTIONS[len(shape)](
        shape[channel_axis(layer, len(shape))],
        layer.kernel_size,
        # A causal layer stays causal; all others keep the places by padding.
        padding="causal" if layer.padding == "causal" else "same",
        data_format=layer.data_format,
        **settings,
    )


def _activation(activation: Any, name: str, layer: Any) -> Any:
    if isinstance(activation, keras.layers.Layer):
        return type(activation).from_config({**activation.get_config(), "name": name})
    return keras.layers.Activation(activation, dtype=layer.dtype_policy, name=name)


def _identity(layer: Any) -> Any:
    """Return the kernel that passes every channel on, at the place that padding calls centre."""
    kernel = np.zeros(tuple(layer.kernel.shape), dtype=str(layer.kernel.dtype))
    if isinstance(layer, keras.layers.Dense):
        window: tuple[int, ...] = ()
    elif layer.padding == "causal":
        window = tuple(size - 1 for size in layer.kernel_size)
    else:
        window = tuple((size - 1) // 2 for size in layer.kernel_size)
    kernel[window] = np.eye(kernel.shape[-1])
    return kernel
