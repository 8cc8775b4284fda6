"""Evaluation tasks: data sets and networks that no shipped policy was trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from saved import Arrays, saved

from keras_qan import data
from keras_qan.models.seeded import SeededLayers

#: Rates that schedules are tuned over: seven, a factor of about three apart.
SGD_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
ADAM_GRID = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


@dataclass(frozen=True)
class Task:
    """A data set, a network and an optimizer.

    Attributes:
      load: where the examples come from.
      network: seed → model, not compiled.
      optimizer: rate → Keras optimizer.
      grid: the rates that schedules are tuned over.
      batch_size: examples in a batch.
      num_steps: the length of a training.
      loss: by Keras's name.
    """

    load: Callable[[], Arrays]
    network: Callable[[int], keras.Model]
    optimizer: Callable[[float], keras.optimizers.Optimizer]
    grid: tuple[float, ...]
    batch_size: int
    num_steps: int
    loss: str = "sparse_categorical_crossentropy"

    def build(
        self, seed: int, rate: float, optimizer: keras.optimizers.Optimizer | None = None
    ) -> keras.Model:
        """A fresh compiled student."""
        model = self.network(seed)
        loss = keras.losses.get(self.loss)
        if self.loss == "sparse_categorical_crossentropy":
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer or self.optimizer(rate), loss)
        return model


@saved
def _images(name: str, count: int) -> Arrays:
    """The first training images of a stratified subset, and 2,000 for validation."""
    splits = data.load(name, validation_fraction=1 / 6, seed=7)
    rng = np.random.default_rng(7)
    train = rng.permutation(len(splits.train.x))[:count]
    held = rng.permutation(len(splits.validation.x))[:2000]
    return Arrays(
        splits.train.x[train].astype(np.float32),
        splits.train.y[train].astype(np.int32),
        splits.validation.x[held].astype(np.float32),
        splits.validation.y[held].astype(np.int32),
    )


def _reconstruction() -> Arrays:
    """MNIST images as their own targets."""
    images = _images("mnist", 10_000)
    flat, held = (part.reshape(len(part), -1) for part in (images.x, images.validation_x))
    return Arrays(flat, flat, held, held)


@functools.cache
def _table(name: str) -> Arrays:
    """One of scikit-learn's tables, standardised, a third of it for validation."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    rng = np.random.default_rng(7)
    order = rng.permutation(len(x))
    held, train = order[: len(x) // 3], order[len(x) // 3 :]
    x = ((x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-8)).astype(np.float32)
    if np.issubdtype(y.dtype, np.floating):
        y = ((y - y[train].mean()) / y[train].std()).astype(np.float32)[:, np.newaxis]
    else:
        y = y.astype(np.int32)
    return Arrays(x[train], y[train], x[held], y[held])


def _dense(shape: tuple[int, ...], widths: tuple[int, ...], outputs: int, seed: int) -> keras.Model:
    layers = SeededLayers(seed)
    inputs = keras.Input(shape)
    x = keras.layers.Flatten(name="flatten")(inputs)
    for number, width in enumerate(widths):
        x = layers.dense(width, activation="relu", name=f"hidden_{number}")(x)
    return keras.Model(inputs, layers.logits(outputs)(x))


def _strided(shape: tuple[int, ...], batch_norm: bool, seed: int) -> keras.Model:
    """Two convolutions of stride 2 and global pooling."""
    layers = SeededLayers(seed)
    inputs = keras.Input(shape)
    x = inputs
    for number, filters in enumerate((16, 32)):
        x = layers.conv(filters, 3, strides=2, use_bias=not batch_norm, name=f"conv_{number}")(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(name=f"norm_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.logits(10)(x))


def _mnist_cnn(seed: int) -> keras.Model:
    from keras_qan import models

    return models.build("cnn", (28, 28, 1), 10, seed=seed)


def _momentum(rate: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate, momentum=0.9)


TASKS = {
    "mnist-mlp": Task(
        functools.partial(_images, "mnist", 10_000),
        functools.partial(_dense, (28, 28, 1), (128, 64), 10),
        _momentum, SGD_GRID, 128, 384,
    ),
    "mnist-autoencoder": Task(
        _reconstruction,
        functools.partial(_dense, (784,), (64, 16, 64), 784),
        keras.optimizers.Adam, ADAM_GRID, 64, 300, "mean_squared_error",
    ),
    "cifar-cnn-bn": Task(
        functools.partial(_images, "cifar10", 10_000),
        functools.partial(_strided, (32, 32, 3), True),
        _momentum, SGD_GRID, 64, 300,
    ),
    "cifar-cnn-adamw": Task(
        functools.partial(_images, "cifar10", 10_000),
        functools.partial(_strided, (32, 32, 3), False),
        keras.optimizers.AdamW, ADAM_GRID, 64, 300,
    ),
    "cancer-mlp": Task(
        functools.partial(_table, "breast_cancer"),
        functools.partial(_dense, (30,), (24, 24, 24), 2),
        keras.optimizers.Adam, ADAM_GRID, 32, 120,
    ),
    "diabetes-regression": Task(
        functools.partial(_table, "diabetes"),
        functools.partial(_dense, (10,), (40,), 1),
        _momentum, SGD_GRID, 32, 120, "mean_squared_error",
    ),
    "mnist-cnn-adamw": Task(
        functools.partial(_images, "mnist", 10_000), _mnist_cnn,
        keras.optimizers.AdamW, ADAM_GRID, 128, 390,
    ),
}  # fmt: skip
