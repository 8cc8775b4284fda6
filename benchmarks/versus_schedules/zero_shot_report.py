"""Lines of `zero_shot.py` → tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from fits import ARMS, FACTORS, STEERED
from more_tasks import DEFAULT_RATES, TUNED_ON

from benchmarks.common.records import Row
from benchmarks.common.scores import log_score
from benchmarks.common.tables import format_header, format_mean, format_row

Scores = dict[int, float]

#: Rates of which a schedule has to be the best for it to count as tuned.
FEWEST_RATES = 3

#: Columns that say no more than their arm's name.
NAMES = {"none": "no callback", "adamw": "AdamW 1e-3", "qan": "QAN"}

#: Arms of one configuration, whatever the task's optimizer and rate.
FIXED = tuple(arm for arm, each in ARMS.items() if each.rate is not None)


class Trainings:
    """The rows of one task and horizon.

    Args:
      name: the task.
      rows: its lines.
    """

    def __init__(self, name: str, rows: list[Row]) -> None:
        self.name, self.rows = name, rows
        self.tuned = {arm: self._tuned(arm) for arm in ("cosine", "one_cycle")}

    def of(self, arm: str, factor: float) -> list[Row]:
        """The rows of an arm from a multiple of the default rate."""
        rate = ARMS[arm].rate or DEFAULT_RATES[self.name] * factor
        return [row for row in self.rows if row["arm"] == arm and np.isclose(row["rate"], rate)]

    def scores(self, arm: str, factor: float = 1.0) -> Scores:
        """Seed → log test loss."""
        return {row["seed"]: log_score(row["test_loss"]) for row in self.of(arm, factor)}

    def _tuned(self, arm: str) -> float | None:
        """The factor with the lowest mean validation loss, or test loss where only that is kept."""
        found = {}
        for factor in ARMS[arm].factors:
            losses = [row.get("val_losses", [row["test_loss"]])[-1] for row in self.of(arm, factor)]
            if losses:
                found[factor] = float(np.mean([log_score(loss) for loss in losses]))
        return min(found, key=found.__getitem__) if len(found) >= FEWEST_RATES else None

    def tuned_scores(self, arm: str) -> Scores:
        """Those of a schedule's best rate; none where too few rates were tried."""
        factor = self.tuned[arm]
        return {} if factor is None else self.scores(arm, factor)


def report(rows: list[Row]) -> str:
    """Return the tables of all horizons."""
    return "\n\n".join(_horizon(steps, rows) for steps in sorted({row["steps"] for row in rows}))


def _horizon(steps: int, rows: list[Row]) -> str:
    own = [row for row in rows if row["steps"] == steps]
    names = [name for name in DEFAULT_RATES if any(row["task"] == name for row in own)]
    trainings = [Trainings(name, [row for row in own if row["task"] == name]) for name in names]
    parts = [_losses(trainings), _gaps(trainings)]
    if ranks := _ranks(trainings):
        parts.append(ranks)
    if speeds := _speeds(trainings):
        parts.append(speeds)
    return "\n\n".join([f"### {steps:,} steps", *parts])


def _text(scores: Scores) -> str:
    return f"{np.mean(list(scores.values())):.3f}" if scores else "–"


def _losses(trainings: list[Trainings]) -> str:
    """Mean log test losses."""
    arms = {row["arm"] for each in trainings for row in each.rows}
    columns = [(arm, 1.0) for arm in ("none", "plateau", *FIXED) if arm in arms]
    steered = [(arm, f) for arm in STEERED if arm in arms for f in sorted(ARMS[arm].factors)]
    steered = [(arm, f) for arm, f in steered if any(each.of(arm, f) for each in trainings)]
    tuned = [arm for arm in ("cosine", "one_cycle") if any(each.tuned[arm] for each in trainings)]
    heads = [NAMES.get(arm, arm) for arm, _ in columns]
    heads += [f"tuned {arm} (rate)" for arm in tuned]
    heads += [f"{NAMES.get(arm, arm)} {factor:g}×" for arm, factor in steered]
    lines = [format_header("task", "seeds", *heads)]
    for each in trainings:
        cells = [_text(each.scores(arm)) for arm, _ in columns]
        for arm in tuned:
            factor = each.tuned[arm]
            rate = DEFAULT_RATES[each.name] * (factor or 0.0)
            cells.append(f"{_text(each.tuned_scores(arm))} ({rate:.2g})" if factor else "–")
        cells += [_text(each.scores(*column)) for column in steered]
        lines.append(format_row(each.name, len({row["seed"] for row in each.rows}), *cells))
    return "\n".join(lines)


