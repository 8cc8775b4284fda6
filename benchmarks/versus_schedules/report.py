"""Lines of trainings → tables."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.records import Row, read_rows
from benchmarks.common.scores import WORST
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan.experiments.statistics import steps_to

Rows = list[Row]


def score(row: dict[str, Any]) -> float:
    """log of the final validation loss, at most `WORST`."""
    loss = row["val_loss"]
    return min(math.log(max(loss, 1e-12)), WORST) if math.isfinite(loss) else WORST


def by_rate(rows: Rows, arm: str) -> dict[float, dict[int, float]]:
    """rate → seed → score of an arm."""
    found: dict[float, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row["arm"] == arm:
            found[row["rate"]][row["seed"]] = score(row)
    return dict(found)


def best_rate(rows: Rows, arm: str) -> float:
    """The rate with the lowest mean score."""
    return min(by_rate(rows, arm).items(), key=lambda item: np.mean(list(item[1].values())))[0]


def _at(rows: Rows, arm: str, rate: float) -> dict[int, float]:
    if arm == "adam":
        rate = 0.001
    for found, scores in by_rate(rows, arm).items():
        if np.isclose(found, rate):
            return scores
    return {}


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> str:
    paired = [ours[seed] - theirs[seed] for seed in sorted(ours) if seed in theirs]
    return format_mean(paired, "+.3f")


def tables(folder: Path, factors: Sequence[float]) -> str:
    """All tables as Markdown."""
    tasks = {path.stem: read_rows(path) for path in sorted(folder.glob("*.jsonl"))}
    tasks = {name: rows for name, rows in tasks.items() if by_rate(rows, "qan")}
    parts = [
        _robustness(tasks, factors),
        _ranks(tasks, factors),
        _speed(tasks, factors),
        _controls(tasks, factors),
    ]
    return "\n\n".join(parts)


def replace_tables(text: str, tables: str) -> str:
    """The text of RESULTS.md with these tables in place of its own, from the first to the last."""
    first, last = (
        [line for line in tables.splitlines() if line.startswith("## ")][place] for place in (0, -1)
    )
    start = text.index(first)
    behind = text.index("\n## ", text.index(last) + 1)
    return f"{text[:start]}{tables}\n{text[behind:]}"


def _starts(factors: Sequence[float]) -> list[str]:
    return [f"QAN from {factor:.3g}×" for factor in factors]


def _robustness(tasks: dict[str, Rows], factors: Sequence[float]) -> str:
    lines = [
        "## Robustness: log validation loss, and difference to the tuned cosine (paired, 95 %)",
        format_header("task", "tuned constant (rate)", "tuned cosine (rate)", *_starts(factors)),
    ]
    differences, worst, seeds = [], -math.inf, set()
    for name, rows in tasks.items():
        constant, cosine = best_rate(rows, "constant"), best_rate(rows, "cosine")
        tuned = _at(rows, "cosine", cosine)
        cells = []
        for factor in factors:
            ours = _at(rows, "qan", constant * factor)
            cells.append(f"{np.mean(list(ours.values())):.3f}, {_difference(ours, tuned)}")
            differences.append(np.mean([ours[s] - tuned[s] for s in ours]))
            worst = max(worst, *(ours[s] - tuned[s] for s in ours))
            seeds.add(len(ours))
        lowest = np.mean(list(_at(rows, "constant", constant).values()))
        best = (f"{lowest:.3f} ({constant:g})", f"{np.mean(list(tuned.values())):.3f} ({cosine:g})")
        lines.append(format_row(name, *best, *cells))
    lines.append(
        f"\nMedian difference over tasks and rates {np.median(differences):+.3f}, mean "
        f"{np.mean(differences):+.3f}; the worst single training {worst:+.3f}. "
        f"{len(tasks)} tasks, {' or '.join(map(str, sorted(seeds)))} seeds."
    )
    return "\n".join(lines)


def _ranks(tasks: dict[str, Rows], factors: Sequence[float]) -> str:
    arms = sorted({row["arm"] for rows in tasks.values() for row in rows} - {"shuffled"})
    ranks: dict[str, list[float]] = {arm: [] for arm in arms}
    means: dict[str, list[float]] = {arm: [] for arm in arms}
    for rows in tasks.values():
        constant = best_rate(rows, "constant")
        for factor in factors:
            scores = {arm: _at(rows, arm, constant * factor) for arm in arms}
            if not all(scores.values()):
                continue
            mean = {arm: float(np.mean(list(values.values()))) for arm, values in scores.items()}
            for arm in arms:
                below = sum(mean[other] < mean[arm] for other in arms)
                ties = sum(mean[other] == mean[arm] for other in arms)
                ranks[arm].append(below + (ties + 1) / 2)
                means[arm].append(mean[arm])
    lines = [
        "## Zero-shot rank: each arm from the same initial rates",
        format_header("arm", "mean rank", "mean log validation loss"),
    ]
    for arm in sorted(arms, key=lambda arm: np.mean(ranks[arm])):
        lines.append(format_row(arm, format_mean(ranks[arm], ".2f"), f"{np.mean(means[arm]):.3f}"))
    return "\n".join(lines)


def _speed(tasks: dict[str, Rows], factors: Sequence[float]) -> str:
    lines = [
        "## Speed: steps to the loss that the tuned constant rate ends with, as a share of its own",
        format_header("task", "tuned constant", "tuned cosine", *_starts(factors)),
    ]
    for name, rows in tasks.items():
        constant, cosine = best_rate(rows, "constant"), best_rate(rows, "cosine")
        ends = {
            row["seed"]: row["val_loss"]
            for row in rows
            if row["arm"] == "constant" and np.isclose(row["rate"], constant)
        }
        target = float(np.exp(np.mean(np.log(list(ends.values())))))
        cells = []
        plays = [("constant", constant), ("cosine", cosine)]
        plays += [("qan", constant * factor) for factor in factors]
        for arm, rate in plays:
            steps = [
                steps_to(target, row["steps"], row["curve"])
                for row in rows
                if row["arm"] == arm and np.isclose(row["rate"], rate)
            ]
            reached = np.isfinite(steps).sum()
            # The lower of the two middle ones: a mean with "never" would be no number.
            cells.append((sorted(steps)[(len(steps) - 1) // 2], f"{reached} of {len(steps)}"))
        # Where the constant rate itself does not get there, the whole training is the measure.
        own = cells[0][0] if np.isfinite(cells[0][0]) else rows[0]["steps"][-1]
        text = [
            f"{steps / own:.2f} ({reached})" if np.isfinite(steps) else f"never ({reached})"
            for steps, reached in cells
        ]
        lines.append(format_row(name, *text))
    return "\n".join(lines)


def _controls(tasks: dict[str, Rows], factors: Sequence[float]) -> str:
    lines = [
        "## Controls: QAN minus the same actions at random, and minus itself with foreign states",
        format_header(
            "task", *(f"{kind} {f:.3g}×" for kind in ("random", "shuffled") for f in factors)
        ),
    ]
    for name, rows in tasks.items():
        constant = best_rate(rows, "constant")
        cells = [
            _difference(_at(rows, "qan", constant * f), _at(rows, arm, constant * f))
            for arm in ("random", "shuffled")
            for f in factors
        ]
        lines.append(format_row(name, *cells))
    return "\n".join(lines)
