"""When a training that goes on is a training wasted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from keras_qan.early_stopping.intervals import IntervalRule, Prediction, curves_needed

Mode = Literal["max", "min"]

_BETTER_HIGH = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "r2", "score", "reward")
_BETTER_LOW = ("loss", "error", "perplexity", "mae", "mse", "mean_squared", "mean_absolute", "rmse")


@dataclasses.dataclass(frozen=True)
class StopRule:
    """Stops what is predicted, with confidence, to end behind the n-th best so far.

    Stop if P(y_T < y_best − δ) ≥ Δ, where y_best is the `keep_best`-th best end of a finished
    training: equation 3 of arXiv:1705.10823, with > and < exchanged for losses.

    Args:
      confidence: Δ, in (0, 1).
      keep_best: n; 10 keeps whatever may still be among the best ten.
      margin: δ ≥ 0, in the curves' unit; near-ties within it go on.
      mode: "max" where larger ends are better, "min" for losses.

    Raises:
      ValueError: an argument is out of range.
    """

    confidence: float = 0.99
    keep_best: int = 1
    margin: float = 0.0
    mode: Mode = "max"

    def __post_init__(self) -> None:
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(
                f"Received confidence={self.confidence}; expected a probability within (0, 1). "
                "Choose for example 0.99 to be careful, 0.9 to be quick."
            )
        if isinstance(self.keep_best, bool) or self.keep_best != int(self.keep_best):
            raise ValueError(f"Received keep_best={self.keep_best!r}; expected a whole number.")
        if self.keep_best < 1:
            raise ValueError(
                f"Received keep_best={self.keep_best}; expected at least 1, to keep the best."
            )
        if not self.margin >= 0.0:
            raise ValueError(
                f"Received margin={self.margin}; expected at least 0, in the unit of the curves."
            )
        if self.mode not in ("max", "min"):
            raise ValueError(f'Received mode={self.mode!r}; expected "max" or "min".')

    def to_beat(self, ends: Iterable[float]) -> float | None:
        """The n-th best end of finished trainings, less the margin; None if there are fewer."""
        best = sorted(ends, reverse=self.mode == "max")[: self.keep_best]
        if len(best) < self.keep_best:
            return None
        return best[-1] - self.margin if self.mode == "max" else best[-1] + self.margin

    def certainty(self, prediction: Prediction, to_beat: float) -> npt.NDArray[np.float64]:
        """How sure it is that each curve ends behind, [N]."""
        if self.mode == "max":
            return prediction.probability_below(to_beat)
        return prediction.probability_above(to_beat)

    def stops(self, prediction: Prediction, to_beat: float) -> npt.NDArray[np.bool_]:
        """Which of the predicted curves to stop, bool [N]."""
        return self.certainty(prediction, to_beat) >= self.confidence - 1e-9

    def curves_needed(self, rule: IntervalRule, fewest: int) -> int:
        """How many finished curves it takes before anything can be stopped."""
        return max(curves_needed(rule, self.confidence, fewest), self.keep_best)


def mode_of(monitor: str) -> Mode:
    """Says by a metric's name whether larger is better.

    Raises:
      ValueError: the name says nothing.
    """
    name = monitor.lower()
    if any(part in name for part in _BETTER_LOW):
        return "min"
    if any(part in name for part in _BETTER_HIGH):
        return "max"
    raise ValueError(
        f"Received monitor={monitor!r}, whose name does not say whether larger is better; "
        'expected for example an accuracy or a loss. Pass mode="max" or mode="min".'
    )
