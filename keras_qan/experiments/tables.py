"""Reports of the experiments as text on a console."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_qan.drmad.tuner import Tuner
from keras_qan.experiments.architecture import SearchReport
from keras_qan.experiments.growth import BLOG, GrowthReport
from keras_qan.experiments.rally import RallyComparison
from keras_qan.experiments.runner import RunReport


def _make_table(title: str, headings: Sequence[str], text: Sequence[str] = ()) -> Table:
    """Return an empty table; columns are numbers, to the right, but those named in `text`."""
    table = Table(title=title)
    for heading in headings:
        justify: Any = "left" if heading in text else "right"
        table.add_column(heading, justify=justify, no_wrap=heading not in text)
    return table


def print_files(console: Console, directory: Path | str, figures: Iterable[Path] = ()) -> None:
    """Print where a run and its figures are."""
    console.print(f"Run: {directory}")
    for figure in figures:
        console.print(f"Figure: {figure}")


def print_comparison(console: Console, report: RunReport) -> None:
    """Print the arms of an evaluation, by initial learning rate."""
    table = _make_table(
        "Final validation loss on unseen seeds (natural logarithm; lower is better)",
        ("initial rate", "arm", "log val. loss (95 %)", "behind qan by (95 %)", "test acc.",
         "steps to target", "diverged"),
        text=("arm",),
    )  # fmt: skip
    last = None
    for row in report.rows:
        if last is not None and row["initial_learning_rate"] != last:
            table.add_section()
        last = row["initial_learning_rate"]
        steps, behind = row["steps_to_target"], ""
        if row["arm"] != "qan":
            behind = _with_interval(row["minus_reference"], row["minus_reference_interval"], "+.2f")
        table.add_row(
            f"{row['initial_learning_rate']:.4g}",
            row["arm"],
            _with_interval(row["log_val_loss"], row["interval"], ".2f"),
            behind,
            f"{100 * row['test_accuracy']:.1f} %",
            f"{steps:.0f}" if steps < float("inf") else "never",
            f"{row['diverged']} of {row['seeds']}",
        )
    console.print(table)
    console.print(
        "Target: the mean validation loss that the constant rate ends with from the same initial "
        f"rate. QAN learned from {report.episodes} episodes."
    )


def _with_interval(mean: float, interval: tuple[float, float], form: str) -> str:
    low, high = interval
    return f"{mean:{form}} ({low:{form}} … {high:{form}})"


def print_search(console: Console, report: SearchReport) -> None:
    """Print the best models of a search, and their test accuracies after being trained anew."""
    table = _make_table(
        f"The best of {report.search.num_models} models",
        ("val. accuracy", "parameters", "status", "architecture"),
        text=("architecture",),
    )
    for row in report.search.best(5):
        table.add_row(f"{row.score:.2%}", f"{row.parameters:,}", row.status, row.architecture)
    console.print(table, markup=False)
    if report.ensemble_accuracy is None:
        return
    headings = ("test accuracy", "architecture")
    table = _make_table("Trained anew, on the test examples", headings, text=headings)
    for score, text in zip(report.test_accuracies, report.architectures, strict=True):
        table.add_row(f"{score:.2%}", text)
    table.add_row(f"{report.ensemble_accuracy:.2%}", "the ensemble of these")
    console.print(table, markup=False)


def print_tuning(console: Console, tuner: Tuner, test: dict[str, float]) -> None:
    """Print the tuned hyperparameters, and the test metrics; nothing before the first step."""
    if not tuner.history:
        return
    table = _make_table(
        f"{tuner.num_hyperparameters} hyperparameters, {len(tuner.history)} steps",
        ("hyperparameter", "numbers", "mean", "lowest", "highest"),
        text=("hyperparameter",),
    )
    for name, value in tuner.best_values.items():
        cells = [f"{number:.4g}" for number in (value.mean(), value.min(), value.max())]
        table.add_row(name, str(value.size), *cells)
    console.print(table)
    console.print(
        f"Validation loss {tuner.history[0]['val_loss']:.4f} → {tuner.val_loss:.4f}; "
        f"{tuner.divergences} steps diverged and were halved."
    )
    console.print("Test: " + ", ".join(f"{name} {value:.4f}" for name, value in test.items()))


def print_rally(console: Console, found: RallyComparison) -> None:
    """Print the stages of a rally, and its cost to the target."""
    headings = ("stage", "examples", "parameters", "steps", "multiply-adds", "seconds",
                "val. accuracy")  # fmt: skip
    table = _make_table("Stages", headings)
    rows = [(str(stage["stage"]), stage) for stage in found.rally.stages]
    if found.from_nothing is not None:
        rows.append(("from nothing", found.from_nothing.stages[-1]))
    for name, stage in rows:
        table.add_row(
            name, f"{stage['examples']:,}", f"{stage['parameters']:,}", f"{stage['steps']:,}",
            f"{stage['multiply_adds']:.3g}", f"{stage['seconds']:.1f}",
            f"{stage['val_accuracy']:.2%}",
        )  # fmt: skip
    console.print(table, markup=False)
    console.print(f"Test accuracy of the rally: {found.rally.test['accuracy']:.2%}")
    if found.from_nothing is None:
        return
    console.print(f"Test accuracy from nothing: {found.from_nothing.test['accuracy']:.2%}")
    ratio = found.ratio()
    text = f"{ratio:.2f} of" if math.isfinite(ratio) else "not reached at"
    console.print(
        f"Cost of the rally to the validation accuracy that from nothing ends with "
        f"({found.target:.2%}): {text} the cost from nothing. One run each: no more than a hint."
    )


def print_growth(console: Console, report: GrowthReport) -> None:
    """Print the mean over seeds beside the blog's figures."""
    table = _make_table(
        "Accuracy after growing and training on",
        ("first", "second", "train", "test", "spread over seeds", "the blog's test"),
    )
    for pair in dict.fromkeys((row["first"], row["second"]) for row in report.rows):
        same = [row for row in report.rows if (row["first"], row["second"]) == pair]
        tests = [row["test"] for row in same]
        table.add_row(
            str(pair[0]),
            str(pair[1]),
            f"{np.mean([row['train'] for row in same]):.2%}",
            f"{np.mean(tests):.2%}",
            f"{np.std(tests):.2%}",
            f"{BLOG[pair]:.2%}" if pair in BLOG else "",
        )
    console.print(table)
