"""A small run that workers can do too: the tests of episodes, of resuming and of executors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from helpers.students import data, student

from keras_qan import DQN, Exploration, Learning, QANCallback, TrainingState
from keras_qan.experiments.runner import Task
from keras_qan.parallel import Call


class Killed(BaseException):
    """Nothing in the package catches this: it stands for kill -9."""


def records(directory: Path, file: str = "episodes") -> list[dict[str, Any]]:
    """Return the records of a run but for the time that they took."""
    lines = (directory / f"{file}.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_same_run(one: Path, other: Path, learners: tuple[QANCallback, ...] = ()) -> None:
    """Two runs have the same records, and their learners the same bits."""
    for file in ("decisions", "epochs", "episodes"):
        assert records(one, file) == records(other, file)
    if learners:
        arrays = [learner.agent.arrays() for learner in learners]
        for name, array in arrays[0].items():
            np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)


def learner(directory, decide_every: int = 6, **settings: Any) -> QANCallback:
    learning = Learning(batch_size=8, updates=1, n_step=3, warm_up=4)
    agent = DQN((8,), exploration=Exploration(decisions=40), learning=learning, replay_capacity=200)
    observations = [TrainingState()]
    parts = {"observations": observations, "agent": agent, "decide_every": decide_every}
    return QANCallback(directory, **parts, **settings)


def make_task(epochs: int = 2, dropout: float = 0.0) -> Task:
    """12 steps an epoch; the order of each epoch depends on how many there were before."""

    def build_model(seed: int) -> keras.Model:
        if not dropout:
            return student(seed=seed % 1000)
        layers = [keras.layers.Dropout(dropout, seed=seed), *student(seed=seed % 1000).layers]
        model = keras.Sequential([keras.layers.Input((6, 6, 1)), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], jit_compile=False)
        return model

    def batches(seed: int) -> tf.data.Dataset:
        x, y = data(seed=3)
        count = iter(range(1000))

        def order() -> np.ndarray:
            return np.random.default_rng([seed, next(count)]).permutation(len(x))

        def epoch(_: tf.Tensor) -> tf.data.Dataset:
            places = tf.ensure_shape(tf.numpy_function(order, [], tf.int64), [len(x)])
            rows = tf.gather(tf.constant(x), places), tf.gather(tf.constant(y), places)
            return tf.data.Dataset.from_tensor_slices(rows)

        epochs_ = tf.data.Dataset.range(1).flat_map(epoch)
        return epochs_.apply(tf.data.experimental.assert_cardinality(len(x))).batch(8)

    held_out = tf.data.Dataset.from_tensor_slices(data(40, seed=1)).batch(40)
    tested = tf.data.Dataset.from_tensor_slices(data(40, seed=2)).batch(40)
    source = Call("helpers.runs:make_task", {"epochs": epochs, "dropout": dropout})
    return Task(build_model, batches, held_out, epochs, tested, source=source)
