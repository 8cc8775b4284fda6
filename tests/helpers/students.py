"""Small students and data that the tests of the callback share."""

from __future__ import annotations

import keras
import numpy as np


def data(num_examples: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of two classes that differ in the mean of their upper half."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, num_examples)
    x = rng.normal(size=(num_examples, 6, 6, 1)).astype("float32")
    x[:, :3] += (2.0 * y - 1.0)[:, None, None, None].astype("float32")
    return x, y


def student(
    optimizer: keras.optimizers.Optimizer | str | None = None,
    seed: int = 0,
    activation: str = "relu",
    name: str = "first",
    **compile_arguments,
) -> keras.Model:
    """A convolution and a Dense layer, compiled."""

    def initializer(number: int) -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=10 * seed + number)

    model = keras.Sequential(
        [
            keras.layers.Input((6, 6, 1)),
            keras.layers.Conv2D(
                3, 3, activation=activation, kernel_initializer=initializer(1), name=name
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(2, kernel_initializer=initializer(2), name="logits"),
        ]
    )
    arguments = {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
        "jit_compile": False,
        **compile_arguments,
    }
    model.compile(optimizer or keras.optimizers.SGD(0.05, momentum=0.9), **arguments)
    return model
