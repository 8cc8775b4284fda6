"""Reports of the experiments as tables of text, and on a console."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from keras_qan.drmad.tuner import Tuner
from keras_qan.experiments.architecture import SearchReport
from keras_qan.experiments.growth import BLOG, GrowthReport
from keras_qan.experiments.rally import RallyComparison
from keras_qan.experiments.runner import RunReport
from keras_qan.plots.report import ReportTable


def show(console: Console, tables: Iterable[ReportTable]) -> None:
    """Print tables; where the console is too narrow, without minor columns, or row by row."""
    for table in tables:
        columns = [heading for heading in table.headings if heading not in table.minor]
        for headings in (list(table.headings), columns):
            drawn = _draw(table, headings)
            if Measurement.get(console, console.options.update(width=10_000), drawn).maximum <= (
                console.width
            ):
                console.print(drawn, markup=False)
                break
        else:
            _print_by_rows(console, table)
        if table.note:
            console.print(table.note, markup=False)


def _draw(table: ReportTable, headings: Sequence[str]) -> Table:
    drawn = Table(title=table.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in headings:
        drawn.add_column(heading, justify="left" if heading in table.text_columns else "right")
    last = None
    for row in table.rows:
        if table.groups and last is not None and row[0] != last:
            drawn.add_section()
        last = row[0]
        drawn.add_row(*(row[table.headings.index(heading)] for heading in headings))
    return drawn


def _print_by_rows(console: Console, table: ReportTable) -> None:
    console.print(table.title, markup=False)
    for row in table.rows:
        console.print("")
        for heading, cell in zip(table.headings, row, strict=True):
            console.print(f"{heading.replace(chr(10), ' ')}: {cell}", markup=False)


def print_files(console: Console, directory: Path | str, files: Iterable[Path] = ()) -> None:
    """Print where a run, its figures and its report are."""
    console.print(f"Run: {directory}", soft_wrap=True)
    for file in files:
        kind = "Report" if file.suffix == ".html" else "Figure"
        console.print(f"{kind}: {file}", soft_wrap=True)


def comparison_tables(report: RunReport) -> list[ReportTable]:
    """Return the arms of an evaluation, by initial learning rate."""
    rows = []
    for row in report.rows:
        steps, behind = row["steps_to_target"], ""
        if row["arm"] != "qan":
            behind = _with_interval(row["minus_reference"], row["minus_reference_interval"], "+.2f")
        diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
        rows.append(
            (
                f"{row['initial_learning_rate']:.4g}",
                row["arm"],
                f"{row['log_val_loss']:.2f}",
                behind,
                "–" if math.isnan(row["test_accuracy"]) else f"{100 * row['test_accuracy']:.1f} %",
                f"{steps:.0f}" if steps < float("inf") else "never",
                f"{row['seeds']}{diverged}",
            )
        )
    learned = f" QAN learned from {report.episodes} episodes." if report.episodes else ""
    return [
        ReportTable(
            "Final validation loss on unseen seeds (natural logarithm; lower is better)",
            ("initial\nrate", "arm", "log val.\nloss", "behind qan\nby (95 %)", "test\nacc.",
             "steps to\ntarget", "seeds"),
            tuple(rows),
            text_columns=("arm",),
            note="Target: the mean validation loss that the constant rate ends with from the same "
            f"initial rate.{learned}",
            groups=True,
            minor=("steps to\ntarget", "seeds"),
        )
    ]  # fmt: skip


def print_comparison(console: Console, report: RunReport) -> None:
    """Print the arms of an evaluation, by initial learning rate."""
    show(console, comparison_tables(report))


def _with_interval(mean: float, interval: tuple[float, float], form: str) -> str:
    low, high = interval
    if not math.isfinite(mean):
        return "–"  # nothing to compare with
    if not math.isfinite(low):
        return f"{mean:{form}}"  # of a single seed
    return f"{mean:{form}} ({low:{form}} … {high:{form}})"


def search_tables(report: SearchReport) -> list[ReportTable]:
    """Return the best models of a search, and their test accuracies after being trained anew."""
    rows = tuple(
        (f"{row.score:.2%}", f"{row.parameters:,}", row.status, row.architecture)
        for row in report.search.best(5)
    )
    headings = ("val. accuracy", "parameters", "status", "architecture")
    found = [
        ReportTable(
            f"The best of {report.search.num_models} models", headings, rows, ("architecture",)
        )
    ]
    if report.ensemble_accuracy is not None:
        columns = ("test accuracy", "architecture")
        scores = zip(report.test_accuracies, report.architectures, strict=True)
        anew = [(f"{score:.2%}", text) for score, text in scores]
        anew.append((f"{report.ensemble_accuracy:.2%}", "the ensemble of these"))
        found.append(
            ReportTable("Trained anew, on the test examples", columns, tuple(anew), columns)
        )
    return found


def print_search(console: Console, report: SearchReport) -> None:
    """Print the best models of a search, and their test accuracies after being trained anew."""
    show(console, search_tables(report))


def tuning_tables(tuner: Tuner, test: dict[str, float]) -> list[ReportTable]:
    """Return the tuned hyperparameters with the test metrics; none before the first step."""
    if not tuner.history:
        return []
    rows = []
    for name, value in tuner.best_values.items():
        cells = [f"{number:.4g}" for number in (value.mean(), value.min(), value.max())]
        rows.append((name, str(value.size), *cells))
    scores = ", ".join(f"{name} {value:.4f}" for name, value in test.items())
    return [
        ReportTable(
            f"{tuner.num_hyperparameters} hyperparameters, {len(tuner.history)} steps",
            ("hyperparameter", "numbers", "mean", "lowest", "highest"),
            tuple(rows),
            text_columns=("hyperparameter",),
            note=f"Validation loss {tuner.history[0]['val_loss']:.4f} → {tuner.val_loss:.4f}; "
            f"{tuner.divergences} steps diverged and were halved.\nTest: {scores}",
        )
    ]


def print_tuning(console: Console, tuner: Tuner, test: dict[str, float]) -> None:
    """Print the tuned hyperparameters, and the test metrics; nothing before the first step."""
    show(console, tuning_tables(tuner, test))


def rally_tables(found: RallyComparison) -> list[ReportTable]:
    """Return the stages of a rally, with its cost to the target."""
    stages = [(str(stage["stage"]), stage) for stage in found.rally.stages]
    if found.from_nothing is not None:
        stages.append(("from nothing", found.from_nothing.stages[-1]))
    rows = tuple(
        (
            name, f"{stage['examples']:,}", f"{stage['parameters']:,}", f"{stage['steps']:,}",
            f"{stage['multiply_adds']:.3g}", f"{stage['seconds']:.1f}",
            f"{stage['val_accuracy']:.2%}",
        )
        for name, stage in stages
    )  # fmt: skip
    headings = ("stage", "examples", "parameters", "steps", "multiply-adds", "seconds",
                "val. accuracy")  # fmt: skip
    note = f"Test accuracy of the rally: {found.rally.test['accuracy']:.2%}"
    if found.from_nothing is not None:
        ratio = found.ratio()
        text = f"{ratio:.2f} of" if math.isfinite(ratio) else "not reached at"
        note += (
            f"\nTest accuracy from nothing: {found.from_nothing.test['accuracy']:.2%}\n"
            "Cost of the rally to the validation accuracy that from nothing ends with "
            f"({found.target:.2%}): {text} the cost from nothing. One run each: no more than a "
            "hint."
        )
    return [ReportTable("Stages", headings, rows, ("stage",), note, minor=("seconds",))]


def print_rally(console: Console, found: RallyComparison) -> None:
    """Print the stages of a rally, and its cost to the target."""
    show(console, rally_tables(found))


def growth_tables(report: GrowthReport) -> list[ReportTable]:
    """Return the mean over seeds beside the blog's figures."""
    rows = []
    for pair in dict.fromkeys((row["first"], row["second"]) for row in report.rows):
        same = [row for row in report.rows if (row["first"], row["second"]) == pair]
        tests = [row["test"] for row in same]
        rows.append(
            (
                str(pair[0]),
                str(pair[1]),
                f"{np.mean([row['train'] for row in same]):.2%}",
                f"{np.mean(tests):.2%}",
                f"{np.std(tests):.2%}",
                f"{BLOG[pair]:.2%}" if pair in BLOG else "",
            )
        )
    headings = ("first", "second", "train", "test", "spread over seeds", "the blog's test")
    return [ReportTable("Accuracy after growing and training on", headings, tuple(rows))]


def print_growth(console: Console, report: GrowthReport) -> None:
    """Print the mean over seeds beside the blog's figures."""
    show(console, growth_tables(report))


def policy_tables(rounds: Sequence[dict[str, Any]]) -> list[ReportTable]:
    """Return the evaluations of a policy's training, from the lines of `rounds.jsonl`."""
    names = ("median", "mean", "worst")
    rows = tuple(
        (f"{row.get('round', number)}", *(f"{row[name]:+.3f}" for name in names))
        for number, row in enumerate(rounds, 1)
        if all(name in row for name in names)
    )
    title = "Log validation loss behind the tuned cosine on held-out tasks"
    return [ReportTable(title, ("round", *names), rows)] if rows else []
