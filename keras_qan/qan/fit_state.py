"""The state of one `fit` while it runs, and how it is kept over a break."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, ClassVar

import keras
import numpy as np

from keras_qan.qan.best_weights import BestWeights
from keras_qan.qan.decision_schedule import DecisionSchedule
from keras_qan.qan.horizon import EarlyFall
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.rule import Decision


@dataclasses.dataclass
class FitState:
    """A `fit` from its beginning to its end, but for model, agent and selector.

    Attributes:
      schedule: the schedule of decisions.
      companion: the selector's callback.
      was_trained: whether the model was trained before.
      access: access to the model in training, once it is built.
      initial_rates: the learning rates of all optimizers that it began with, `[K]`.
      rates_to_resume: the learning rates to go on with once the model was saved, `[K]`.
      is_steering: False where no loss or no optimizer was found to steer by.
      early_end: the fall of the rate before its last epoch, by the losses.
      early_best: the weights that it begins from, where weights can be taken back.
      goes_back: whether they are to be taken once the epoch is over.
      best: the weights of the best validation loss, where they are asked for.
      num_calls: calls of Keras's hook before a loss was found.
      source_is_confirmed: whether a second step has shown that the loss is read where it moves.
      knows_step_losses: whether the loss of a single step can be told from the epoch's mean: not
        after an evaluation within it.
      num_epochs: the number of epochs of this `fit`, once its first has begun.
      first_loss: the loss of the first step, once there is one.
      validation_loss: the last one that `fit` reported, if any.
      initial_rate: the learning rate that it began with.
      last_rate: the one that was assigned last.
      num_decisions: the number of decisions taken.
      total_reward: the sum of their rewards.
      peak_rate: the highest rate that was assigned.
      num_step_backs: the number of roll-backs.
      num_held: the number of decisions without an estimate of the slope ratio.
      loss_is_kept: whether this epoch's losses were counted before Keras set its sums back.
      holds_still: whether the rate is held because the loss is no longer positive.
      is_last_epoch: whether this is the last of the epochs that were asked for.
      is_validated: whether a validation has followed the last step.
      has_diverged: whether the training was given up.
      num_rescues: the number of non-finite losses.
      episode: the controller's number of this training, where it goes on in another `fit`.
      started: the time of its start by the performance counter, in seconds.
    """

    schedule: DecisionSchedule
    companion: keras.callbacks.Callback
    was_trained: bool = False
    access: ModelAccess | None = None
    initial_rates: np.ndarray | None = None
    rates_to_resume: np.ndarray | None = None
    is_steering: bool = True
    early_end: EarlyFall | None = None
    early_best: BestWeights | None = None
    goes_back: bool = False
    best: BestWeights | None = None
    num_calls: int = 0
    source_is_confirmed: bool = False
    knows_step_losses: bool = True
    num_epochs: int | None = None
    first_loss: float | None = None
    validation_loss: float | None = None
    initial_rate: float = math.nan
    last_rate: float = math.nan
    num_decisions: int = 0
    total_reward: float = 0.0
    peak_rate: float = 0.0
    num_step_backs: int = 0
    num_held: int = 0
    loss_is_kept: bool = False
    holds_still: bool = False
    is_last_epoch: bool = False
    is_validated: bool = False
    has_diverged: bool = False
    num_rescues: int = 0
    episode: int = 0
    started: float = dataclasses.field(default_factory=time.perf_counter)
    _epoch_mean: float = 0.0
    _epoch_calls: int = 0

    #: The attributes that `as_data` saves.
    KEPT: ClassVar = (
        "num_epochs",
        "first_loss",
        "validation_loss",
        "initial_rate",
        "last_rate",
        "num_decisions",
        "total_reward",
        "peak_rate",
        "num_step_backs",
        "num_held",
        "loss_is_kept",
        "holds_still",
        "has_diverged",
        "num_rescues",
    )

    @property
    def has_model(self) -> bool:
        """True once the model in training is accessible."""
        return self.access is not None

    @property
    def has_begun(self) -> bool:
        """True once the first decision was taken."""
        return self.initial_rates is not None

    @property
    def model(self) -> ModelAccess:
        """Access to the model in training."""
        assert self.access is not None
        return self.access

    @model.setter
    def model(self, access: ModelAccess) -> None:
        self.access = access

    def begin_epoch(self) -> None:
        """Start an epoch's sums."""
        self.loss_is_kept = False
        self.knows_step_losses = True
        self._epoch_mean, self._epoch_calls = 0.0, 0

    def step_loss(self, loss: float, batch: int) -> float:
        """Return the loss of the last call alone, from what `logs` report after it.

        Not-a-number where it cannot be told.
        """
        if not self.knows_step_losses:
            return math.nan
        if not self.model.losses.is_running_mean:
            return loss
        before, calls = self._epoch_mean, self._epoch_calls
        self._epoch_mean, self._epoch_calls = loss, batch + 1
        new = batch + 1 - calls
        return (loss * (batch + 1) - before * calls) / new if new > 0 else loss

    def put_rate_back(self) -> None:
        """Assign the learning rates that the training began with."""
        if self.access is not None and self.initial_rates is not None:
            self.access.put_rates_back(self.initial_rates)

    def add_decision(self, decision: Decision) -> None:
        """Add a decision's reward to the return."""
        if math.isfinite(decision.reward):
            self.total_reward += decision.reward
        self.peak_rate = max(self.peak_rate, decision.rate)
        self.num_step_backs += decision.has_stepped_back
        if decision.slope is not None and self.num_decisions:
            self.num_held += not math.isfinite(sum(decision.slope))

    def summary(self) -> str:
        """Return one line for the end of a `fit`."""
        slope = None if self.access is None else self.access.slope
        if slope is not None and slope.reason is not None:
            return f"QAN held the rate of {self.initial_rate:.3g}: {slope.reason}."
        told = f"QAN: peak rate {self.peak_rate:.3g}, from {self.initial_rate:.3g}; rolled back "
        told += "once" if self.num_step_backs == 1 else f"{self.num_step_backs} times"
        if slope is not None:
            told += (
                f", held at {self.num_held} of {self.num_decisions} decisions for want of a "
                "slope ratio"
            )
        return f"{told}."

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its arrays, by name."""
        arrays = [*self.model.arrays(), self.model.losses.read_own()]
        return {f"room/{number}": array for number, array in enumerate(arrays)}

    def as_data(self) -> dict[str, Any]:
        """Return the rest of it, as plain data."""
        own = {name: getattr(self, name) for name in self.KEPT}
        own = {n: v.item() if isinstance(v, np.generic) else v for n, v in own.items()}
        seconds = time.perf_counter() - self.started
        return {"fit": own, "pace": self.schedule.as_data(), "seconds": seconds}

    def restore(self, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        """Go on from what `arrays` and `as_data` gave.

        Raises:
          KeyError: something is missing.
        """
        size = len(self.model.arrays())
        self.model.restore([arrays[f"room/{number}"] for number in range(size)])
        # Earlier versions kept total and count apart.
        sums = [float(value) for value in np.atleast_1d(arrays[f"room/{size}"])]
        if len(sums) == 1:
            sums.append(float(arrays[f"room/{size + 1}"]))
        self.model.losses.assign(sums[0], sums[1])
        for name in self.KEPT:
            # Earlier versions kept fewer of them.
            setattr(self, name, data["fit"].get(name, getattr(self, name)))
        self.schedule.restore(data["pace"])
        self.started = time.perf_counter() - data["seconds"]
