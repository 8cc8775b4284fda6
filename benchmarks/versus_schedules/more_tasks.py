"""Tasks of other kinds than `tasks`: recurrence, attention, dropout, residuals, wide layers.

Text is the source of Python's own standard library, so that nothing has to be fetched.
"""

from __future__ import annotations

import functools
import sysconfig
from pathlib import Path

import keras
import numpy as np
from saved import Arrays, saved
from tasks import ADAM_GRID, SGD_GRID, TASKS, Task, _images, _momentum

layers = keras.layers

#: Modules of the standard library whose source is learned, and those for validation.
LEARNED = (
    "argparse",
    "ast",
    "calendar",
    "configparser",
    "datetime",
    "difflib",
    "inspect",
    "tarfile",
)
HELD = ("optparse", "shutil", "zipfile", "textwrap")

#: Characters beside which every other one counts as the last.
ALPHABET = (
    "\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:;()[]{}=+-*/'\"#<>!@%&|"
)


@saved
def _text(length: int = 20, count: int = 8000) -> Arrays:
    """Pieces of source, and the character after each of theirs."""
    code = {character: number for number, character in enumerate(ALPHABET)}

    def pieces(names: tuple[str, ...], amount: int, seed: int) -> np.ndarray:
        folder = Path(sysconfig.get_paths()["stdlib"])
        text = "\n".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in names)
        codes = np.array([code.get(character, len(ALPHABET)) for character in text], np.int32)
        starts = np.random.default_rng(seed).integers(0, len(codes) - length - 1, amount)
        return codes[starts[:, np.newaxis] + np.arange(length + 1)]

    learned, held = pieces(LEARNED, count, 0), pieces(HELD, 500, 1)
    return Arrays(learned[:, :-1], learned[:, 1:], held[:, :-1], held[:, 1:])


@saved
def _small_images(name: str, count: int) -> Arrays:
    """Images of half the size, each pixel the mean of four."""
    whole = _images(name, count)

    def half(x: np.ndarray) -> np.ndarray:
        return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4.0

    return Arrays(half(whole.x), whole.y, half(whole.validation_x[:500]), whole.validation_y[:500])


@functools.cache
def _noisy_images() -> Arrays:
    """MNIST images of half the size with noise, and without it as targets."""
    clean = _small_images("mnist", 6000)
    rng = np.random.default_rng(5)

    def noisy(x: np.ndarray) -> np.ndarray:
        return (x + rng.normal(0.0, 0.3, x.shape)).astype(np.float32)

    return Arrays(noisy(clean.x), clean.x, noisy(clean.validation_x), clean.validation_x)


@functools.cache
def _friedman(count: int = 5000) -> Arrays:
    """Friedman's first function of ten uniform numbers, with noise; standardised targets."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(count + 1000, 10, noise=0.5, random_state=3)
    y = ((y - y.mean()) / y.std()).astype(np.float32)[:, np.newaxis]
    x = (x.astype(np.float32) - 0.5) * 3.46
    return Arrays(x[:count], y[:count], x[count:], y[count:])


def _recurrent(kind: str, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    size = len(ALPHABET) + 1
    inputs = keras.Input((20,), dtype="int32")
    x = layers.Embedding(size, 24, name="embedding")(inputs)
    layer = {"lstm": layers.LSTM, "gru": layers.GRU}[kind]
    x = layer(64, return_sequences=True, name="recurrent")(x)
    return keras.Model(inputs, layers.Dense(size, name="logits")(x))


def _block(
    x: keras.KerasTensor, name: str, heads: int = 4, causal: bool = True
) -> keras.KerasTensor:
    """One block of a transformer, normalised before each part."""
    width = x.shape[-1]
    y = layers.LayerNormalization(name=f"{name}_norm_1")(x)
    attention = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")
    x = x + attention(y, y, use_causal_mask=causal)
    y = layers.LayerNormalization(name=f"{name}_norm_2")(x)
    y = layers.Dense(2 * width, activation="gelu", name=f"{name}_up")(y)
    return x + layers.Dense(width, name=f"{name}_down")(y)


class Positions(layers.Layer):
    """Adds a learned vector for each place."""

    def build(self, shape: tuple[int, ...]) -> None:
        """Make the vectors."""
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal", name="table")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Add them."""
        return x + self.table


