"""The rule that stops a training by its prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from keras_qan.early_stopping.intervals import IntervalRule, Prediction, curves_needed
from keras_qan.utils.validation import check, check_choice, check_integer, check_number

Mode = Literal["max", "min"]


@dataclasses.dataclass(frozen=True)
class StopRule:
    """Stops trainings that are predicted, with confidence, to end behind the n-th best so far.

    Stop if P(y_T < y_best − δ) ≥ Δ, where y_best is the `keep_best`-th best end of a finished
    training: equation 3 of arXiv:1705.10823, with > and < exchanged for losses.

    Args:
      confidence: Δ, in (0, 1). Defaults to 0.99.
      keep_best: n; 10 keeps every training that may still be among the best ten. Defaults to 1.
      margin: δ ≥ 0, in the curves' unit; near-ties within it go on. Defaults to 0.
      mode: "max" where larger ends are better, "min" for losses. Defaults to "max".

    Raises:
      ValueError: an argument is out of range.
    """

    confidence: float = 0.99
    keep_best: int = 1
    margin: float = 0.0
    mode: Mode = "max"

    def __post_init__(self) -> None:
        hint = "Choose for example 0.99 to be careful, 0.9 to be quick."
        check_number("confidence", self.confidence, above=0, below=1, hint=hint)
        check_integer("keep_best", self.keep_best, 1, hint="1 keeps the best alone.")
        unit = "It is in the unit of the curves."
        check(self.margin >= 0.0, "margin", self.margin, "at least 0", unit)
        check_choice("mode", self.mode, ("max", "min"))

    def threshold(self, ends: Iterable[float]) -> float | None:
        """Return the n-th best end of finished trainings, less the margin; None if there are fewer.

        Args:
          ends: last values of the finished trainings.
        """
        best = sorted(ends, reverse=self.mode == "max")[: self.keep_best]
        if len(best) < self.keep_best:
            return None
        return best[-1] - self.margin if self.mode == "max" else best[-1] + self.margin

    def certainty(self, prediction: Prediction, threshold: float) -> npt.NDArray[np.float64]:
        """Return the probability that each curve ends behind the threshold, float64 [N].

        Args:
          prediction: of N curves.
          threshold: what an end is compared with.
        """
        if self.mode == "max":
            return prediction.probability_below(threshold)
        return prediction.probability_above(threshold)

    def should_stop(self, prediction: Prediction, threshold: float) -> npt.NDArray[np.bool_]:
        """Return for each predicted curve whether to stop it, bool [N].

        Args:
          prediction: of N curves.
          threshold: what an end is compared with.
        """
        return self.certainty(prediction, threshold) >= self.confidence - 1e-9

    def curves_needed(self, rule: IntervalRule, fewest: int) -> int:
        """Return the number of finished curves before anything can be stopped.

        Args:
          rule: the rule of the intervals.
          fewest: curves that the predictor needs at least.
        """
        return max(curves_needed(rule, self.confidence, fewest), self.keep_best)
