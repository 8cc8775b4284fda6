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
from keras_qan.experiments.statistics import interval
from keras_qan.models.plain import layer_names, network
from keras_qan.rally import GrowthRule, cost_to, multiply_adds

BATCH = 64
#: Looks that are averaged before a target counts as reached.
SMOOTHED = 3
#: The last rate of all trainings, as a share of the first.
END = 0.02


@dataclass(frozen=True)
class Task:
    """A task; all arms of it have Adam, batches of 64, and a rate that falls linearly to its end.

    Args:
      dataset: its name.
      looked_at: validation examples that are looked at.
      widths: of the rally's networks.
      shares: of its stages' examples.
      passes: of its stages over these.
      nothing: passes from nothing.
      rate: the rally's first.
      full_rate: the first of the full network alone.
      look_every: steps.
    """

    dataset: str
    looked_at: int
    widths: tuple[tuple[int, ...], ...]
    shares: tuple[float, ...]
    passes: tuple[float, ...]
    nothing: float
    rate: float
    full_rate: float
    look_every: int


_MIDDLE, _FULL = (32, 64, 128), (64, 128, 256)
_STAGES = ((_MIDDLE, _MIDDLE, _FULL), (0.5, 1.0, 1.0))
#: The full network's rate was chosen on seed 100 (see RESULTS.md); the rally's was not.
TASKS = {
    "mnist": Task("mnist", 3_000, *_STAGES, (1, 2.2, 0.25), 2, 2e-3, 2e-3, 96),
    "cifar10": Task("cifar10", 3_000, *_STAGES, (1, 2.7, 0.123), 2, 2e-3, 1e-3, 80),
}

ARMS = (
    "from nothing",
    "from nothing, half as long",
    "rally",
    "data growth",
    "network growth",
    "random padding",
    "middle network alone",
    "rally, by the rule",
)


def stages(task: Task, arm: str, splits: data.Splits) -> tuple[tuple[int, ...], list[Stage]]:
    """The first network's widths, and the stages of an arm."""
    full, names = task.widths[-1], layer_names(task.widths[-1])
    if arm.startswith("from nothing"):
        passes = task.nothing if arm == "from nothing" else task.nothing / 2
        return full, falling(task, task.full_rate, [(1.0, passes, full)])
    if arm == "data growth":
        # As many steps as from nothing: an eighth of them on half of the examples.
        first = task.nothing / 8
        planned = [(0.5, 2 * first, full), (1.0, task.nothing - first, full)]
        return full, falling(task, task.full_rate, planned)
    planned = list(zip(task.shares, task.passes, task.widths, strict=True))
    if arm == "middle network alone":
        # At the rally's cost.
        middle = task.widths[-2]
        cost = sum(share * passes * price(splits, widths) for share, passes, widths in planned)
        return middle, falling(task, task.rate, [(1.0, cost / price(splits, middle), middle)])
    if arm == "network growth":
        # All examples at once, and as many steps in each stage.
        planned = [(1.0, share * passes, widths) for share, passes, widths in planned]
    if arm == "rally, by the rule":
        # The rule ends the stages before the last, which therefore keep their rate.
        found = [
            Stage(share, 2 * passes, dict(zip(names, widths, strict=True)), learning_rate=task.rate)
            for share, passes, widths in planned[:-1]
        ]
        share, passes, widths = planned[-1]
        grown = dict(zip(names, widths, strict=True))
        last = Stage(share, 2 * passes, grown, (), task.rate / 4, task.rate * END)
        return task.widths[0], [*found, last]
    return task.widths[0], falling(task, task.rate, planned)


def falling(
    task: Task, rate: float, planned: list[tuple[float, float, tuple[int, ...]]]
) -> list[Stage]:
    """Stages of (share, passes, widths) through which the rate falls linearly in the steps."""
    steps = [share * passes for share, passes, _ in planned]
    names = layer_names(task.widths[-1])
    rates = [
        rate * (1.0 - (1.0 - END) * sum(steps[:n]) / sum(steps)) for n in range(len(steps) + 1)
    ]
    return [
        Stage(share, passes, dict(zip(names, widths, strict=True)), (), rates[n], rates[n + 1])
        for n, (share, passes, widths) in enumerate(planned)
    ]


def price(splits: data.Splits, widths: tuple[int, ...]) -> int:
    """Multiply-adds of training on one example."""
    return multiply_adds(network(splits.input_shape, splits.num_classes, widths, 0)).training