def _transformer(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    size = len(ALPHABET) + 1
    inputs = keras.Input((20,), dtype="int32")
    x = Positions(name="places")(layers.Embedding(size, 32, name="embedding")(inputs))
    for number in range(2):
        x = _block(x, f"block_{number}")
    x = layers.LayerNormalization(name="norm")(x)
    return keras.Model(inputs, layers.Dense(size, name="logits")(x))


def _vit(seed: int) -> keras.Model:
    """Patches of 4 by 4 of images of 16 by 16."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(48, 4, strides=4, name="patches")(inputs)
    x = Positions(name="places")(layers.Reshape((16, 48), name="sequence")(x))
    for number in range(2):
        x = _block(x, f"block_{number}", causal=False)
    x = layers.GlobalAveragePooling1D(name="pool")(layers.LayerNormalization(name="norm")(x))
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def _resnet(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="stem")(inputs)
    for number, filters in enumerate((12, 24, 48)):
        strides = 1 if number == 0 else 2
        y = layers.BatchNormalization(name=f"norm_{number}_1")(x)
        y = layers.ReLU(name=f"relu_{number}_1")(y)
        short = layers.Conv2D(filters, 1, strides=strides, name=f"short_{number}")(y)
        y = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False, name=f"conv_{number}_1"
        )(y)
        y = layers.ReLU(name=f"relu_{number}_2")(
            layers.BatchNormalization(name=f"norm_{number}_2")(y)
        )
        x = short + layers.Conv2D(filters, 3, padding="same", name=f"conv_{number}_2")(y)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def _dropout_cnn(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((16, 16, 3))
    for number, filters in enumerate((16, 32)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = layers.Dropout(0.2, name=f"drop_{number}")(
            layers.MaxPooling2D(name=f"pool_{number}")(x)
        )
    x = layers.Dense(64, activation="relu", name="hidden")(layers.Flatten(name="flatten")(x))
    x = layers.Dropout(0.4, name="drop")(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def _unet(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)

    def conv(filters: int, name: str) -> keras.Layer:
        return layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)

    inputs = keras.Input((14, 14, 1))
    top = conv(12, "down_0")(inputs)
    x = conv(24, "down_1")(layers.MaxPooling2D(name="pool")(top))
    x = layers.UpSampling2D(name="up")(conv(24, "middle")(x))
    x = conv(12, "up_0")(layers.Concatenate(name="skip")([top, x]))
    return keras.Model(inputs, layers.Conv2D(1, 1, name="image")(x))


def _wide(shape: tuple[int, ...], width: int, depth: int, outputs: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(shape)
    x = layers.Flatten(name="flatten")(inputs)
    for number in range(depth):
        x = layers.Dense(width, activation="relu", name=f"hidden_{number}")(x)
    return keras.Model(inputs, layers.Dense(outputs, name="logits")(x))


MORE_TASKS = {
    "text-lstm": Task(
        _text, functools.partial(_recurrent, "lstm"),
        keras.optimizers.RMSprop, ADAM_GRID, 32, 480,
    ),
    "text-gru": Task(
        _text, functools.partial(_recurrent, "gru"), keras.optimizers.Adam, ADAM_GRID, 32, 480,
    ),
    "text-transformer": Task(
        _text, _transformer, keras.optimizers.AdamW, ADAM_GRID, 32, 480,
    ),
    "cifar-vit": Task(
        functools.partial(_small_images, "cifar10", 8000), _vit,
        keras.optimizers.AdamW, ADAM_GRID, 32, 480,
    ),
    "cifar-resnet": Task(
        functools.partial(_small_images, "cifar10", 8000), _resnet, _momentum, SGD_GRID, 32, 480,
    ),
    "cifar-cnn-dropout": Task(
        functools.partial(_small_images, "cifar10", 8000), _dropout_cnn,
        keras.optimizers.Adam, ADAM_GRID, 32, 480,
    ),
    "mnist-denoise": Task(
        _noisy_images, _unet, keras.optimizers.Adam, ADAM_GRID, 32, 360, "mean_squared_error",
    ),
    "mnist-wide": Task(
        functools.partial(_small_images, "mnist", 6000),
        functools.partial(_wide, (14, 14, 1), 512, 2, 10),
        keras.optimizers.Adam, ADAM_GRID, 64, 480,
    ),
    "friedman-mlp": Task(
        _friedman, functools.partial(_wide, (10,), 64, 2, 1),
        keras.optimizers.Adam, ADAM_GRID, 64, 480, "mean_squared_error",
    ),
    "friedman-sgd": Task(
        _friedman, functools.partial(_wide, (10,), 128, 3, 1),
        keras.optimizers.SGD, SGD_GRID, 64, 480, "mean_squared_error",
    ),
}  # fmt: skip

#: Tasks on which the rule's numbers were chosen; the others judge them.
TUNED_ON = ("text-lstm", "cifar-resnet", "cifar-cnn-dropout", "friedman-mlp")

ALL_TASKS = TASKS | MORE_TASKS

#: Keras's own default rates of the tasks' optimizers.
DEFAULT_RATES = {name: 0.01 if task.grid is SGD_GRID else 0.001 for name, task in ALL_TASKS.items()}
