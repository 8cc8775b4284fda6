"""Wide residual networks."""

from typing import Any

import keras

from keras_qan.models.seeded import SeededLayers

_GROUP_CHANNELS = (16, 32, 64)


def wide_residual_network(
    shape: tuple[int, ...], num_classes: int, layers: SeededLayers, *, depth: int, width: int
) -> keras.Model:
    """Return the wide residual network WRN-depth-width of Zagoruyko & Komodakis (2016).

    A 3×3 convolution of 16 channels; three groups of n = (depth - 4) / 6 basic blocks with 16, 32
    and 64 times `width` channels (their Table 1), the second and third group halving the image in
    their first block; batch normalisation, rectifier, average over the image, logits. Dropout,
    which the paper tries as an option, is not built.

    Args:
        shape: (height, width, channels) of one input.
        num_classes: number of logits.
        layers: makes the layers with their initial weights.
        depth: 6·n + 4.
        width: k, at least 1.

    Example:
        >>> net = wide_residual_network((8, 8, 1), 10, SeededLayers(0), depth=10, width=1)
        >>> net.name
        'wrn-10-1'
    """
    inputs = keras.Input(shape, name="inputs")
    x = layers.conv(16, 3, use_bias=False, initializer=layers.he_fan_out(), name="conv_1")(inputs)
    for group, channels in enumerate(_GROUP_CHANNELS, start=1):
        for block in range(1, (depth - 4) // 6 + 1):
            halves = group > 1 and block == 1
            x = _basic_block(
                x, channels * width, 2 if halves else 1, layers, f"group_{group}_block_{block}"
            )
    x = _normalised(x, "last")
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, layers.logits(num_classes)(x), name=f"wrn-{depth}-{width}")


def _basic_block(x: Any, channels: int, strides: int, layers: SeededLayers, name: str) -> Any:
    """Normalise, rectify, convolve, twice; added to the input, projected where it has to be."""
    changes = x.shape[-1] != channels
    activated = _normalised(x, f"{name}_1")
    y = _convolution(activated, channels, 3, strides, layers, f"{name}_conv_1")
    y = _normalised(y, f"{name}_2")
    y = _convolution(y, channels, 3, 1, layers, f"{name}_conv_2")
    # As in the authors' code, a projection starts from the activated input.
    shortcut = (
        _convolution(activated, channels, 1, strides, layers, f"{name}_project") if changes else x
    )
    return keras.layers.Add(name=f"{name}_add")([shortcut, y])


def _normalised(x: Any, name: str) -> Any:
    # Momentum and epsilon of the authors' Torch code; Keras counts the momentum the other way.
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _convolution(
    x: Any, channels: int, size: int, strides: int, layers: SeededLayers, name: str
) -> Any:
    return layers.conv(
        channels,
        size,
        strides=strides,
        use_bias=False,
        initializer=layers.he_fan_out(),
        name=name,
    )(x)
