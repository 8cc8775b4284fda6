"""Rally against training from nothing, data growth, network growth, and random padding."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qan import Rally, Stage, data
from keras_qan.comparison import interval
from keras_qan.rally import GrowthRule, cost_to
from keras_qan.rally.networks import layer_names, network

BATCH = 64
#: Looks that are averaged before a target counts as reached.
SMOOTHED = 3


@dataclass(frozen=True)
class Task:
    """A task.

    Args:
      dataset: its name.
      fraction: of the training examples.
      looked_at: validation examples that are looked at.
      rate: Adam's, constant; the best of several for training from nothing (see RESULTS.md).
      epochs: of training from nothing.
      widths: of the stages' networks.
      shares: of the stages' examples.
      passes: of the stages.
      look_every: steps.
    """

    dataset: str
    fraction: float
    looked_at: int
    rate: float
    epochs: int
    widths: tuple[tuple[int, ...], ...]
    shares: tuple[float, ...]
    passes: tuple[int, ...]
    look_every: int


TASKS = {
    "mnist": Task(
        "mnist", 0.2, 2_000, 2e-3, 6, ((4, 8, 16), (8, 16, 32), (16, 32, 64)), (0.5, 0.75, 1.0),
        (6, 3, 3), 39,
    ),
    "cifar10": Task(
        "cifar10", 0.24, 2_000, 2e-3, 8, ((4, 8, 16), (8, 16, 32), (16, 32, 64)), (0.5, 0.75, 1.0),
        (8, 4, 4), 39,
    ),
}  # fmt: skip

ARMS = ("from nothing", "rally", "rally, by the rule", "data growth", "network growth",
        "random padding")  # fmt: skip


def stages(task: Task, arm: str) -> tuple[tuple[int, ...], list[Stage]]:
    """The first network's widths, and the stages of an arm."""
    full, names = task.widths[-1], layer_names(task.widths[-1])
    if arm == "from nothing":
        return full, [Stage(1.0, task.epochs)]
    if arm == "data growth":
        # As many optimizer steps in each stage as the rally's.
        pairs = zip(task.shares, task.passes, strict=True)
        return full, [Stage(share, passes) for share, passes in pairs]
    shares = task.shares
    passes = list(task.passes)
    if arm == "network growth":
        # All examples at once; about as many steps in each stage.
        passes = [max(1, round(p * s)) for p, s in zip(task.passes, shares, strict=True)]
        shares = (1.0,) * len(shares)
    if arm == "rally, by the rule":
        passes = [4 * p for p in passes[:-1]] + passes[-1:]
    found = [
        Stage(share, p, dict(zip(names, widths, strict=True)))
        for share, p, widths in zip(shares, passes, task.widths, strict=True)
    ]
    return task.widths[0], found


def measured(task: Task, splits: data.Splits, arm: str, seed: int) -> dict[str, Any]:
    """One run of one arm."""
    first, found = stages(task, arm)
    held_out = data.Examples(
        splits.validation.x[: task.looked_at], splits.validation.y[: task.looked_at]
    )

    def build_model(seed: int) -> keras.Model:
        model = network(splits.input_shape, splits.num_classes, first, seed)
        model.compile(
            keras.optimizers.Adam(task.rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        return model

    rally = Rally(
        found,
        batch_size=BATCH,
        look_every=task.look_every,
        seed=seed,
        rule=GrowthRule() if "rule" in arm else None,
        new="random" if arm == "random padding" else "net2net",
    )
    report = rally.run(build_model, splits.train, held_out, splits.test)
    return {
        "task": task.dataset, "seed": seed, "arm": arm, "stages": report.stages,
        "looks": report.looks, "test": report.test,
    }  # fmt: skip


def run(path: Path, tasks: list[str], seeds: list[int], arms: list[str]) -> None:
    """Measures what is missing."""
    there = {(row["task"], row["seed"], row["arm"]) for row in rows(path)}
    for name in tasks:
        task = TASKS[name]
        splits = data.load(task.dataset, train_fraction=task.fraction)
        for seed in seeds:
            for arm in arms:
                if (name, seed, arm) in there:
                    continue
                keras.utils.clear_session()
                row = measured(task, splits, arm, seed)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                last = row["stages"][-1]
                print(
                    name, seed, arm, f"{last['val_accuracy']:.4f}",
                    f"{row['test']['accuracy']:.4f}",
                    f"{last['multiply_adds_so_far']:.3g}", f"{last['seconds_so_far']:.0f} s",
                    flush=True,
                )  # fmt: skip


def rows(path: Path) -> list[dict[str, Any]]:
    """What is measured."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def smoothed(looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Looks whose accuracy is the mean of the last few, the first of a stage left out."""
    own = [look for look in looks if look["look"] or look["stage"] == 1]
    values = [look["val_accuracy"] for look in own]
    return [
        look | {"val_accuracy": float(np.mean(values[max(0, n - SMOOTHED + 1) : n + 1]))}
        for n, look in enumerate(own)
    ]


def report(found: list[dict[str, Any]], name: str) -> None:
    """Prints the table of a task."""
    own = [row for row in found if row["task"] == name]
    nothing = {row["seed"]: row for row in own if row["arm"] == "from nothing"}
    print(
        "\n| arm | seeds | cost to the target | reached | cost / from nothing's to the target "
        "| test accuracy at the end | cost in all / from nothing's |"
    )
    print("|---" * 7 + "|")
    for arm in [a for a in ARMS if any(row["arm"] == a for row in own)]:
        of_arm = [row for row in own if row["arm"] == arm and row["seed"] in nothing]
        costs, ratios, whole = [], [], []
        for row in of_arm:
            other = nothing[row["seed"]]
            target = smoothed(other["looks"])[-1]["val_accuracy"]
            costs.append(cost_to(smoothed(row["looks"]), target))
            ratios.append(costs[-1] / cost_to(smoothed(other["looks"]), target))
            totals = [one["stages"][-1]["multiply_adds_so_far"] for one in (row, other)]
            whole.append(totals[0] / totals[1])
        reached = [r for r in ratios if math.isfinite(r)]
        accuracies = [row["test"]["accuracy"] for row in of_arm]
        low, high = interval(accuracies)
        cells = ["–", "–"]
        if reached:
            ends = interval(reached)
            cells[0] = f"{np.mean([c for c in costs if math.isfinite(c)]):.3g}"
            cells[1] = f"{np.mean(reached):.2f} ({ends[0]:.2f} … {ends[1]:.2f})"
        print(
            f"| {arm} | {len(of_arm)} | {cells[0]} | {len(reached)} of {len(of_arm)} | {cells[1]} "
            f"| {np.mean(accuracies):.4f} ({low:.4f} … {high:.4f}) | {np.mean(whole):.2f} |"
        )
