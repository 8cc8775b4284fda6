"""Rally against training from nothing, data growth, network growth, and random padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.common.records import Records, Row
from benchmarks.common.steering import frozen
from benchmarks.common.tables import format_header, format_mean, format_row
from benchmarks.rally import within_budget
from keras_qan import QANCallback, Rally, Stage, data
from keras_qan.agents import RandomAgent
from keras_qan.models.plain import layer_names
from keras_qan.qan.policy import shipped
from keras_qan.rally import GrowthRule, RallyReport, cost_to, multiply_adds

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
      share_of_data: of the training examples. Defaults to all.
      is_within_budget: whether the arms are those of `within_budget`. Defaults to False.
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
    share_of_data: float = 1.0
    is_within_budget: bool = False


_MIDDLE, _FULL = (32, 64, 128), (64, 128, 256)
_STAGES = ((_MIDDLE, _MIDDLE, _FULL), (0.5, 1.0, 1.0))
#: Widths, shares and passes of tasks whose arms are in `within_budget`.
_WITHIN = ((within_budget.FULL,), (), ())
#: The full network's rate was chosen on seed 100 (see RESULTS.md); the rally's was not.
#: The headings of the tasks in RESULTS.md.
HEADINGS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "mnist_within_budget": "Within the budget, MNIST",
    "cifar10_within_budget": "Within the budget, CIFAR-10",
}

TASKS = {
    "mnist": Task("mnist", 3_000, *_STAGES, (1, 2.2, 0.25), 2, 2e-3, 2e-3, 96),
    "cifar10": Task("cifar10", 3_000, *_STAGES, (1, 2.7, 0.123), 2, 2e-3, 1e-3, 80),
    "mnist_within_budget": Task("mnist", 3_000, *_WITHIN, 6, 4e-3, 4e-3, 52, 0.2, True),
    "cifar10_within_budget": Task("cifar10", 3_000, *_WITHIN, 6, 2e-3, 2e-3, 52, 0.24, True),
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
    "one rate, by the rule of two looks",
    "one rate, by the rule",
    "rate by QAN",
    "rate by random actions",
)

#: Those of all tasks, in the order of the tables.
KNOWN_ARMS = tuple(dict.fromkeys((*ARMS, *within_budget.PLANS, *within_budget.ALTERNATIVES)))

#: The rules of the arms that have one. The first two look at two looks alone, whatever their noise.
RULES = {
    "rally, by the rule": GrowthRule(window=2, standard_errors=0.0),
    "one rate, by the rule of two looks": GrowthRule(window=2, standard_errors=0.0),
    "one rate, by the rule": GrowthRule(),
}


def arms_of(task: Task) -> tuple[str, ...]:
    """The arms that a task is measured with where none are named."""
    return tuple(within_budget.PLANS) if task.is_within_budget else ARMS


def plan_of(task: Task, arm: str) -> within_budget.Plan | None:
    """The arm's plan, where the task's are those of `within_budget`."""
    plans = within_budget.PLANS | within_budget.ALTERNATIVES
    return plans[arm] if task.is_within_budget else None


def stages(task: Task, arm: str, splits: data.Splits) -> tuple[tuple[int, ...], list[Stage]]:
    """The first network's widths, and the stages of an arm."""
    if (plan := plan_of(task, arm)) is not None:
        cost = task.nothing * price(splits, within_budget.FULL)
        planned = [
            (1.0, share * cost / price(splits, widths), widths)
            for share, widths in zip(plan.costs, plan.widths, strict=True)
        ]
        rate = task.full_rate if plan.widths[0] == within_budget.FULL else task.rate
        rates = [(rate * first, rate * last) for first, last in plan.rates]
        if plan.is_steered:
            rates = [(None, None)] * len(planned)
        return plan.widths[0], falling(rate, planned, rates)
    full, names = task.widths[-1], layer_names(task.widths[-1])
    if arm.startswith("from nothing"):
        passes = task.nothing if arm == "from nothing" else task.nothing / 2
        return full, falling(task.full_rate, [(1.0, passes, full)])
    if arm == "data growth":
        # As many steps as from nothing: an eighth of them on half of the examples.
        first = task.nothing / 8
        planned = [(0.5, 2 * first, full), (1.0, task.nothing - first, full)]
        return full, falling(task.full_rate, planned)
    planned = list(zip(task.shares, task.passes, task.widths, strict=True))
    if arm == "middle network alone":
        # At the rally's cost.
        middle = task.widths[-2]
        cost = sum(share * passes * price(splits, widths) for share, passes, widths in planned)
        return middle, falling(task.rate, [(1.0, cost / price(splits, middle), middle)])
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
    if arm.startswith(("one rate", "rate by")):
        return task.widths[0], [
            Stage(share, passes, dict(zip(names, widths, strict=True)))
            for share, passes, widths in planned
        ]
    return task.widths[0], falling(task.rate, planned)


