"""Compares the descent that the slopes of the loss promise with what the loss does."""

from __future__ import annotations

import math

import numpy as np

from keras_qan.qan.slope_ratio import SlopeEstimate

#: Standard errors that are taken off the promised descent.
STANDARD_ERRORS = 2.0

#: The promised descent over the one that is seen, and the share of the highest loss on top, above
#: which they contradict one another.
LARGEST_RATIO, LARGEST_SHARE = 2.0, 0.25

#: Batches of a sum below which nothing is contradicted: the first loss is that of one batch, which
#: may be an easy one.
FEWEST_BATCHES = 7


class DescentCheck:
    """Notes whether the loss falls as its slopes say.

    A convex loss falls by -⟨g(t+1), d(t)⟩ at least along a step d(t), where g(t+1) is the gradient
    at its end, on another batch. As long as one batch stands for all of them, the losses of a
    training fall by the sum of that. Where batches come in an order, each step helps its neighbours
    and undoes what earlier ones taught: the slopes promise more than the whole loss. The same is
    seen where the data change, and where the reported loss is not the one that is minimised.

    Args:
      first_loss: of the first step.

    Attributes:
      count: contradictions so far; after each the sum begins anew.
    """

    def __init__(self, first_loss: float = -math.inf) -> None:
        self.count = 0
        # The sum so far, what is promised of the interval's other half, and the highest loss and
        # the batches since the sum was last zero.
        self._promised, self._rest, self._highest = 0.0, 0.0, first_loss
        self._num_batches = 0

    def contradicts(self, slope: SlopeEstimate, num_batches: int, loss: float) -> bool:
        """Take in an interval, and return whether the loss contradicts the slopes so far.

        Args:
          slope: the slope ratio at the interval's end.
          num_batches: batches in the interval.
          loss: its mean loss.
        """
        if not (slope.is_known and math.isfinite(loss)):
            return False
        of_a_step = -slope.slope * (slope.ratio - STANDARD_ERRORS * slope.error)
        # The mean loss is that of the interval's middle.
        half = 0.5 * num_batches / slope.batches_a_step * of_a_step
        self._promised = max(self._promised + self._rest + half, 0.0)
        self._rest = half
        self._highest = max(self._highest, loss) if self._promised else loss
        self._num_batches = self._num_batches + num_batches if self._promised else 0
        seen = self._highest - loss
        is_little = self._promised <= LARGEST_RATIO * seen + LARGEST_SHARE * abs(self._highest)
        if is_little or self._num_batches < FEWEST_BATCHES:
            return False
        self.count += 1
        self._promised, self._rest, self._highest, self._num_batches = 0.0, 0.0, loss, 0
        return True

    def array(self) -> np.ndarray:
        """Return its state, for a checkpoint of a running training."""
        parts = self._promised, self._rest, self._highest, self.count, self._num_batches
        return np.array(parts)

    def restore(self, array: np.ndarray) -> None:
        """Take over what `array` gave."""
        self._promised, self._rest, self._highest, *counts = np.asarray(array, float).tolist()
        self.count, self._num_batches = (int(count) for count in (*counts, FEWEST_BATCHES)[:2])
