"""One `fit` of one arm from one rate, on any of Keras's backends."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from rivals import AveragedAtEnd, GeneralizedNewton, Prodigy, Scheduled, WarmedUp, hypergradient
from tasks import Task

from benchmarks.common.records import Row
from benchmarks.common.steering import frozen
from keras_qan import QANCallback
from keras_qan.actions import Cosine, OneCycle
from keras_qan.agents import RandomAgent
from keras_qan.qan.policy import shipped

#: Multiples of the default rate that the arms of the same rate are compared from.
FACTORS = (1.0, 0.01, 0.1, 10.0, 100.0)

#: Those from which only the callback is tried.
FAR_FACTORS = (1e-6, 1e-4, 1e3, 1e4)

Optimizer = keras.optimizers.Optimizer


@dataclass(frozen=True)
class Arm:
    """What a training is given.

    Attributes:
      factors: multiples of the task's default rate that it starts from.
      rate: where it starts in the place of them, for an arm of one configuration.
      optimizer: number of steps → its own optimizer, at any rate; None for the task's.
      schedule: progress → share of the rate.
    """

    factors: tuple[float, ...] = FACTORS
    rate: float | None = None
    optimizer: Callable[[int], Optimizer] | None = None
    schedule: Callable[[Any], Any] | None = None


def _schedule_free(num_steps: int) -> Optimizer:
    return keras.optimizers.ScheduleFreeAdamW(1.0, warmup_steps=max(num_steps // 50, 1))


def _adamw(_: int) -> Optimizer:
    return keras.optimizers.AdamW(1.0)


def _nadamw(_: int) -> Optimizer:
    return keras.optimizers.Nadam(1.0, beta_1=0.9327, beta_2=0.9955, weight_decay=0.0812)


def _prodigy(_: int) -> Optimizer:
    return Prodigy()


#: Rates of one-configuration arms: Keras's default; DAC4SGD's tuned cosine; the calibrated
#: NadamW of AlgoPerf; Keras's ScheduleFreeAdamW; Prodigy's factor.
ARMS = {
    "none": Arm(),
    "qan": Arm(),
    "slope": Arm(),
    "unlimited": Arm((1.0, 0.1, 10.0)),
    "random": Arm((1.0, 0.1, 10.0)),
    "cosine": Arm((*FACTORS, 3.0, 0.3, 30.0), schedule=Cosine()),
    "one_cycle": Arm((*FACTORS, 3.0, 30.0), schedule=OneCycle()),
    "plateau": Arm(),
    "hypergradient": Arm((1.0, 0.1, 10.0)),
    "gen": Arm((1.0, 0.1, 10.0)),
    "adamw": Arm((), 1e-3, _adamw),
    "adamw_cosine": Arm((), 4.17e-3, _adamw, Cosine()),
    "nadamw": Arm((), 1.75e-3, _nadamw, WarmedUp(Cosine())),
    "schedule_free": Arm((), 2.5e-3, _schedule_free),
    "prodigy": Arm((), 1.0, _prodigy, Cosine()),
}

#: Batches of a data set whose epochs are passes over it, as they are where people train on tables.
FEW_BATCHES = 24

#: Arms that steer the rate.
STEERED = ("qan", "unlimited", "slope")


class Bench:
    """Trains students of one task.

    All arms of a seed have the same initial weights and the same batches. `fit` is given half of
    the held-out examples; the score is the loss on the other half after the last step.

    Args:
      task: the data, the network and its optimizer.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._arrays = task.load()
        self._students: dict[Any, keras.Model] = {}

    def _student(self, arm: str, seed: int, rate: float, num_steps: int) -> keras.Model:
        """A student whose training step is compiled once for all seeds and rates."""
        make = ARMS[arm].optimizer
        optimizer, kind = (make(num_steps), make) if make else (None, None)
        if arm == "hypergradient":
            own = self._task.optimizer(1.0)
            optimizer, kind = hypergradient(type(own)).from_config(own.get_config()), arm
        fresh = self._task.build(seed, 1.0, optimizer)
        fresh.optimizer.build(fresh.trainable_variables)
        if make is _schedule_free:
            kind = num_steps  # its warm-up is a part of the compiled step
        student = self._students.setdefault(kind, fresh)
        if student is not fresh:
            pairs = zip(
                [*student.variables, *student.optimizer.variables],
                [*fresh.variables, *fresh.optimizer.variables],
                strict=True,
            )
            for old, new in pairs:
                old.assign(new)
        student.optimizer.learning_rate.assign(rate)
        return student

    def _rows(self, seed: int, num_steps: int) -> list[np.ndarray]:
        """Whole batches, shuffled anew each epoch of the data."""
        rng = np.random.default_rng([seed, 3])
        count, size = len(self._arrays.x), self._task.batch_size
        rows: list[np.ndarray] = []
        while len(rows) < num_steps:
            rows.extend(rng.permutation(count)[: count // size * size].reshape(-1, size))
        return rows[:num_steps]

    def _batches(self, seed: int, num_steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        x, y = self._arrays.x, self._arrays.y
        while True:
            for rows in self._rows(seed, num_steps):
                yield x[rows], y[rows]

    def _callbacks(self, arm: str, seed: int, num_steps: int) -> list[keras.callbacks.Callback]:
        x, y = self._arrays.x, self._arrays.y
        schedule = ARMS[arm].schedule
        if schedule is not None:
            return [Scheduled(schedule, num_steps)]
        makers: dict[str, Callable[[], keras.callbacks.Callback]] = {
            "plateau": lambda: keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1),
            "schedule_free": lambda: AveragedAtEnd([x[r] for r in self._rows(seed, 50)]),
            "gen": lambda: GeneralizedNewton(x, y, num_steps, seed),
            "slope": lambda: QANCallback(policy="slope"),
            "qan": QANCallback,
            "unlimited": lambda: QANCallback(raises_by_slope=False, schedule=Cosine()),
            "random": lambda: frozen(shipped().settings, RandomAgent(seed)),
        }
        return [makers[arm]()] if arm in makers else []

    def train(self, arm: str, rate: float, seed: int, num_steps: int, epochs: int) -> Row:
        """One training; plain data.

        Args:
          arm: whose.
          rate: where it starts.
          seed: weights and batches follow from it.
          num_steps: its length, less than a pass apart on a few batches.
          epochs: each with a validation; those of a few batches are passes over the data.
        """
        arrays = self._arrays
        length = num_steps // epochs
        a_pass = len(arrays.x) // self._task.batch_size
        if a_pass < length and a_pass <= FEW_BATCHES:
            length, epochs = a_pass, num_steps // a_pass
            num_steps = length * epochs
        model = self._student(arm, seed, rate, num_steps)
        half = len(arrays.validation_x) // 2
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # divergence is in the record
            history = model.fit(
                self._batches(seed, num_steps),
                epochs=epochs,
                steps_per_epoch=length,
                validation_data=(arrays.validation_x[:half], arrays.validation_y[:half]),
                validation_batch_size=500,
                callbacks=self._callbacks(arm, seed, num_steps),
                verbose=0,
            )
        seconds = time.perf_counter() - started
        test = arrays.validation_x[half:], arrays.validation_y[half:]
        return {
            "test_loss": _short(model.evaluate(*test, batch_size=500, verbose=0)),
            "val_losses": [_short(v) for v in history.history["val_loss"]],
            "rates": [_short(v) for v in history.history.get("learning_rate", [])],
            "seconds": round(seconds, 2),
        }


def _short(value: float) -> float | None:
    """Five digits of a number; None where it is none."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
