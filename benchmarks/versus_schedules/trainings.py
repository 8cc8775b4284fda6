"""One training of one arm."""

from __future__ import annotations

import time
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from controls import Witness
from fits import frozen
from rivals import Scheduled
from saved import Arrays
from tasks import Task

from keras_qan import QANCallback
from keras_qan.actions import Cosine, OneCycle, StepDecay, WarmRestarts
from keras_qan.agents import RandomAgent
from keras_qan.experiments.model_factory import ModelFactory
from keras_qan.qan.policy import Policy

#: Validations in a training; its steps are a multiple of it.
POINTS = 12

SCHEDULES = {
    "step_decay": StepDecay,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "warm_restarts": WarmRestarts,
}


def _witness(policy: Policy) -> Witness:
    """The policy's agent, as one whose states can be noted and exchanged."""
    settings = policy.settings
    agent = settings.agent
    witness = Witness(
        agent.hidden,
        exploration=agent.exploration,
        learning=agent.learning,
        replay_capacity=agent.replay_capacity,
        double=agent.double,
        averaged=agent.averaged,
        seed=agent.seed,
        default_action=agent.default_action,
        margin=agent.margin,
    )
    size = sum(part.size(2) for part in settings.observations)
    witness.build(size, len(settings.actions))
    witness.prepare()
    witness.adopt(policy.arrays)
    return witness


class Runner:
    """Trains students of one task.

    Args:
      task: which.
      policy: what the arm `qan` follows.
    """

    def __init__(self, task: Task, policy: Policy) -> None:
        self.task = task
        self.arrays: Arrays = task.load()
        self.policy = policy
        self._students: dict[str, ModelFactory] = {}
        self._callbacks: dict[str, QANCallback] = {}

    def batches(self, seed: int) -> tf.data.Dataset:
        """The batches of a training: shuffled anew each epoch, whole batches only."""
        rng = np.random.default_rng([seed, 3])
        count, size = len(self.arrays.x), self.task.batch_size
        rows: list[np.ndarray] = []
        while len(rows) < self.task.num_steps:
            order = rng.permutation(count)[: count // size * size]
            rows.extend(order.reshape(-1, size))
        x, y = tf.constant(self.arrays.x), tf.constant(self.arrays.y)
        chosen = tf.constant(np.array(rows[: self.task.num_steps], np.int32))
        return (
            tf.data.Dataset.from_tensor_slices(chosen)
            .map(lambda rows: (tf.gather(x, rows), tf.gather(y, rows)))
            .prefetch(2)
        )

    def student(self, seed: int, rate: float, kind: str = "own") -> keras.Model:
        """A fresh student with the task's optimizer, or one of another kind."""
        makers = {
            "own": lambda: None,
            "schedule_free": lambda: keras.optimizers.ScheduleFreeAdamW(1.0),
            "adam": lambda: keras.optimizers.Adam(1.0),
        }
        if kind not in self._students:
            example = tf.data.Dataset.from_tensors((self.arrays.x[:8], self.arrays.y[:8]))
            self._students[kind] = ModelFactory(
                lambda s: self.task.build(s, 1.0, makers[kind]()), example
            )
        model = self._students[kind].build(seed)
        model.optimizer.learning_rate.assign(rate)
        return model

    def callbacks(self, arm: str, seed: int) -> list[keras.callbacks.Callback]:
        """The callbacks of an arm."""
        if arm in SCHEDULES:
            return [Scheduled(SCHEDULES[arm](), self.task.num_steps)]
        if arm == "plateau":
            # Keras's own defaults but for the patience, which would outlast the training.
            return [keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1)]
        if arm in ("constant", "schedule_free", "adam"):
            return []
        callback = self._qan(arm)
        if arm == "random":
            callback.agent.restore({"num_choices": np.asarray(seed << 32)})
        return [callback]

    def _qan(self, arm: str) -> QANCallback:
        """The learned policy, the same with foreign states, or chance over its actions."""
        kind = "random" if arm == "random" else "learned"
        if kind not in self._callbacks:
            agent = RandomAgent(0) if kind == "random" else _witness(self.policy)
            self._callbacks[kind] = frozen(self.policy.settings, agent)
        return self._callbacks[kind]

    def train(
        self, arm: str, rate: float, seed: int, bank: list[Any] | None = None
    ) -> dict[str, Any]:
        """One training; plain data.

        Args:
          arm: whose.
          rate: where it starts.
          seed: weights and batches follow from it.
          bank: the states that `shuffled` is shown.
        """
        if arm in ("qan", "shuffled"):
            states = None if bank is None else np.array(bank, np.float32)
            self._qan(arm).agent.begin(states, seed)
        row = self._fit(arm, self.callbacks(arm, seed), rate, seed)
        if arm == "qan":
            row["states"] = self._qan(arm).agent.seen.round(5).tolist()
        return row

    def train_with(self, callback: QANCallback, rate: float, seed: int) -> dict[str, Any]:
        """One training that a callback of one's own steers."""
        return self._fit("own", [callback], rate, seed)

    def _fit(
        self, arm: str, callbacks: list[keras.callbacks.Callback], rate: float, seed: int
    ) -> dict[str, Any]:
        kind = arm if arm in ("schedule_free", "adam") else "own"
        model = self.student(seed, rate, kind)
        arrays = self.arrays
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # divergence is in the record
            history = model.fit(
                self.batches(seed).repeat(),
                epochs=POINTS,
                steps_per_epoch=self.task.num_steps // POINTS,
                validation_data=(arrays.validation_x, arrays.validation_y),
                validation_batch_size=1000,
                callbacks=callbacks,
                verbose=0,
            )
        seconds = time.perf_counter() - started
        final = model.evaluate(arrays.validation_x, arrays.validation_y, batch_size=1000, verbose=0)
        return {
            "arm": arm,
            "rate": rate,
            "seed": seed,
            "val_loss": float(final),
            "curve": [float(v) for v in history.history["val_loss"]],
            "steps": [(n + 1) * (self.task.num_steps // POINTS) for n in range(POINTS)],
            "final_rate": float(model.optimizer.learning_rate.numpy()),
            "seconds": seconds,
        }
