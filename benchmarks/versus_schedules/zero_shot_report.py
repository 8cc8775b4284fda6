"""Lines of `zero_shot.py` → tables."""

from __future__ import annotations

import numpy as np
from fits import ARMS, FACTORS, FAR_FACTORS, STEERED
from more_tasks import DEFAULT_RATES, TUNED_ON

from benchmarks.common.records import Row
from benchmarks.common.scores import log_score
from benchmarks.common.tables import format_header, format_mean, format_row

Scores = dict[int, float]

#: Rates of which a schedule has to be the best for it to count as tuned.
FEWEST_RATES = 3

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
    parts = [part(trainings) for part in (_losses, _gaps, _far, _ranks, _speeds)]
    return "\n\n".join([f"## {steps:,} steps", *filter(None, parts)])


def _text(scores: Scores) -> str:
    return f"{np.mean(list(scores.values())):.3f}" if scores else "–"


def _losses(trainings: list[Trainings]) -> str:
    """Mean log test losses."""
    arms = {row["arm"] for each in trainings for row in each.rows}
    columns = [(arm, 1.0) for arm in ("none", "plateau", *FIXED) if arm in arms]
    steered = [(arm, f) for arm in STEERED if arm in arms for f in sorted(ARMS[arm].factors)]
    steered = [(arm, f) for arm, f in steered if any(each.of(arm, f) for each in trainings)]
    tuned = [arm for arm in ("cosine", "one_cycle") if any(each.tuned[arm] for each in trainings)]
    heads = [arm for arm, _ in columns]
    heads += [f"tuned {arm} (rate)" for arm in tuned]
    heads += [f"{arm} {factor:g}×" for arm, factor in steered]
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
    columns = ["policy", "tasks", "beside", "cells", "median", "mean", "worst", "above 0.02"]
    lines = [format_header(*columns)]
    held_out = [each for each in trainings if each.name not in TUNED_ON]
    for arm in STEERED:
        for kind, chosen in (("all", trainings), ("not those the rule was tuned on", held_out)):
            beside_cosine = [
                gap
                for each in chosen
                for factor in ARMS[arm].factors
                for gap in _minus(each.scores(arm, factor), each.tuned_scores("cosine"))
            ]
            beside_none = [
                gap for each in chosen for gap in _minus(each.scores(arm), each.scores("none"))
            ]
            for beside, gaps in (
                ("tuned cosine, from each rate", beside_cosine),
                ("no callback, from the default rate", beside_none),
            ):
                if gaps:
                    values = (np.median(gaps), np.mean(gaps), max(gaps))
                    numbers = [f"{value:+.3f}" for value in values]
                    above = sum(gap > 0.02 for gap in gaps)
                    lines.append(format_row(arm, kind, beside, len(gaps), *numbers, above))
    return "\n".join(lines)


def _far(trainings: list[Trainings]) -> str:
    """The callback from rates that are far off: minus its own end from the default rate."""
    found = [each for each in trainings if any(each.of("qan", f) for f in FAR_FACTORS)]
    if not found:
        return ""
    heads = [f"qan {factor:g}×" for factor in FAR_FACTORS]
    lines = [format_header("minus qan 1×", "seeds", *heads, "none 1×")]
    columns: list[list[float]] = [[] for _ in (*FAR_FACTORS, 1.0)]
    for each in found:
        own = each.scores("qan")
        others = [*(each.scores("qan", f) for f in FAR_FACTORS), each.scores("none")]
        seeds = own.keys() & set().union(*(scores.keys() for scores in others[:-1]))
        gaps = [_minus(scores, {seed: own[seed] for seed in seeds}) for scores in others]
        for column, gap in zip(columns, gaps, strict=True):
            column += gap
        cells = [f"{gap[0]:+.3f}" if gap else "–" for gap in gaps]
        lines.append(format_row(each.name, len(seeds), *cells))
    medians = [f"{np.median(column):+.3f}" if column else "–" for column in columns]
    lines.append(format_row("median", "", *medians))
    return "\n".join(lines)


def _ranks(trainings: list[Trainings]) -> str:
    """Mean ranks over tasks and initial rates, on the seeds that all arms have."""
    arms = [
        arm for arm in ARMS if any(row["arm"] == arm for each in trainings for row in each.rows)
    ]
    arms = [arm for arm in arms if arm != "unlimited"]
    factors = [
        f for f in FACTORS if all(f in ARMS[arm].factors for arm in arms if arm not in FIXED)
    ]
    ranks: dict[str, list[float]] = {arm: [] for arm in arms}
    losses: dict[str, list[float]] = {arm: [] for arm in arms}
    used: set[float] = set()
    for each in trainings:
        for factor in factors:
            scores = {arm: each.scores(arm, factor) for arm in arms}
            seeds = set.intersection(*(set(found) for found in scores.values()))
            if not seeds:
                continue
            used.add(factor)
            means = np.array([np.mean([scores[arm][seed] for seed in seeds]) for arm in arms])
            for arm, mean in zip(arms, means, strict=True):
                below, ties = np.sum(means < mean), np.sum(means == mean)
                ranks[arm].append(float(below + (ties + 1) / 2))
                losses[arm].append(float(mean))
    cells = len(ranks[arms[0]])
    if not cells:
        return ""
    text = ", ".join(f"{factor:g}" for factor in sorted(used))
    lines = [
        f"Each arm from {text} times the default rate, over {cells} cells (95 % over the cells):\n",
        format_header("arm", "mean rank", "mean log test loss"),
    ]
    for arm in sorted(arms, key=lambda arm: np.mean(ranks[arm])):
        lines.append(format_row(arm, format_mean(ranks[arm], ".2f"), f"{np.mean(losses[arm]):.3f}"))
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
            lines.append(format_row(arm, median, f"{reached} of {len(shares)}"))
    head = format_header("steps to no callback's last validation loss", "share (median)", "reached")
    return "\n".join([head, *lines]) if lines else ""


def _share(losses: list[float | None], target: float | None) -> float:
    """The share of a training after which a loss is reached; 2 where it never is."""
    goal = log_score(target)
    place = next((n for n, loss in enumerate(losses) if log_score(loss) <= goal), None)
    return 2.0 if place is None else (place + 1) / len(losses)
