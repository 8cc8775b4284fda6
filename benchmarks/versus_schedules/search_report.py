"""Lines of `versus_search.py` → its table."""

from __future__ import annotations

import numpy as np
from fits import FACTORS
from zero_shot_report import Trainings

from benchmarks.common.records import Row
from benchmarks.common.scores import log_score
from benchmarks.common.tables import format_header, format_mean, format_row

STEPS = 400

#: Trainings after which a search is looked at.
BUDGETS = (5, 10, 20)


def best_of(trials: list[list[float]]) -> float:
    """The log test loss of the training with the lowest validation loss.

    Args:
      trials: of each the log validation loss and the log test loss.
    """
    return min(trials)[1]


def after(row: Row, budget: int) -> float:
    """The log test loss of what a search has found after so many trainings."""
    return best_of([[log_score(loss) for loss in trial[2:]] for trial in row["trials"][:budget]])


def best_start(own: Trainings, seed: int) -> float | None:
    """The log test loss of the callback from its best initial rate by validation."""
    rows = [row for factor in FACTORS for row in own.of("qan", factor) if row["seed"] == seed]
    found = [[log_score(row["val_losses"][-1]), log_score(row["test_loss"])] for row in rows]
    return best_of(found) if len(found) == len(FACTORS) else None


def report(rows: list[Row], own_rows: list[Row]) -> str:
    """The table of the searches beside the callback's own lines."""
    lines = [
        format_header(
            "task",
            "seeds",
            "`QANCallback()`, one training",
            "best of five",
            *(f"TPE, {budget}" for budget in BUDGETS),
            "one training minus TPE, 5",
            "best of five minus TPE, 5",
            "minus TPE, 20",
        )
    ]
    pairs: dict[str, list[float]] = {"one": [], "five": [], "twenty": []}
    for name in dict.fromkeys(row["task"] for row in rows):
        chosen = [row for row in own_rows if row["task"] == name and row["steps"] == STEPS]
        own = Trainings(name, chosen)
        once, cells = own.scores("qan"), []
        for row in (row for row in rows if row["task"] == name):
            best = best_start(own, row["seed"])
            if best is not None:
                cells.append([once[row["seed"]], best, *(after(row, b) for b in BUDGETS)])
        if not cells:
            continue
        one, five, *found = np.array(cells).T
        gaps = {"one": one - found[0], "five": five - found[0], "twenty": five - found[-1]}
        for kind, values in gaps.items():
            pairs[kind].append(float(values.mean()))
        means = [f"{values.mean():.3f}" for values in (one, five, *found)]
        differences = [f"{values.mean():+.3f}" for values in gaps.values()]
        lines.append(format_row(name, len(cells), *means, *differences))
    means = [format_mean(values, "+.3f") for values in pairs.values()]
    lines.append(format_row("mean of the tasks (95 %)", "", *[""] * 5, *means))
    return "\n".join(lines)
