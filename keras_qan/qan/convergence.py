"""A comparison of the last trainings with those before: does the agent still improve?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Trainings on each side of the comparison, at most.
WINDOW = 5


class ReturnTrend(NamedTuple):
    """The last trainings against those before them.

    Attributes:
      last: the mean return of the last trainings; not-a-number without any.
      before: that of as many before them.
      error: the standard error of the difference.
      verdict: "gaining", "not gaining", "losing", or "too early to say".
    """

    last: float
    before: float
    error: float
    verdict: str

    def __str__(self) -> str:
        """Return one line for a person."""
        if self.verdict == "too early to say":
            return self.verdict
        change = f"{self.last - self.before:+.3f} ± {self.error:.3f}"
        return f"{self.verdict} ({change} in log loss over the trainings before)"


def return_trend(returns: Sequence[float]) -> ReturnTrend:
    """Compare the last trainings with as many before them, up to `WINDOW` each.

    A difference counts where it is above its standard error, s √(2 / n) with s the pooled standard
    deviation of single trainings.

    Args:
      returns: the return of each training so far, oldest first; higher is better.
    """
    usable = [value for value in returns if math.isfinite(value)]
    count = min(len(usable) // 2, WINDOW)
    if count < 2:
        last = float(np.mean(usable)) if usable else math.nan
        return ReturnTrend(last, math.nan, math.nan, "too early to say")
    late, early = np.array(usable[-count:]), np.array(usable[-2 * count : -count])
    difference = float(late.mean() - early.mean())
    error = math.sqrt((late.var(ddof=1) + early.var(ddof=1)) / count)
    verdict = "not gaining"
    if abs(difference) > error:
        verdict = "gaining" if difference > 0.0 else "losing"
    return ReturnTrend(float(late.mean()), float(early.mean()), error, verdict)