def falling(
    rate: float,
    planned: list[tuple[float, float, tuple[int, ...]]],
    rates: Sequence[tuple[float | None, float | None]] = (),
) -> list[Stage]:
    """Stages of (share, passes, widths) through which the rate falls linearly in the steps.

    Args:
      rate: the first.
      planned: of the stages.
      rates: of the stages, from and to, where it is not to fall so. Defaults to none.
    """
    steps = [share * passes for share, passes, _ in planned]
    edges = [
        rate * (1.0 - (1.0 - END) * sum(steps[:n]) / sum(steps)) for n in range(len(steps) + 1)
    ]
    found, before = [], None
    for n, (share, passes, widths) in enumerate(planned):
        grown, deepened = within_budget.growth(before, widths)
        first, last = rates[n] if rates else edges[n : n + 2]
        found.append(Stage(share, passes, grown, deepened, first, last))
        before = widths
    return found


def price(splits: data.Splits, widths: tuple[int, ...]) -> int:
    """Multiply-adds of training on one example."""
    model = within_budget.build(splits.input_shape, splits.num_classes, widths, 0)
    return multiply_adds(model).training


def measure(name: str, task: Task, splits: data.Splits, arm: str, seed: int) -> Row:
    """One run of one arm, as a compact row."""
    first, found = stages(task, arm, splits)
    has_one_rate, is_steered = arm.startswith("one rate"), arm.startswith("rate by")
    held_out = data.Examples(
        splits.validation.x[: task.looked_at], splits.validation.y[: task.looked_at]
    )

    def build_model(seed: int) -> keras.Model:
        model = within_budget.build(splits.input_shape, splits.num_classes, first, seed)
        model.compile(
            keras.optimizers.Adam(found[0].learning_rate or task.rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
            # In several steps at once nothing is measured that QAN decides by.
            steps_per_execution=1 if is_steered else 16,
        )
        return model

    rally = Rally(
        found,
        batch_size=BATCH,
        look_every=task.look_every,
        seed=seed,
        rule=RULES.get(arm),
        new="random" if arm == "random padding" else "net2net",
        final_learning_rate=task.rate * END if has_one_rate else None,
        keep_budget=has_one_rate,
        qan=steering(arm, seed) if is_steered else None,
    )
    report = rally.run(build_model, splits.train, held_out, splits.test)
    return {"task": name, "seed": seed, "arm": arm} | compact(report, task.looked_at)


def steering(arm: str, seed: int) -> QANCallback:
    """The callback of an arm that is steered through all of its stages."""
    if arm == "rate by QAN":
        return QANCallback()
    return frozen(shipped().settings, RandomAgent(seed))


def compact(report: RallyReport, count: int) -> Row:
    """The numbers that tables and figures are made from: a line of half a kilobyte.

    Args:
      report: of the run.
      count: validation examples, so that accuracies become whole numbers.
    """
    found = []
    for stage in report.stages:
        looks = [look for look in report.looks if look["stage"] == stage["stage"]]
        found.append(
            {
                "examples": stage["examples"],
                "multiply_adds_per_step": stage["multiply_adds"] // stage["steps"],
                "steps": [look["step"] for look in looks],
                "right": [round(count * look["val_accuracy"]) for look in looks],
            }
        )
    return {
        "stages": found,
        "seconds": round(report.stages[-1]["seconds_so_far"], 1),
        "test_accuracy": report.test["accuracy"],
        "test_loss": round(report.test["loss"], 6),
    }


def evaluations(row: Row) -> list[Row]:
    """The evaluations of a compact row, as a rally reports them."""
    found: list[Row] = []
    before = 0
    for number, stage in enumerate(row["stages"], start=1):
        price, steps = stage["multiply_adds_per_step"], stage["steps"]
        for look, (step, right) in enumerate(zip(steps, stage["right"], strict=True)):
            found.append(
                {
                    "stage": number,
                    "look": look,
                    "step": step,
                    "multiply_adds": before + price * (step - steps[0]),
                    "val_accuracy": float(np.float32(right / TASKS[row["task"]].looked_at)),
                }
            )
        before = found[-1]["multiply_adds"]
    return found


def run(path: Path, tasks: list[str], seeds: list[int], arms: list[str]) -> None:
    """Measures what is missing; without names of arms all that a task has."""
    records = Records(path, "task", "seed", "arm")
    for name in tasks:
        task = TASKS[name]
        splits = data.load(task.dataset, train_fraction=task.share_of_data)
        named = arms or arms_of(task)
        for _, seed, arm in records.missing(itertools.product([name], seeds, named)):
            keras.utils.clear_session()
            row = measure(name, task, splits, arm, seed)
            records.add(row)
            last = evaluations(row)[-1]
            print(
                name, seed, arm, f"{last['val_accuracy']:.4f}", f"{row['test_accuracy']:.4f}",
                f"{last['multiply_adds']:.3g}", f"{row['seconds']:.0f} s", flush=True,
            )  # fmt: skip


def smooth(looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Looks whose accuracy is the mean of the last few, the first of a stage left out."""
    own = [look for look in looks if look["look"] or look["stage"] == 1]
    values = [look["val_accuracy"] for look in own]
    return [
        look | {"val_accuracy": float(np.mean(values[max(0, n - SMOOTHED + 1) : n + 1]))}
        for n, look in enumerate(own)
    ]


def report(found: list[dict[str, Any]], name: str) -> str:
    """The table of a task, printed too."""
    own = [row for row in found if row["task"] == name]
    nothing = {row["seed"]: row for row in own if row["arm"] == "from nothing"}
    heads = ("arm", "seeds", "cost in all", "reached", "cost to the target",
             "with the last network", "test accuracy", "minus from nothing's")  # fmt: skip
    print(f"\n{name}: costs over from nothing's to the target, 95 % intervals\n")
    lines = [format_header(*heads)]
    for arm in [a for a in KNOWN_ARMS if any(row["arm"] == a for row in own)]:
        of_arm = [row for row in own if row["arm"] == arm and row["seed"] in nothing]
        pairs = [(row, nothing[row["seed"]]) for row in of_arm]
        compared = [against(row, other) for row, other in pairs]
        accuracies = [row["test_accuracy"] for row, _ in pairs]
        gaps = [row["test_accuracy"] - other["test_accuracy"] for row, other in pairs]
        reached = sum(math.isfinite(one["to the target"]) for one in compared)
        cells = (
            arm, str(len(of_arm)), format_mean([one["in all"] for one in compared], ".2f"),
            f"{reached} of {len(of_arm)}",
            format_mean([one["to the target"] for one in compared], ".2f"),
            format_mean([one["with the last network"] for one in compared], ".2f"),
            format_mean(accuracies, ".2%"),
            "" if arm == "from nothing" else format_mean(gaps, "+.2%"),
        )  # fmt: skip
        lines.append(format_row(*cells))
    table = "\n".join(lines)
    print(table)
    return table


def against(row: dict[str, Any], nothing: dict[str, Any]) -> dict[str, float]:
    """An arm's costs over those that from nothing had until it was where it ended.

    An arm that had no look at the target has infinite costs; an arm with the target in an early
    stage, before its last network was there, has it "with the last network" at that one's first
    look that is above it.
    """
    looks, goal = smooth(evaluations(row)), smooth(evaluations(nothing))
    target = goal[-1]["val_accuracy"]
    unit = cost_to(goal, target)
    last = [look for look in looks if look["stage"] == looks[-1]["stage"]]
    return {
        "in all": evaluations(row)[-1]["multiply_adds"] / unit,
        "to the target": cost_to(looks, target) / unit,
        "with the last network": cost_to(last, target) / unit,
    }


def draw(found: list[dict[str, Any]], folder: Path) -> None:
    """Writes accuracy against cost, the mean of each arm and its runs, a figure for each task."""
    from keras_qan.plots.figures import save
    from keras_qan.plots.rally import cost_curve, cost_figure, mean_curve

    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(row["task"] for row in found):
        own = [row for row in found if row["task"] == name]
        named = ("rally", *(arm for arm in KNOWN_ARMS if arm != "rally"))
        arms = [arm for arm in named if any(row["arm"] == arm for row in own)]
        curves = {
            arm: [cost_curve(arm, evaluations(row)) for row in own if row["arm"] == arm]
            for arm in arms
        }
        means = [mean_curve(arm, runs) for arm, runs in curves.items()]
        behind = [run for arm in ("rally", "from nothing") for run in curves.get(arm, [])]
        seeds = len({row["seed"] for row in own})
        note = (
            f"{name}, mean of {seeds} seeds; a mark where a stage begins, thin lines: single runs"
        )
        save(cost_figure(means, behind, note=note), str(folder / f"{name}.png"))
