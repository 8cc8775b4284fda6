"""The mean training loss between two decisions."""

from __future__ import annotations

import math

import numpy as np

from keras_qan.qan.model_access import ModelAccess


class IntervalLoss:
    """The mean loss since it was last taken.

    An interval's losses are a difference of Keras's running sums plus what was kept of epochs that
    ended within it.

    Attributes:
      counted: total and count in Keras's sums when counting began, `[2]`.
      left_over: total and count kept of epochs that ended since, `[2]`.
      has_steps: whether the interval that was last taken held a step.
    """

    def __init__(self) -> None:
        self.counted, self.left_over = np.zeros(2), np.zeros(2)
        self.has_steps = True

    def keep(self, model: ModelAccess) -> None:
        """Keep what was counted before Keras sets its sums back to zero."""
        self.left_over = self._since(model.losses.read())
        self.counted = np.zeros(2)

    def begin_epoch(self, model: ModelAccess) -> None:
        """Start from the sums of a new epoch, which a loop of one's own may not have set back."""
        self.counted = model.losses.read()

    def read(self, model: ModelAccess) -> float:
        """Return the mean loss so far; not-a-number where no step was taken."""
        return mean_of(self._since(model.losses.read()))

    def take(self, model: ModelAccess, largest: float) -> float:
        """Return the mean loss so far, and start counting anew.

        Args:
          model: the model in training.
          largest: above it, or where it is non-finite, a loss is taken out of Keras's sums.
        """
        sums = model.losses.read()
        since = self._since(sums)
        self.has_steps = bool(since[1] > 0.0)
        loss = mean_of(since)
        # In float32, later losses are lost beside a sum that is non-finite or very large. The
        # epoch's mean goes on without the losses that were rolled back.
        usable = math.isfinite(sums[0]) and (since[1] == 0.0 or loss < largest)
        if not usable and largest < math.inf:
            model.losses.assign(0.0, 0.0)
            sums = np.zeros(2)
        self.counted, self.left_over = sums, np.zeros(2)
        return loss

    def _since(self, sums: np.ndarray) -> np.ndarray:
        """Return total and count of the losses since the last call of `take`, `[2]`."""
        # A smaller count than before means that the sums were reset in between.
        before = self.counted if sums[1] >= self.counted[1] else np.zeros(2)
        return sums - before + self.left_over


def mean_of(sums: np.ndarray) -> float:
    """Return the mean of a total and a count, `[2]`; not-a-number where nothing was counted."""
    return float(sums[0] / sums[1]) if sums[1] else math.nan
