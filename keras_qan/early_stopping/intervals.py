"""Predicted ends of curves, with intervals and probabilities from the residuals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from keras_qan.early_stopping.curves import Floats, Ints

IntervalRule = Literal["conformal", "gaussian"]

INTERVAL_RULES: tuple[IntervalRule, ...] = ("conformal", "gaussian")

# Sizes are fitted within these multiples of the mean absolute residual: from a hundred residuals
# no more can be said about their size than that it is not ten times smaller somewhere.
_LEAST, _MOST = 0.3, 3.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predicted ends of N curves; unpacks as `end, low, high`.

    Args:
      end: the predicted last values, float64 [N].
      residuals: for each curve, truth minus prediction on left-out finished curves, ascending;
        scaled to where the prediction lies with the conformal rule.
      observed: the number of observed values of each curve, int64 [N].
      level: share of the ends that should lie in [low, high].
      rule: "conformal" takes the residuals as they are, "gaussian" their standard deviation.
    """

    end: Floats
    residuals: Sequence[Floats]
    observed: Ints
    level: float
    rule: IntervalRule

    def __iter__(self) -> Iterator[Floats]:
        return iter((self.end, self.low, self.high))

    def __len__(self) -> int:
        return len(self.end)

    def select(self, row: int) -> Prediction:
        """Return the prediction for one of the curves.

        Args:
          row: the curve's number.
        """
        return replace(
            self,
            end=self.end[[row]],
            residuals=[self.residuals[row]],
            observed=self.observed[[row]],
        )

    @property
    def low(self) -> Floats:
        """The lower ends of the intervals, float64 [N]; -inf where too few curves were seen."""
        return -self._bound(-1.0)

    @property
    def high(self) -> Floats:
        """The upper ends of the intervals, float64 [N]; inf where too few curves were seen."""
        return self._bound(1.0)

    @property
    def interval(self) -> Floats:
        """Lower and upper ends, float64 [N, 2]."""
        return np.column_stack([self.low, self.high])

    def probability_below(self, value: float) -> npt.NDArray[np.float64]:
        """Probability that each curve ends below a value.

        conformal: #{i: ŷ + rᵢ < value} / (n + 1), for n residuals rᵢ. If it is at least Δ, the end
        is below the value with probability at least Δ, whatever the residuals' distribution, as
        long as the curve is exchangeable with the finished ones (Vovk et al. 2005).
        gaussian: Φ((value − ŷ) / σ), the rule of arXiv:1705.10823 without the slip of its slides.

        Args:
          value: to compare with, in the metric's unit.

        Returns:
          float64 [N], in [0, 1].
        """
        return self._probability(1.0, value)

    def probability_above(self, value: float) -> npt.NDArray[np.float64]:
        """Probability that each curve ends above a value; see `probability_below`.

        Args:
          value: to compare with, in the metric's unit.

        Returns:
          float64 [N], in [0, 1].
        """
        return self._probability(-1.0, value)

    def _probability(self, sign: float, value: float) -> npt.NDArray[np.float64]:
        rows = zip(sign * (value - self.end), self.residuals, strict=True)
        if self.rule == "gaussian":
            found = [stats.norm.cdf(gap / _deviation(known)) for gap, known in rows]
        else:
            found = [np.sum(sign * known < gap) / (len(known) + 1) for gap, known in rows]
        return np.asarray(found, np.float64)

    def _bound(self, sign: float) -> Floats:
        """The bound that an end passes, towards the sign, with at most (1 - level) / 2."""
        tail = (1.0 + self.level) / 2.0
        found = []
        for end, known in zip(sign * self.end, self.residuals, strict=True):
            if self.rule == "gaussian":
                found.append(end + stats.norm.ppf(tail) * _deviation(known))
                continue
            rank = conformal_rank(len(known), tail)
            ordered = np.sort(sign * known)
            found.append(end + ordered[rank - 1] if rank <= len(known) else math.inf)
        return np.asarray(found, np.float64)


def conformal_rank(count: int, confidence: float) -> int:
    """Rank of the ascending residual that bounds the next one with a confidence: ⌈(n + 1) Δ⌉.

    Example:
      >>> conformal_rank(99, 0.99), conformal_rank(98, 0.99)
      (99, 99)
    """
    return math.ceil((count + 1) * confidence - 1e-9)


def curves_needed(rule: IntervalRule, confidence: float, fewest: int) -> int:
    """Number of finished curves before anything can be said with a confidence.

    Args:
      rule: of the intervals.
      confidence: Δ, in (0, 1).
      fewest: the number that regressors need in any case.

    Example:
      >>> curves_needed("conformal", 0.99, 10), curves_needed("gaussian", 0.99, 10)
      (99, 10)
    """
    if rule == "gaussian":
        return fewest
    return max(fewest, math.ceil(confidence / (1.0 - confidence) - 1e-9))


def _deviation(residuals: Floats) -> float:
    """σ of zero-mean residuals, above zero, so that a perfect fit gives finite quotients."""
    return max(float(np.sqrt(np.mean(residuals**2))), 1e-12)


class ResidualModel:
    """Residuals of left-out curves, scaled to where a prediction lies.

    Each residual is divided by the usual size s at its prediction ŷ and multiplied by that at the
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

    def residuals_at(self, prediction: float, rule: IntervalRule) -> Floats:
        """The residuals of a prediction, ascending, [N]."""
        if rule == "gaussian":
            return self._plain
        return self._scaled * float(self._size(np.asarray(prediction)))

    def _size(self, predictions: Floats) -> Floats:
        logs = self._level + self._slope * (predictions - self._centre)
        return np.asarray(np.clip(np.exp(logs), _LEAST, _MOST))
