"""The run that faults are injected into: seconds long, with every part of a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan import DQN, Exploration, Learning, QANCallback, TrainingState
from keras_qan.experiments.runner import Evaluation, Task, run_episodes
from keras_qan.parallel import Call, Executor

EPISODES, EPOCHS, STEPS = 10, 3, 12
EVALUATION = Evaluation(("qan", "random"), seeds=1)


def examples(seed: int, count: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that differ in the mean of half their features."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    x = rng.normal(size=(count, 8)).astype(np.float32)
    x[:, :4] += (y - 0.5)[:, None].astype(np.float32)
    return x, y


def build_model(seed: int) -> keras.Model:
    """Dropout and Adam, so that there are random states and slots to lose."""
    layers = [
        keras.layers.Input((8,)),
        keras.layers.Dense(6, "relu", kernel_initializer=keras.initializers.HeNormal(seed)),
        keras.layers.Dropout(0.2, seed=seed),
        keras.layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed + 1)),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], jit_compile=False)
    return model


def make_task(
    batch: Callable[[np.ndarray, np.ndarray], Any] | None = None, slowly: float = 0.0
) -> Task:
    """The task; each epoch has an order of its own.

    Args:
      batch: applied to each batch, x and y, before it is trained on.
        Defaults to None, no change.
      slowly: seconds to wait before each batch, so that there is time to inject a fault.
        Defaults to 0.
    """

    def batches(seed: int) -> tf.data.Dataset:
        x, y = examples(3)
        epochs = iter(range(10**6))

        def whole() -> tuple[np.ndarray, np.ndarray]:
            order = np.random.default_rng([seed, next(epochs)]).permutation(len(x))
            return x[order], y[order]

        def epoch(_: tf.Tensor) -> tf.data.Dataset:
            rows = tf.numpy_function(whole, [], (tf.float32, tf.int64))
            rows = tf.ensure_shape(rows[0], [96, 8]), tf.ensure_shape(rows[1], [96])
            return tf.data.Dataset.from_tensor_slices(rows).batch(8)

        made = tf.data.Dataset.range(1).flat_map(epoch)
        made = made.apply(tf.data.experimental.assert_cardinality(STEPS))
        if batch is None and not slowly:
            return made

        def touched(x: np.ndarray, y: np.ndarray) -> Any:
            import time

            time.sleep(slowly)
            return (x, y) if batch is None else batch(x, y)

        def touch(x: tf.Tensor, y: tf.Tensor) -> Any:
            x_, y_ = tf.numpy_function(touched, [x, y], (tf.float32, tf.int64))
            return tf.ensure_shape(x_, x.shape), tf.ensure_shape(y_, y.shape)

        return made.map(touch)

    def held(seed: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(examples(seed, 40)).batch(40)

    source = Call("tests.stress.small_run:make_task", {"slowly": slowly})
    return Task(build_model, batches, held(1), EPOCHS, held(2), source=source)


def learner(directory: Path) -> QANCallback:
    """An agent of few parameters."""
    learning = Learning(batch_size=8, updates=1, n_step=3, warm_up=4)
    agent = DQN((8,), exploration=Exploration(decisions=60), learning=learning, replay_capacity=400)
    return QANCallback(directory, observations=[TrainingState()], agent=agent, decide_every=8)


def go(
    directory: Path,
    task: Task | None = None,
    engine: Executor | None = None,
    episodes: int = EPISODES,
) -> QANCallback:
    """Runs, or resumes, to the end."""
    callback = learner(directory)
    run_episodes(
        task or make_task(),
        callback,
        episodes=episodes,
        evaluation=EVALUATION,
        engine=engine,
        save_every_epochs=1,
    )
    return callback
