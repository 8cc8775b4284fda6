"""Ways to stop that need no regressor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_qan.early_stopping.curves import Curves
from keras_qan.early_stopping.intervals import Prediction
from keras_qan.early_stopping.rule import StopRule


class LastSeenValue:
    """Predicts that a curve ends where it is; its errors on finished curves give the doubt."""

    def __init__(self, curves: Curves, rule: StopRule, interval: str) -> None:
        self._curves, self._rule, self._interval = curves, rule, interval

    def fit(self, rows: np.ndarray) -> None:
        """Learn from the curves that ran to their end."""
        values = self._curves.values[rows]
        self._residuals = np.sort(self._curves.last[rows][:, None] - values, axis=0)

    def stop_at(self, row: int, observed: int, ends: Sequence[float]) -> float | None:
        """Return the end expected of a curve to stop, or None."""
        threshold = self._rule.threshold(ends)
        seen = self._curves.values[row, observed - 1]
        wrong_by = self._residuals[:, observed - 1]
        found = Prediction(np.array([seen]), [wrong_by], np.array([observed]), 0.9, self._interval)
        return float(seen) if self._rule.should_stop(found, threshold)[0] else None


class MedianStopping:
    """Stops a curve whose best value is behind the median of the others' running means.

    Golovin et al., "Google Vizier" (2017), section 3.2.2.
    """

    def __init__(self, curves: Curves, rule: StopRule) -> None:
        self._sign = 1.0 if rule.mode == "max" else -1.0
        self._values = self._sign * curves.values
        self._means = np.cumsum(self._values, 1) / np.arange(1, self._values.shape[1] + 1)
        self._lengths = curves.lengths

    def fit(self, rows: np.ndarray) -> None:
        """Learn from the curves that ran to their end."""
        self._finished = list(rows)

    def stop_at(self, row: int, observed: int, ends: Sequence[float]) -> float | None:
        """Return the end expected of a curve to stop, or None."""
        del ends
        median = np.median(self._means[self._finished, observed - 1])
        best = self._values[row, :observed].max()
        if best < median:
            return float(self._sign * best)
        if observed == self._lengths[row] - 1:
            self._finished.append(row)
        return None
