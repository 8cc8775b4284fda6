"""What a prediction may be wrong by, given where it lies."""

from __future__ import annotations

import numpy as np

from keras_qan.early_stopping.curves import Floats
from keras_qan.early_stopping.prediction import IntervalRule

# Sizes are fitted within these multiples of the mean absolute residual: from a hundred residuals
# no more can be said about their size than that it is not ten times smaller somewhere.
_LEAST, _MOST = 0.3, 3.0


class Doubt:
    """Residuals of left-out curves, scaled to where a prediction lies.

    Curves that end high are often predicted better, or worse, than those that end low. So residuals
    are divided by the size s that is usual for their prediction ŷ, and multiplied by that of the
    new one: normalised conformal prediction (Papadopoulos, Gammerman & Vovk 2008; Lei et al. 2018),
    with log s linear in ŷ. The Gaussian rule of arXiv:1705.10823 takes the residuals as they are.

    Args:
      residuals: truth minus prediction, [N].
      predictions: [N].
    """

    def __init__(self, residuals: Floats, predictions: Floats) -> None:
        self._plain = np.sort(residuals)
        sizes = np.abs(residuals)
        self._mean = float(sizes.mean())
        self._centre = float(predictions.mean())
        spread = predictions - self._centre
        if self._mean > 0.0 and np.ptp(predictions) > 0.0:
            logs = np.log(sizes / self._mean + 0.1)
            self._slope = float(spread @ logs / (spread @ spread))
            self._level = float(logs.mean())
        else:
            self._slope = self._level = 0.0
        self._scaled = np.sort(residuals / self._size(predictions))

    def at(self, prediction: float, rule: IntervalRule) -> Floats:
        """The residuals of a prediction, ascending, [N]."""
        if rule == "gaussian":
            return self._plain
        return self._scaled * float(self._size(np.asarray(prediction)))

    def _size(self, predictions: Floats) -> Floats:
        logs = self._level + self._slope * (predictions - self._centre)
        return np.asarray(np.clip(np.exp(logs), _LEAST, _MOST))
