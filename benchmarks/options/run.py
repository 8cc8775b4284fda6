"""Options beside flat actions: does a DQN that learns from nothing do better with them?

    python benchmarks/options/run.py

On digits, with the settings of `benchmarks/arms`: for each learning seed one agent learns with the
preset `default` and one with `options`, over as many trainings from the same weights, batches and
initial rates. Then each is evaluated greedily and frozen, beside random choices from its actions,
on seeds that no training episode had. An interrupted run resumes.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import machine
from benchmarks.common.records import Row, read_rows
from benchmarks.common.tables import format_header, format_interval, format_mean, format_row
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.experiments.statistics import DIVERGED_LOG_LOSS
from keras_qan.utils import progress

_SEEDS = flags.DEFINE_list("seeds", ["0", "1000", "2000"], "of the learning")
_EPISODES = flags.DEFINE_integer("episodes", 100, "trainings that an agent learns from", 1)
_EVALUATIONS = flags.DEFINE_integer("eval_seeds", 5, "unseen seeds of each arm", 1)
_RUNS = flags.DEFINE_string("runs", "runs/benchmarks/options", "where the runs are kept")

PRESETS = ("default", "options")
RATES = (0.002, 0.03, 0.15)


def experiment(preset: str, seed: int) -> LearningRateExperiment:
    """Return a learning run and its evaluation."""
    directory = Path(_RUNS.value) / f"{preset}-seed{seed}"
    return LearningRateExperiment(
        dataset="digits",
        model="cnn",
        batch_size=32,
        epochs=8,
        steps_per_execution=5,
        preset=preset,
        episodes=_EPISODES.value,
        learning_rate=RATES,
        learning_rate_spread=1.5,
        arms=("qan", "random"),
        eval_seeds=_EVALUATIONS.value,
        seed=seed,
        directory=str(directory),
        resume=(directory / "flags.txt").exists(),
    )


def log_loss(row: Row) -> float:
    """Return the log validation loss of an evaluation; log 10 where it diverged."""
    loss = row.get("val_loss")
    if row.get("diverged") or loss is None or not 0.0 < loss < math.exp(DIVERGED_LOG_LOSS):
        return DIVERGED_LOG_LOSS
    return math.log(loss)


def evaluations(seed: int) -> dict[tuple[str, str, float], np.ndarray]:
    """Return the log losses of a learning seed by preset, arm and rate, in the order of seeds."""
    found: dict[tuple[str, str, float], dict[int, float]] = {}
    for preset in PRESETS:
        rows = read_rows(Path(_RUNS.value) / f"{preset}-seed{seed}" / "episodes.jsonl")
        for row in rows:
            if row["phase"] == "evaluate":
                rate = min(RATES, key=lambda one: abs(math.log(one / row["initial_learning_rate"])))
                found.setdefault((preset, row["arm"], rate), {})[row["seed"]] = log_loss(row)
    return {key: np.array([losses[s] for s in sorted(losses)]) for key, losses in found.items()}


def table(seeds: list[int]) -> str:
    """Return the comparison as Markdown: a row for each rate and learning seed, and over all."""
    columns = [
        "initial rate",
        "learning seed",
        "flat",
        "options",
        "flat, random",
        "options, random",
    ]
    lines = [format_header(*columns, "options minus flat, learned", "95 %")]
    by_seed = {seed: evaluations(seed) for seed in seeds}
    arms = [(preset, arm) for arm in ("qan", "random") for preset in PRESETS]
    for rate in (*RATES, None):
        rates = RATES if rate is None else (rate,)
        for chosen in [*([seed] for seed in seeds if len(seeds) > 1), seeds]:
            means = [
                np.concatenate([by_seed[seed][preset, arm, r] for seed in chosen for r in rates])
                for preset, arm in arms
            ]
            gap = means[1] - means[0]
            lines.append(
                format_row(
                    "all" if rate is None else f"{rate:g}",
                    "all" if chosen == seeds else chosen[0],
                    *(format_mean(one, ".2f") for one in means),
                    f"{gap.mean():+.2f}",
                    format_interval(gap, "+.2f"),
                )
            )
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Learn and evaluate what is missing, then print the table."""
    seeds = [int(seed) for seed in _SEEDS.value]
    for seed in seeds:
        for preset in PRESETS:
            experiment(preset, seed).run(progress.for_terminal())
    print(table(seeds))
    print(f"\n{machine.describe()}.")


if __name__ == "__main__":
    app.run(main)
