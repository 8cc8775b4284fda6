"""A small task for the tests of the rally."""

from __future__ import annotations

import keras
import numpy as np

L = keras.layers


def data(num=240, seed=0, classes=3):
    """Points around a centre for each class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, num)
    centres = np.random.default_rng(99).normal(size=(classes, 6)) * 1.5
    return (centres[y] + rng.normal(size=(num, 6))).astype("float32"), y


TRAIN, VALIDATION, TEST = data(), data(90, seed=1), data(90, seed=2)


def build_model(seed, width=4, optimizer=None, dropout=0.0, run_eagerly=False):
    """A perceptron with named layers, its weights from the seed."""

    def dense(units, number, **more):
        start = keras.initializers.GlorotUniform(seed=10 * seed + number)
        return L.Dense(units, kernel_initializer=start, **more)

    model = keras.Sequential(
        [
            keras.Input((6,)),
            dense(width, 1, activation="relu", name="hidden"),
            L.Dropout(dropout, seed=seed, name="dropout"),
            dense(3, 2, name="logits"),
        ]
    )
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
        run_eagerly=run_eagerly,
    )
    return model


def build_eager_model(seed):
    """The same, which trains a few steps sooner than a graph is traced."""
    return build_model(seed, run_eagerly=True)