def _minus(ours: Scores, theirs: Scores) -> list[float]:
    """Return the mean difference over the seeds of both, in a list; an empty one without any."""
    both = ours.keys() & theirs.keys()
    return [float(np.mean([ours[seed] - theirs[seed] for seed in both]))] if both else []


def _gaps(trainings: list[Trainings]) -> str:
    """The arms that steer beside a tuned cosine, and beside no callback at the default rate."""
    lines = [
        format_header("arm", "beside", "tasks", "cells", "median", "mean", "worst", "above 0.02")
    ]
    for arm in STEERED:
        for beside in ("tuned cosine, from all rates", "no callback, default rate"):
            for is_tuned in (False, True):
                cells: list[float] = []
                for each in trainings:
                    if (each.name in TUNED_ON) != is_tuned:
                        continue
                    if beside.startswith("no"):
                        cells += _minus(each.scores(arm), each.scores("none"))
                    else:
                        tuned = each.tuned_scores("cosine")
                        for factor in ARMS[arm].factors:
                            cells += _minus(each.scores(arm, factor), tuned)
                if cells:
                    kind = "the rule was tuned on" if is_tuned else "held out"
                    values = (np.median(cells), np.mean(cells), max(cells))
                    numbers = [f"{value:+.3f}" for value in values]
                    above = sum(value > 0.02 for value in cells)
                    lines.append(format_row(arm, beside, kind, len(cells), *numbers, above))
    return "\n".join(lines)


def _ranks(trainings: list[Trainings]) -> str:
    """Mean ranks over tasks and initial rates, of the arms that have all of a cell's."""
    arms = [
        arm for arm in ARMS if any(row["arm"] == arm for each in trainings for row in each.rows)
    ]
    arms = [arm for arm in arms if arm != "unlimited"]
    factors = [
        f for f in FACTORS if all(f in ARMS[arm].factors for arm in arms if arm not in FIXED)
    ]
    ranks: dict[str, list[float]] = {arm: [] for arm in arms}
    for each in trainings:
        for factor in factors:
            scores = {arm: each.scores(arm, factor) for arm in arms}
            if not all(scores.values()):
                continue
            means = np.array([np.mean(list(scores[arm].values())) for arm in arms])
            for arm, mean in zip(arms, means, strict=True):
                below, ties = np.sum(means < mean), np.sum(means == mean)
                ranks[arm].append(float(below + (ties + 1) / 2))
    cells = len(ranks[arms[0]])
    if not cells:
        return ""
    text = ", ".join(f"{factor:g}" for factor in sorted(factors))
    lines = [format_header(f"arm, from {text} times the default rate ({cells} cells)", "mean rank")]
    for arm in sorted(arms, key=lambda arm: np.mean(ranks[arm])):
        lines.append(format_row(NAMES.get(arm, arm), format_mean(ranks[arm], ".2f")))
    return "\n".join(lines)


def _speeds(trainings: list[Trainings]) -> str:
    """Share of the steps until the loss is reached that the default rate ends with."""
    lines = []
    for arm in ("qan", "slope"):
        shares: list[float] = []
        for each in trainings:
            ends = {row["seed"]: row.get("val_losses") for row in each.of("none", 1.0)}
            for row in each.of(arm, 1.0):
                if ends.get(row["seed"]) and row.get("val_losses"):
                    shares.append(_share(row["val_losses"], ends[row["seed"]][-1]))
        if shares:
            reached = sum(share <= 1.0 for share in shares)
            median = f"{np.median(shares):.2f}"
            lines.append(format_row(NAMES.get(arm, arm), median, f"{reached} of {len(shares)}"))
    head = format_header("steps to no callback's last validation loss", "share (median)", "reached")
    return "\n".join([head, *lines]) if lines else ""


def _share(losses: Iterable[float], target: float) -> float:
    """The share of a training after which a loss is reached; 2 where it never is."""
    found = list(losses)
    place = next((n for n, loss in enumerate(found) if loss <= target), None)
    return 2.0 if place is None else (place + 1) / len(found)
