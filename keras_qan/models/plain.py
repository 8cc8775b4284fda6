"""Plain feed-forward networks.

Networks of given widths, whose layers have names by which they grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

from keras_qan.models.seeded import SeededLayers

if TYPE_CHECKING:
    import keras


def mlp(shape: tuple[int, ...], num_classes: int, layers: SeededLayers) -> keras.Model:
    """Returns a network of two hidden layers of 128 rectified units."""
    import keras

    inputs = keras.Input(shape, name="inputs")
    x = keras.layers.Flatten(name="flatten")(inputs)
    x = layers.dense(128, activation="relu", name="hidden_1")(x)
    x = layers.dense(128, activation="relu", name="hidden_2")(x)
    return keras.Model(inputs, layers.logits(num_classes)(x), name="mlp")


def cnn(shape: tuple[int, ...], num_classes: int, layers: SeededLayers) -> keras.Model:
    """Returns a network of two convolutions (16, 32) and a hidden layer of 64."""
    import keras

    inputs = keras.Input(shape, name="inputs")
    x = layers.conv(16, 3, activation="relu", name="conv_1")(inputs)
    x = keras.layers.MaxPooling2D(name="pool_1")(x)
    x = layers.conv(32, 3, activation="relu", name="conv_2")(x)
    x = keras.layers.MaxPooling2D(name="pool_2")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(64, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.logits(num_classes)(x), name="cnn")


def cnn_bn(shape: tuple[int, ...], num_classes: int, layers: SeededLayers) -> keras.Model:
    """Returns `cnn` with batch normalisation between each convolution and its rectifier."""
    import keras

    inputs = keras.Input(shape, name="inputs")
    x = inputs
    for number, filters in enumerate((16, 32), start=1):
        # No bias: the normalisation would take it away again.
        x = layers.conv(filters, 3, use_bias=False, name=f"conv_{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool_{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(64, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.logits(num_classes)(x), name="cnn_bn")


def layer_names(widths: Sequence[int]) -> list[str]:
    """The names of the layers with these widths: convolutions, then the hidden layer.

    Example:
      >>> layer_names([16, 32, 64])
      ['conv_1', 'conv_2', 'hidden']
    """
    return [*(f"conv_{number}" for number in range(1, len(widths))), "hidden"]


def network(
    input_shape: tuple[int, ...], num_classes: int, widths: Sequence[int], seed: int
) -> keras.Model:
    """3×3 convolutions, each halved by max-pooling, a hidden layer, and logits; not compiled.

    With the widths 16, 32, 64 it is the student that `keras_qan.models` calls `cnn`; with one width
    it is a perceptron.

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits.
      widths: of the convolutions, and last of the hidden layer.
      seed: what the initial weights follow from.
    """
    layers = SeededLayers(seed)
    *names, hidden = layer_names(widths)
    x = inputs = keras.Input(input_shape, name="inputs")
    for number, (name, filters) in enumerate(zip(names, widths, strict=False), start=1):
        x = layers.conv(filters, 3, activation="relu", name=name)(x)
        x = keras.layers.MaxPooling2D(name=f"pool_{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(widths[-1], activation="relu", name=hidden)(x)
    return keras.Model(inputs, layers.logits(num_classes)(x), name="network")
