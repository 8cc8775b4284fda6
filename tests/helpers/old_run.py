"""The training behind the files in tests/fixtures/version_0_1; it must stay as it is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


def make_task(kind: type, kill_after: int | None = None) -> Any:
    """Return a task of 3 epochs of 4 steps.

    Args:
      kind: the class `Task` of the version at hand.
      kill_after: batches of all trainings after which `KeyboardInterrupt` breaks off the one at
        work. Defaults to never.
    """
    rng = np.random.default_rng(7)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    y = (x[:, 0] > 0.0).astype(np.int64)
    trained = [0]

    def build_model(seed: int) -> keras.Model:
        glorot = keras.initializers.GlorotUniform
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(3, "tanh", kernel_initializer=glorot(2 * seed), name="hidden"),
                keras.layers.Dense(2, kernel_initializer=glorot(2 * seed + 1), name="logits"),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
        return model

    def count(batch: np.ndarray) -> np.ndarray:
        trained[0] += 1
        if kill_after is not None and trained[0] > kill_after:
            raise KeyboardInterrupt
        return batch

    def batches(seed: int) -> tf.data.Dataset:
        order = np.random.default_rng(seed).permutation(32)
        found = tf.data.Dataset.from_tensor_slices((x[order], y[order])).batch(8)
        if kill_after is None:
            return found
        return found.map(
            lambda a, b: (tf.ensure_shape(tf.numpy_function(count, [a], a.dtype), a.shape), b)
        )

    held_out = tf.data.Dataset.from_tensor_slices((x[32:], y[32:])).batch(8)
    return kind(build_model, batches, held_out, epochs=3)
