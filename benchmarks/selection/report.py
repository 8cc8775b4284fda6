"""Results as Markdown."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from learned import without_learning

from benchmarks.common.tables import format_header, format_interval, format_row

#: The trainings of an arm, by seed.
Runs = dict[int, dict[str, Any]]

#: A fixed accuracy: this share of what the uniform arm ends with, on average over seeds.
SHARE_OF_UNIFORM = 0.99


def pipeline_table(rows: list[dict[str, Any]]) -> str:
    """Ratios of rates, turn by turn, to the baseline's."""
    columns = (
        "data",
        "pipeline",
        "batches/s",
        "ratio",
        "95 %",
        "CPU ms a batch",
        "bytes an example",
    )
    lines = [format_header(*columns)]
    for name in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == name]
        arms = list(dict.fromkeys(row["arm"] for row in own))
        rates = {arm: [row["rate"] for row in own if row["arm"] == arm] for arm in arms}
        reference = next(arm for arm in arms if arm.startswith("shuffle"))
        for arm in [reference, *[arm for arm in arms if arm != reference]]:
            ratios = np.array(rates[arm]) / np.array(rates[reference])
            kept = next(row["bytes"] for row in own if row["arm"] == arm)
            cpu = 1_000 * np.median([row["cpu"] for row in own if row["arm"] == arm])
            figures = (f"{np.median(rates[arm]):.0f}", f"{np.median(ratios):.2f}")
            memory = "" if kept is None else f"{kept:.0f}"
            ends = format_interval(ratios, ".2f")
            lines.append(format_row(name, arm, *figures, ends, f"{cpu:.2f}", memory))
    return "\n".join(lines)


def passes_to(row: dict[str, Any], target: float) -> float:
    """Examples seen until an accuracy, in passes over as many as there are."""
    reached = np.flatnonzero(np.array(row["accuracy"]) >= target)
    epochs = reached[0] + 1 if reached.size else np.inf
    return float(epochs * row["examples_an_epoch"] / row["examples"])


def groups(rows: list[dict[str, Any]]) -> dict[str, dict[str, Runs]]:
    """The trainings of each task, length and schedule, by arm and seed."""
    found: dict[str, dict[str, Runs]] = {}
    for row in rows:
        title = f"{row['task']}, {row['passes']:g} passes, {row['schedule']} rate"
        found.setdefault(title, {}).setdefault(row["arm"], {})[row["seed"]] = row
    return found


def training_table(rows: list[dict[str, Any]]) -> str:
    """Each arm beside the uniform one, paired by seed."""
    columns = ("task", "arm", "seeds", "passes to target", "ratio to uniform", "95 %",
               "test accuracy", "minus uniform", "95 %", "seconds", "CPU seconds")  # fmt: skip
    lines = [format_header(*columns)]
    for title, by_arm in groups(rows).items():
        uniform = by_arm.get("uniform", {})
        if not uniform:
            continue
        target = SHARE_OF_UNIFORM * np.mean([row["accuracy"][-1] for row in uniform.values()])
        for arm, runs in by_arm.items():
            seeds = sorted(runs.keys() & uniform.keys())
            reached = np.array([passes_to(runs[seed], target) for seed in seeds])
            beside = np.array([passes_to(uniform[seed], target) for seed in seeds])
            both = np.isfinite(reached) & np.isfinite(beside)
            ratios = reached[both] / beside[both]
            gains = 100 * np.array(
                [runs[s]["test_accuracy"] - uniform[s]["test_accuracy"] for s in seeds]
            )
            accuracy = 100 * np.mean([runs[seed]["test_accuracy"] for seed in seeds])
            lines.append(
                format_row(
                    title,
                    arm,
                    len(seeds),
                    _passes(reached),
                    *_with_interval(ratios, ".2f"),
                    f"{accuracy:.2f} %",
                    *_with_interval(gains, "+.2f"),
                    _times(runs, uniform, "seconds"),
                    _times(runs, uniform, "cpu"),
                )
            )
        note = f"*target: validation accuracy {100 * target:.2f} %*"
        lines.append(format_row("", note, *[""] * 9))
    return "\n".join(lines)


def learning_table(rows: list[dict[str, Any]]) -> str:
    """Arms with several learnings beside each other arm, in points of test accuracy."""
    columns = ("task", "arm", "seeds", "test accuracy", "each learning", "minus", "points", "95 %")
    lines = [format_header(*columns)]
    for title, by_arm in groups(rows).items():
        seeds = sorted(set.intersection(*(set(runs) for runs in by_arm.values())))
        scores: dict[str, list[list[float]]] = {}
        for arm, runs in by_arm.items():
            scores.setdefault(without_learning(arm)[0], []).append(
                [100 * runs[seed]["test_accuracy"] for seed in seeds]
            )
        for arm, other in itertools.permutations(scores, 2):
            own, beside = np.array(scores[arm]), np.array(scores[other])  # [learnings, seeds]
            if len(own) == 1 or not seeds:
                continue
            each = ", ".join(f"{mean:.1f}" for mean in own.mean(axis=1))
            low, high = interval_over_learnings(own, beside)
            gain = (other, f"{own.mean() - beside.mean():+.2f}", f"{low:+.2f} … {high:+.2f}")
            lines.append(format_row(title, arm, len(seeds), f"{own.mean():.2f} %", each, *gain))
    return "\n".join(lines) if len(lines) > 1 else ""


def interval_over_learnings(own: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The bootstrap 95 % interval of a difference of means, where learnings vary like seeds.

    Args:
      own: scores `[learnings, seeds]`; the seeds are common to all learnings, and to both arms.
      other: the other arm's, `[its learnings, seeds]`.

    Returns:
      Its lower and upper end: learnings of each arm, and the seeds, are drawn with replacement.
    """
    generator = np.random.default_rng(0)

    def drawn(scores: np.ndarray, seeds: np.ndarray) -> float:
        rows = generator.integers(len(scores), size=len(scores))
        return scores[rows][:, seeds].mean()

    count = own.shape[1]
    gains = [
        drawn(own, seeds) - drawn(other, seeds)
        for seeds in generator.integers(count, size=(4_000, count))
    ]
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def _times(runs: Runs, uniform: Runs, key: str) -> str:
    """The median over seeds, and that of the ratios to the uniform arm's turn of the same seed."""
    seeds = sorted(runs.keys() & uniform.keys())
    own, beside = (np.array([r[seed][key] for seed in seeds]) for r in (runs, uniform))
    return f"{np.median(own):.1f} (× {np.median(own / beside):.2f})"


def _passes(reached: np.ndarray) -> str:
    missed = int((~np.isfinite(reached)).sum())
    known = reached[np.isfinite(reached)]
    text = f"{known.mean():.2f}" if known.size else "never"
    return f"{text} ({missed} of {len(reached)} never)" if missed and known.size else text


def _with_interval(values: np.ndarray, form: str) -> tuple[str, str]:
    mean = f"{values.mean():{form}}" if values.size else ""
    return mean, format_interval(values, form)
