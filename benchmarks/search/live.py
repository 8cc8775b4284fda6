"""MetaQNN with and without warm starts and stopping, really trained; equal numbers of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan.data import load
from keras_qan.metaqnn import EpsilonSchedule, MetaQNN, QLearning, Recipe, Space, Stopping

ARMS = {
    "plain": {},
    "warm start": {"warm_start": True},
    "warm start and stopping": {"warm_start": True, "stopping": Stopping(0.9, 3)},
    "BatchNorm and skips": {"space": Space.residual_images(60_000)},
}


def run(folder: Path, dataset: str, seeds: int, models: int) -> None:
    """Runs every arm with every seed, and prints the table."""
    fraction = 1.0 if dataset == "digits" else 0.2
    splits = load(dataset, train_fraction=fraction)
    schedule = EpsilonSchedule(((1.0, models // 3), (0.5, models // 3), (0.1, 1)))
    found: dict[str, list[tuple[float, float, float, float]]] = {arm: [] for arm in ARMS}
    for seed in range(seeds):
        for arm, changed in ARMS.items():
            settings = {"space": Space.small_images(60_000)} | changed
            search = MetaQNN(
                settings.pop("space"), splits, folder / f"{arm}-{seed}".replace(" ", "_"), seed,
                QLearning(schedule), Recipe(stages=((3e-3, 4),)), **settings,
            )  # fmt: skip
            rows = search.run(models)
            first = [row.curve[0] for row in rows if row.curve]
            found[arm].append(
                (
                    1 - search.best(1)[0].score,
                    sum(row.seconds for row in rows),
                    float(np.mean(first)),
                    float(np.mean([row.relative is not None for row in rows])),
                )
            )
            print(f"{arm}, seed {seed}: {found[arm][-1]}", flush=True)
    columns = ("arm", "best error", "minus plain (95 %)", "after one epoch", "from a relative", "s")
    print("\n" + format_header(*columns))
    for arm, rows in found.items():
        errors = np.array([row[0] for row in rows])
        paired = 100 * (errors - np.array([row[0] for row in found["plain"]]))
        error, seconds, first, share = np.mean(rows, axis=0)
        print(
            format_row(
                arm,
                f"{100 * error:.2f} %",
                format_mean(paired, "+.2f"),
                f"{first:.1%}",
                f"{share:.0%}",
                f"{seconds:.0f}",
            )
        )
