"""Plain feed-forward networks, whose layers have names by which they grow."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_qan.models.seeded import SeededLayers


def mlp(shape: tuple[int, ...], num_classes: int, layers: SeededLayers) -> keras.Model:
    """Return a network of two hidden layers of 128 rectified units."""
    inputs = keras.Input(shape, name="inputs")
    x = keras.layers.Flatten(name="flatten")(inputs)
    x = layers.dense(128, activation="relu", name="hidden_1")(x)
    x = layers.dense(128, activation="relu", name="hidden_2")(x)
    return keras.Model(inputs, layers.logits(num_classes)(x), name="mlp")


def cnn(shape: tuple[int, ...], num_classes: int, layers: SeededLayers) -> keras.Model:
    """Return a network of two convolutions (16, 32) and a hidden layer of 64."""
    return _convolutional("cnn", shape, num_classes, [16, 32, 64], layers)


def cnn_bn(shape: tuple[int, ...], num_classes: int, layers: SeededLayers) -> keras.Model:
    """Return `cnn` with batch normalisation between each convolution and its rectifier."""
    return _convolutional("cnn_bn", shape, num_classes, [16, 32, 64], layers, normalised=True)


def network(
    input_shape: tuple[int, ...], num_classes: int, widths: Sequence[int], seed: int
) -> keras.Model:
    """Return `cnn` with other widths, not compiled.

    Args:
      input_shape: (height, width, channels).
      num_classes: number of logits.
      widths: of the convolutions, any number of them, and last of the hidden layer.
      seed: seed of the initial weights.
    """
    return _convolutional("network", input_shape, num_classes, widths, SeededLayers(seed))


def layer_names(widths: Sequence[int]) -> list[str]:
    """Return the names of the layers with these widths: convolutions, then the hidden layer.

    Example:
      >>> layer_names([16, 32, 64])
      ['conv_1', 'conv_2', 'hidden']
    """
    return [*(f"conv_{number}" for number in range(1, len(widths))), "hidden"]


def _convolutional(
    name: str,
    shape: tuple[int, ...],
    num_classes: int,
    widths: Sequence[int],
    layers: SeededLayers,
    *,
    normalised: bool = False,
) -> keras.Model:
    """3×3 convolutions, each halved by max-pooling, a hidden layer, and logits."""
    *filters, hidden = widths
    x = inputs = keras.Input(shape, name="inputs")
    for number, width in enumerate(filters, start=1):
        if normalised:
            # No bias: the normalisation would take it away again.
            x = layers.conv(width, 3, use_bias=False, name=f"conv_{number}")(x)
            x = keras.layers.BatchNormalization(name=f"norm_{number}")(x)
            x = keras.layers.ReLU(name=f"relu_{number}")(x)
        else:
            x = layers.conv(width, 3, activation="relu", name=f"conv_{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool_{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(hidden, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.logits(num_classes)(x), name=name)
