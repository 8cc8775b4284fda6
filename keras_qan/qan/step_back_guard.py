"""Limits of step backs: they answer facts, and leave a training alone that they do not help."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

#: Standard errors of the difference of two intervals' losses that a rise has to exceed.
STANDARD_ERRORS = 3.0

#: Differences of steps' losses that a noise estimate needs.
FEWEST_STEPS = 4

#: Step backs in a row, without a new lowest loss between them, before they are given up.
MOST_IN_A_ROW = 8

#: The largest share of a training's steps that step backs may take back.
LARGEST_SHARE_LOST = 0.1

#: Steps that may be taken back however short the training.
FEWEST_STEPS_LOST = 40

#: The lowest rate that a step back leads to, relative to the one that the user compiled with.
LOWEST_RELATIVE_RATE = 1e-5


class BatchNoise:
    """The variance of losses from one batch to the next, within intervals of constant rate."""

    def __init__(self) -> None:
        self._squares = 0.0
        self._degrees = 0
        self._losses: list[float] = []

    def add(self, loss: float) -> None:
        """Add the loss of a step, or the mean loss of a call of several."""
        if math.isfinite(loss):
            self._losses.append(loss)

    def end_interval(self) -> int:
        """Close an interval; return how many losses it had."""
        count = len(self._losses)
        if count > 1:
            self._squares += float(np.var(self._losses)) * count
            self._degrees += count - 1
        self._losses = []
        return count

    def as_data(self) -> list[float]:
        """Return the sums so far, and then the losses of the open interval."""
        return [self._squares, float(self._degrees), *self._losses]

    def restore(self, data: list[float]) -> None:
        """Take over what `as_data` gave."""
        self._squares, self._degrees, self._losses = data[0], int(data[1]), list(data[2:])

    @property
    def variance(self) -> float | None:
        """The pooled variance, or None where too few steps were seen."""
        if self._degrees < FEWEST_STEPS:
            return None
        return self._squares / self._degrees


class StepBackGuard:
    """Decides whether a step back is allowed.

    A finite loss must have risen beyond the noise between batches, as far as that is known. After
    `MOST_IN_A_ROW` step backs without a new lowest loss, or once a tenth of the training's steps
    is lost to them, they are given up: lower rates did not help, so the rate was not the cause.

    Args:
      needs_noise: whether a finite loss is no reason while the noise is not known; True for a
        network that is trained already, whose low losses vary by much. Defaults to False.

    Attributes:
      is_open: False once step backs are given up for the rest of the training.
      count: step backs that restored weights so far.
      was_in_vain: whether the last one was the last of a row that did not lower the loss.
    """

    def __init__(self, needs_noise: bool = False) -> None:
        self._needs_noise = needs_noise
        self.noise = BatchNoise()
        self.is_open = True
        self.count = 0
        self.was_in_vain = False
        self._in_a_row = 0
        self._rates_before: Any = None
        self._best_loss, self._best_size = math.inf, 0
        self._kept_at = 0
        self._steps_lost = 0

    def allows(self, loss: float, size: int) -> bool:
        """Return whether a step back is allowed after an interval.

        Args:
          loss: the mean loss of the interval.
          size: the number of its losses.
        """
        if not math.isfinite(loss):
            return True
        if not self.is_open:
            return False
        variance = self.noise.variance
        if variance is None or not size or not self._best_size:
            return not self._needs_noise
        error = math.sqrt(variance * (1.0 / size + 1.0 / self._best_size))
        return loss - self._best_loss > STANDARD_ERRORS * error

    def note_best(self, loss: float, size: int, step: int) -> None:
        """Note that the present weights became the snapshot."""
        self._best_loss, self._best_size, self._kept_at = loss, size, step
        self._in_a_row = 0

    def note_step_back(self, rates: Any, step: int, num_steps: int, is_plain: bool) -> None:
        """Note a step back that restored weights.

        Args:
          rates: the rates that it found, `[K]`.
          step: steps done.
          num_steps: steps in the training, as far as is known.
          is_plain: whether the loss is finite, and not so high that it can only have diverged.
        """
        if self._in_a_row == 0:
            self._rates_before = rates
        self.count += 1
        self._in_a_row = self._in_a_row + 1 if is_plain else 0
        self._steps_lost += max(step - self._kept_at, 0)
        self._kept_at = step
        self.was_in_vain = is_plain and self._in_a_row >= MOST_IN_A_ROW
        allowed = max(LARGEST_SHARE_LOST * num_steps, FEWEST_STEPS_LOST)
        if self.was_in_vain or (is_plain and self._steps_lost > allowed):
            self.is_open = False

    @property
    def rates_before(self) -> Any:
        """The rates before the present row of step backs, `[K]`."""
        return self._rates_before

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its state by name, for a checkpoint of a running training."""
        numbers: list[float] = [
            self._needs_noise,
            self.is_open,
            self.was_in_vain,
            self.count,
            self._in_a_row,
        ]
        numbers += [self._best_loss, self._best_size, self._kept_at, self._steps_lost]
        rates = np.zeros(0) if self._rates_before is None else np.asarray(self._rates_before)
        return {
            "guard": np.array(numbers, float),
            "guard_noise": np.array(self.noise.as_data()),
            "guard_rates": rates,
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave; files of earlier versions hold none of it."""
        if "guard" not in arrays:
            return
        needs_noise, is_open, was_in_vain, count, in_a_row, *rest = arrays["guard"].tolist()
        self._needs_noise, self.is_open = bool(needs_noise), bool(is_open)
        self.was_in_vain, self.count, self._in_a_row = bool(was_in_vain), int(count), int(in_a_row)
        self._best_loss = rest[0]
        self._best_size, self._kept_at, self._steps_lost = map(int, rest[1:])
        self.noise.restore(arrays["guard_noise"].tolist())
        rates = arrays["guard_rates"]
        self._rates_before = rates if rates.size else None
