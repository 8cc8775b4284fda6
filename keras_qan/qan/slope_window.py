"""The steps before a decision that the slope ratio is measured over."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_qan.qan.slope_ratio import SlopeEstimate, SlopeMeter
from keras_qan.qan.variables import workers_of

#: Steps before a decision that are measured.
WINDOW = 16

#: The share of a training after which nothing is measured: the rate rises no more.
LATEST = 0.5

#: Pairs of steps that it takes to be sure: the first ones after a raise are of another rate.
PAIRS_TO_BE_SURE = 7


class SlopeWindow:
    """Measures the slope ratio over the last steps before each decision.

    Args:
      model: the compiled model.

    Attributes:
      meter: the meter of the slope ratio.
    """

    def __init__(self, model: keras.Model) -> None:
        self.meter = SlopeMeter(model)
        self._workers = workers_of(model)

    def begin(self) -> None:
        """Start measuring."""
        self.meter.open()
        self.meter.begin()

    def measure_again(self, interval: int, progress: float, changed: bool) -> None:
        """Measure the last steps of the interval that follows; none in a training's second half.

        Args:
          interval: steps to the next decision.
          progress: the share of the training that is done.
          changed: whether the rate or the weights are others now; else a window that is short
            goes on.
        """
        if progress >= LATEST:
            self.meter.open(after=math.inf)
        elif changed or interval > PAIRS_TO_BE_SURE:
            self.meter.open(after=max(interval - WINDOW - 1, 0))
            self.meter.begin()

    @property
    def is_blind(self) -> bool:
        """True where the optimizer does not give its gradients back, as far as that is known."""
        return self.meter.reason is not None

    def estimate(self) -> SlopeEstimate:
        """Return the slope ratio since the last decision; the chief's on every worker."""
        own = self.meter.estimate()
        if self._workers is None:
            return own
        return SlopeEstimate(*self._workers.gather_numbers(np.array(own, float))[0].tolist())
