"""The three trainings that the shipped policy's decisions were recorded on.

`tests/fixtures/shipped_policy_trace.json` holds what a bare `QANCallback()` decided in them when
its decisions were still compiled, on TensorFlow 2.21 and a CPU: for each decision the step, the
action, the learning rate that was assigned, the mean loss before it (null at the first) and the
agent's state; and Keras's history of the training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

TRACE = Path(__file__).parents[1] / "fixtures" / "shipped_policy_trace.json"

#: A good rate, one that is far too low, and one that leads astray without a step back.
OPTIMIZERS = {
    "good": lambda: keras.optimizers.Adam(1e-3),
    "far too low": lambda: keras.optimizers.SGD(1e-4, momentum=0.9),
    "diverging": lambda: keras.optimizers.SGD(10.0, momentum=0.9),
}


def recorded() -> dict[str, Any]:
    """Return the recorded trainings by name."""
    trace: dict[str, Any] = json.loads(TRACE.read_text())
    return trace


def train(name: str, callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, list[float]]:
    """Train the digits for 240 steps in 6 epochs, and return Keras's history."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order].astype("int32")
    model = _network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # JAX without it runs operation by operation.
    compiles = keras.backend.backend() == "jax"
    model.compile(OPTIMIZERS[name](), loss, jit_compile=compiles)
    history = model.fit(
        x[:1280],
        y[:1280],
        batch_size=32,
        epochs=6,
        shuffle=False,
        verbose=0,
        validation_data=(x[1280:], y[1280:]),
        callbacks=list(callbacks),
    )
    found: dict[str, list[float]] = history.history
    return found


def _network() -> keras.Model:
    initializers = [keras.initializers.GlorotUniform(seed=10 + number) for number in range(3)]
    dense = keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((64,)),
            dense(64, activation="relu", kernel_initializer=initializers[0], name="first"),
            keras.layers.BatchNormalization(name="norm"),
            dense(32, activation="relu", kernel_initializer=initializers[1], name="second"),
            dense(10, kernel_initializer=initializers[2], name="logits"),
        ]
    )
