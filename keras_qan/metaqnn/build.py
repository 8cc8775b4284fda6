"""Keras models of architectures."""

from __future__ import annotations

from typing import Any

import keras

from keras_qan.metaqnn.space import Architecture, Layer, format_architecture
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.models.seeded import SeededLayers


def build(
    state_space: StateSpace,
    layers: Architecture,
    *,
    seed: int = 0,
    weight_decay: float = 0.0,
    dropout: bool = False,
) -> keras.Model:
    """Build the network of an architecture, not compiled, with logits as outputs.

    Layer i of the architecture is the Keras layer `layer_<i>` (a residual block `layer_<i>_first`,
    `layer_<i>_second` and, where the width changes, `layer_<i>_shortcut`), the end `logits`. Global
    average pooling is followed by a fully connected layer: the paper's 1×1 convolution and average,
    in the other order, which is the same as both are linear.

    Args:
      state_space: of the layers, the input and the classes.
      layers: an architecture that ends.
      seed: of the initial weights. Defaults to 0.
      weight_decay: λ of a penalty λ/2 · Σ w² on kernels. Defaults to 0.
      dropout: whether every second layer and every fully connected one is followed by dropout, the
        i-th of n with probability i / (2n) (arXiv:1611.02167, section 5). Defaults to False.

    Returns:
      A model from float32 [B, height, width, channels] to float32 [B, classes].

    Raises:
      ValueError: the architecture is not legal, or has no end.
    """
    if not state_space.state_after(layers).ends:
        raise ValueError(
            f"Received {format_architecture(layers)}, which has no end; expected GAP or SM for its "
            "last layer."
        )
    inputs = keras.Input(state_space.input_shape, name="inputs")
    builder = _LayerBuilder(SeededLayers(seed, weight_decay), state_space.space.batch_norm)
    rates = _dropout_rates(layers) if dropout else {}
    x = inputs
    for number, layer in enumerate(layers, start=1):
        if layer.ends:
            x = builder.add_end(x, layer, state_space.num_classes)
        else:
            x = builder.add(x, layer, f"layer_{number}")
        if number in rates:
            name = f"dropout_{number}"
            x = keras.layers.Dropout(rates[number], seed=seed + number, name=name)(x)
    return keras.Model(inputs, x, name="metaqnn")


class _LayerBuilder:
    """Adds the Keras layers of a layer of an architecture."""

    def __init__(self, seeded: SeededLayers, batch_norm: bool) -> None:
        self._seeded, self._batch_norm = seeded, batch_norm

    def add(self, x: Any, layer: Layer, name: str) -> Any:
        if layer.kind == "C":
            return self._convolve(x, layer.width, layer.size, name)
        if layer.kind == "R":
            return self._add_block(x, layer, name)
        if layer.kind == "P":
            return keras.layers.MaxPooling2D(layer.size, layer.stride, "valid", name=name)(x)
        if len(x.shape) > 2:
            x = keras.layers.Flatten(name="flatten")(x)
        return self._seeded.dense(layer.width, activation="relu", name=name)(x)

    def add_end(self, x: Any, layer: Layer, num_classes: int) -> Any:
        if len(x.shape) > 2:
            pooling = keras.layers.GlobalAveragePooling2D if layer.kind == "GAP" else None
            x = (pooling or keras.layers.Flatten)(name="flatten")(x)
        return self._seeded.logits(num_classes)(x)

    def _add_block(self, x: Any, layer: Layer, name: str) -> Any:
        y = self._convolve(x, layer.width, layer.size, f"{name}_first")
        y = self._convolve(y, layer.width, layer.size, f"{name}_second", rectify=False)
        if x.shape[-1] != layer.width:
            x = self._convolve(x, layer.width, 1, f"{name}_shortcut", rectify=False)
        return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, y]))

    def _convolve(self, x: Any, width: int, size: int, name: str, *, rectify: bool = True) -> Any:
        if not self._batch_norm:
            activation = "relu" if rectify else None
            return self._seeded.conv(width, size, activation=activation, name=name)(x)
        x = self._seeded.conv(width, size, use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x) if rectify else x


def _dropout_rates(layers: Architecture) -> dict[int, float]:
    """The rate of the dropout behind a layer, by the layer's number."""
    hidden = [layer for layer in layers if not layer.ends]
    after = [
        number
        for number, layer in enumerate(hidden, start=1)
        if layer.kind == "FC" or number % 2 == 0
    ]
    return {number: i / (2 * len(after)) for i, number in enumerate(after, start=1)}
