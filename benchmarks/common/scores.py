"""Scores of trainings."""

from __future__ import annotations

import math

#: The score of a training that came to nothing.
WORST = math.log(10.0)


def log_score(loss: float | None) -> float:
    """Return the log of a loss; `WORST` where it is missing, no positive number or above 10."""
    return math.log(loss) if loss and 0.0 < loss < 10.0 else WORST
