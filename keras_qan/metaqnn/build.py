"""From an architecture to a Keras model."""

from __future__ import annotations

from typing import Any

import keras

from keras_qan.metaqnn.space import Architecture, Layer, text_of
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.models.seeded import SeededLayers


def build(
    grammar: StateSpace,
    layers: Architecture,
    *,
    seed: int = 0,
    weight_decay: float = 0.0,
    dropout: bool = False,
) -> keras.Model:
    """Builds the network of an architecture, not compiled, with logits for output.

    Layer i of the architecture is the Keras layer `layer_<i>` (a residual block `layer_<i>_first`,
    `layer_<i>_second` and, where the width changes, `layer_<i>_shortcut`), the end `logits`. Global
    average pooling is followed by a fully connected layer: the paper's 1×1 convolution and average,
    in the other order, which is the same as both are linear.

    Args:
      grammar: of the space, the input and the classes.
      layers: an architecture that ends.
      seed: what the initial weights are drawn from.
      weight_decay: λ of a penalty λ/2 · Σ w² on kernels.
      dropout: whether every second layer and every fully connected one is followed by dropout, the
        i-th of n with probability i / (2n) (arXiv:1611.02167, section 5).

    Returns:
      A model from float32 [B, height, width, channels] to float32 [B, classes].

    Raises:
      ValueError: the architecture is not legal, or has no end.
    """
    if not grammar.after(layers).ends:
        raise ValueError(
            f"Received {text_of(layers)}, which has no end; expected GAP or SM for its last layer."
        )
    inputs = keras.Input(grammar.input_shape, name="inputs")
    maker = _Maker(SeededLayers(seed, weight_decay), grammar.space.batch_norm)
    places = _dropout_places(layers) if dropout else {}
    x = inputs
    for number, layer in enumerate(layers, start=1):
        if layer.ends:
            x = _end(x, layer, maker, grammar.num_classes)
        else:
            x = maker.layer(x, layer, f"layer_{number}")
        if number in places:
            rate = places[number]
            drop = keras.layers.Dropout(rate, seed=seed + number, name=f"dropout_{number}")
            x = drop(x)
    return keras.Model(inputs, x, name="metaqnn")


class _Maker:
    """Makes the Keras layers of one layer of an architecture."""

    def __init__(self, seeded: SeededLayers, batch_norm: bool) -> None:
        self.seeded, self._batch_norm = seeded, batch_norm

    def layer(self, x: Any, layer: Layer, name: str) -> Any:
        if layer.kind == "C":
            return self._convolved(x, layer.width, layer.size, name)
        if layer.kind == "R":
            return self._residual(x, layer, name)
        if layer.kind == "P":
            return keras.layers.MaxPooling2D(layer.size, layer.stride, "valid", name=name)(x)
        if len(x.shape) > 2:
            x = keras.layers.Flatten(name="flatten")(x)
        return self.seeded.dense(layer.width, activation="relu", name=name)(x)

    def _residual(self, x: Any, layer: Layer, name: str) -> Any:
        y = self._convolved(x, layer.width, layer.size, f"{name}_first")
        y = self._convolved(y, layer.width, layer.size, f"{name}_second", rectify=False)
        if x.shape[-1] != layer.width:
            x = self._convolved(x, layer.width, 1, f"{name}_shortcut", rectify=False)
        return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, y]))

    def _convolved(self, x: Any, width: int, size: int, name: str, *, rectify: bool = True) -> Any:
        if not self._batch_norm:
            activation = "relu" if rectify else None
            return self.seeded.conv(width, size, activation=activation, name=name)(x)
        x = self.seeded.conv(width, size, use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x) if rectify else x


def _end(x: Any, layer: Layer, maker: _Maker, num_classes: int) -> Any:
    if len(x.shape) > 2:
        pooling = keras.layers.GlobalAveragePooling2D if layer.kind == "GAP" else None
        x = (pooling or keras.layers.Flatten)(name="flatten")(x)
    return maker.seeded.logits(num_classes)(x)


def _dropout_places(layers: Architecture) -> dict[int, float]:
    """After which layers dropout stands, and its rate."""
    hidden = [layer for layer in layers if not layer.ends]
    after = [
        number
        for number, layer in enumerate(hidden, start=1)
        if layer.kind == "FC" or number % 2 == 0
    ]
    return {number: i / (2 * len(after)) for i, number in enumerate(after, start=1)}
