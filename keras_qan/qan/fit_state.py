"""One `fit` while it runs: what belongs to it alone, and how it is kept over a break."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, ClassVar

import keras
import numpy as np

from keras_qan.qan.controller import Decision
from keras_qan.qan.decision_schedule import DecisionSchedule
from keras_qan.qan.model_access import LossSums, ModelAccess


@dataclasses.dataclass
class FitState:
    """A `fit` from its beginning to its end, but for model, agent and selector.

    Attributes:
      student: what is read and written of the model.
      sums: of the training loss.
      pace: when decisions are due.
      companion: what looks after the selector.
      num_epochs: how many epochs this `fit` holds, once its first has begun.
      first_loss: the loss of the first step, once there is one.
      validation_loss: the last one that `fit` reported, if any.
      initial_rate: the learning rate that it began with.
      last_rate: the one that was assigned last.
      num_decisions: how many decisions were taken.
      total_reward: what they brought in.
      loss_is_kept: whether this epoch's losses were counted before Keras set its sums back.
      has_diverged: whether the training was given up.
      num_rescues: how often the loss was no number.
      started: when, by the performance counter, in seconds.
    """

    student: ModelAccess
    sums: LossSums
    pace: DecisionSchedule
    companion: keras.callbacks.Callback
    num_epochs: int | None = None
    first_loss: float | None = None
    validation_loss: float | None = None
    initial_rate: float = math.nan
    last_rate: float = math.nan
    num_decisions: int = 0
    total_reward: float = 0.0
    loss_is_kept: bool = False
    has_diverged: bool = False
    num_rescues: int = 0
    started: float = dataclasses.field(default_factory=time.perf_counter)

    #: What `notes` keeps of it.
    KEPT: ClassVar = (
        "num_epochs",
        "first_loss",
        "validation_loss",
        "initial_rate",
        "last_rate",
        "num_decisions",
        "total_reward",
        "loss_is_kept",
        "has_diverged",
        "num_rescues",
    )

    def count(self, decision: Decision) -> None:
        """Adds what a decision brought in to the return."""
        if math.isfinite(decision.reward):
            self.total_reward += decision.reward

    def arrays(self) -> dict[str, np.ndarray]:
        """What it keeps in variables, by name."""
        return {f"room/{number}": np.array(room.numpy()) for number, room in enumerate(self._rooms)}

    def notes(self) -> dict[str, Any]:
        """The rest of it, as plain data."""
        own = {name: getattr(self, name) for name in self.KEPT}
        own = {n: v.item() if isinstance(v, np.generic) else v for n, v in own.items()}
        seconds = time.perf_counter() - self.started
        return {"fit": own, "pace": dict(vars(self.pace)), "seconds": seconds}

    def restore(self, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> None:
        """Goes on from what `arrays` and `notes` gave.

        Raises:
          KeyError: something is missing.
        """
        for number, room in enumerate(self._rooms):
            room.assign(arrays[f"room/{number}"])
        for name in self.KEPT:
            setattr(self, name, notes["fit"][name])
        vars(self.pace).update({name: notes["pace"][name] for name in vars(self.pace)})
        self.started = time.perf_counter() - notes["seconds"]

    @property
    def _rooms(self) -> list[Any]:
        student, sums = self.student, self.sums
        return [*student.motion, *student.copies, *student.initial, sums.total, sums.count]
