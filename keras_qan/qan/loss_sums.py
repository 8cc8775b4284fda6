"""The sums of the training loss: Keras's own, a selector's, or those of the logs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_qan.qan.variables import assign_replica, replicas_of, tensor_of, workers_of


class LossSums:
    """The running sums of the training loss: Keras's own, or of `logs` where it keeps none.

    Args:
      model: the compiled model.
      estimated: total and count that a selector keeps, in the place of Keras's. Defaults to none.
    """

    def __init__(self, model: keras.Model, estimated: tuple[Any, Any] | None = None) -> None:
        self._variables: tuple[Any, Any] | None = estimated
        self._is_keras = False
        self._total = self._count = self._first_count = 0.0
        if estimated is None:
            tracker = next((m for m in model.metrics if m.name == "loss"), None)
            if tracker is not None and hasattr(tracker, "total"):
                self._variables, self._is_keras = (tracker.total, tracker.count), True
        self._workers = workers_of(model)

    def follow(self, loss: float | None) -> bool:
        """Choose the source of losses after a first step; return whether there is one.

        Keras's tracker where it has counted, or else what `logs` report.

        Args:
          loss: the loss in `logs`, or None.
        """
        if self._variables is not None:
            self._first_count = self.read()[1]
            if not self._is_keras or self._first_count > 0.0:
                return True
        if loss is None:
            return False
        self._variables, self._is_keras = None, False
        return True

    def confirm(self) -> None:
        """Check after a second step that Keras's sums grow; go on by `logs` where they do not.

        `train_on_batch` sets them back at each call, so that `logs` report each batch alone.
        """
        if self._is_keras and self.read()[1] <= self._first_count:
            self._variables, self._is_keras = None, False

    @property
    def is_running_mean(self) -> bool:
        """True where `logs` report the epoch's running mean, as Keras's own train step does."""
        return self._is_keras

    def add(self, loss: float) -> None:
        """Add the loss that a custom training step reports, where nobody keeps a sum."""
        if self._variables is None:
            self._total += loss
            self._count += 1.0

    def end_epoch(self) -> None:
        """Set the sums back to zero, as Keras does with its own."""
        if not self._is_keras:
            self.assign(0.0, 0.0)

    def read_own(self) -> np.ndarray:
        """Return total and count of the losses on all devices of this worker, float64 `[2]`."""
        if self._variables is None:
            return np.array([self._total, self._count])
        return np.array([_sum_of(variable) for variable in self._variables])

    def read(self) -> np.ndarray:
        """Return total and count of the losses on all devices of all workers, float64 `[2]`."""
        sums = self.read_own()
        return sums if self._workers is None else self._workers.gather_numbers(sums).sum(axis=0)

    def assign(self, total: float, count: float) -> None:
        """Set the sums on every device."""
        self._total, self._count = total, count
        for variable, value in zip(self._variables or (), (total, count), strict=False):
            for number, replica in enumerate(replicas_of(variable)):
                assign_replica(variable, replica, value if number == 0 else 0.0)


def _sum_of(variable: Any) -> float:
    return sum(float(tensor_of(replica)) for replica in replicas_of(variable))