def measured(name: str, task: Task, splits: data.Splits, arm: str, seed: int) -> dict[str, Any]:
    """One run of one arm."""
    first, found = stages(task, arm, splits)
    held_out = data.Examples(
        splits.validation.x[: task.looked_at], splits.validation.y[: task.looked_at]
    )

    def build_model(seed: int) -> keras.Model:
        model = network(splits.input_shape, splits.num_classes, first, seed)
        model.compile(
            keras.optimizers.Adam(found[0].learning_rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
            steps_per_execution=16,
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
        "task": name, "seed": seed, "arm": arm, "stages": report.stages,
        "looks": report.looks, "test": report.test,
    }  # fmt: skip


def run(path: Path, tasks: list[str], seeds: list[int], arms: list[str]) -> None:
    """Measures what is missing."""
    there = {(row["task"], row["seed"], row["arm"]) for row in rows(path)}
    for name in tasks:
        task = TASKS[name]
        splits = data.load(task.dataset)
        for seed in seeds:
            for arm in arms:
                if (name, seed, arm) in there:
                    continue
                keras.utils.clear_session()
                row = measured(name, task, splits, arm, seed)
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
    heads = ("arm", "seeds", "cost in all", "reached", "cost to the target",
             "with the last network", "test accuracy", "minus from nothing's")  # fmt: skip
    print(f"\n{name}: costs over from nothing's to the target, 95 % intervals\n")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for arm in [a for a in ARMS if any(row["arm"] == a for row in own)]:
        of_arm = [row for row in own if row["arm"] == arm and row["seed"] in nothing]
        pairs = [(row, nothing[row["seed"]]) for row in of_arm]
        compared = [against(row, other) for row, other in pairs]
        accuracies = [row["test"]["accuracy"] for row, _ in pairs]
        gaps = [row["test"]["accuracy"] - other["test"]["accuracy"] for row, other in pairs]
        reached = sum(math.isfinite(one["to the target"]) for one in compared)
        cells = (
            arm, str(len(of_arm)), spread([one["in all"] for one in compared], ".2f"),
            f"{reached} of {len(of_arm)}",
            spread([one["to the target"] for one in compared], ".2f"),
            spread([one["with the last network"] for one in compared], ".2f"),
            spread(accuracies, ".2%"), "" if arm == "from nothing" else spread(gaps, "+.2%"),
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |")


def against(row: dict[str, Any], nothing: dict[str, Any]) -> dict[str, float]:
    """An arm's costs over those that from nothing had until it was where it ended.

    An arm that had no look at the target has infinite costs; an arm with the target in an early
    stage, before its last network was there, has it "with the last network" at that one's first
    look that is above it.
    """
    looks, goal = smoothed(row["looks"]), smoothed(nothing["looks"])
    target = goal[-1]["val_accuracy"]
    unit = cost_to(goal, target)
    last = [look for look in looks if look["stage"] == looks[-1]["stage"]]
    return {
        "in all": row["stages"][-1]["multiply_adds_so_far"] / unit,
        "to the target": cost_to(looks, target) / unit,
        "with the last network": cost_to(last, target) / unit,
    }


def spread(values: list[float], form: str) -> str:
    """The mean and its interval, of those that are finite."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "–"
    low, high = interval(finite)
    ends = f" ({low:{form}} … {high:{form}})" if math.isfinite(low) and low < high else ""
    return f"{np.mean(finite):{form}}{ends}"


def draw(found: list[dict[str, Any]], folder: Path) -> None:
    """Writes accuracy against cost, the mean of each arm and its runs, a figure for each task."""
    from keras_qan.plots.figures import save
    from keras_qan.plots.rally import cost_curve, cost_figure, mean_curve

    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(row["task"] for row in found):
        own = [row for row in found if row["task"] == name]
        named = ("rally", *(arm for arm in ARMS if arm != "rally"))
        arms = [arm for arm in named if any(row["arm"] == arm for row in own)]
        curves = {
            arm: [cost_curve(arm, row["looks"]) for row in own if row["arm"] == arm] for arm in arms
        }
        means = [mean_curve(arm, runs) for arm, runs in curves.items()]
        behind = [run for arm in ("rally", "from nothing") for run in curves.get(arm, [])]
        seeds = len({row["seed"] for row in own})
        note = (
            f"{name}, mean of {seeds} seeds; a mark where a stage begins, thin lines: single runs"
        )
        save(cost_figure(means, behind, note=note), str(folder / f"{name}.png"))
