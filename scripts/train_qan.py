"""Trains QAN on a data set over episodes, and compares what it learned with other schedules.

python scripts/train_qan.py --flagfile=configs/digits_lr.flags
"""

from __future__ import annotations

import dataclasses
import signal
import sys
from typing import Any

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from keras_qan import plots
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.experiments.runner import Stopped
from keras_qan.parallel import TaskError, WorkerDiedError
from keras_qan.utils import progress


def define_flags(holder: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each field of Experiment."""
    for field in dataclasses.fields(LearningRateExperiment):
        name, default, text = field.name, field.default, field.metadata["help"]
        if isinstance(default, bool):
            flags.DEFINE_bool(name, default, text, flag_values=holder)
        elif isinstance(default, int):
            flags.DEFINE_integer(name, default, text, flag_values=holder)
        elif isinstance(default, float):
            flags.DEFINE_float(name, default, text, flag_values=holder)
        elif isinstance(default, str):
            flags.DEFINE_string(name, default, text, flag_values=holder)
        else:
            flags.DEFINE_list(name, [str(v) for v in default], text, flag_values=holder)


def experiment_from_flags(holder: flags.FlagValues = flags.FLAGS) -> LearningRateExperiment:
    """Reads the flags into an Experiment."""
    values: dict[str, Any] = {
        f.name: holder[f.name].value for f in dataclasses.fields(LearningRateExperiment)
    }
    values["learning_rate"] = tuple(map(rate, values["learning_rate"]))
    values["arms"] = tuple(values["arms"])
    return LearningRateExperiment(**values)


def rate(text: str) -> float:
    """Reads an initial learning rate."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"learning_rate holds {text!r}; expected numbers with commas between. Write for "
            "example --learning_rate=0.01,0.1."
        ) from None


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Prints the comparison."""
    table = Table(
        title="Final validation loss on unseen seeds (natural logarithm; lower is better)"
    )
    for heading in ("initial rate", "arm", "log val. loss (95 %)", "behind qan by (95 %)"):
        table.add_column(heading, justify="left" if heading == "arm" else "right", no_wrap=True)
    for heading in ("test acc.", "steps to target", "diverged"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = None
    for row in rows:
        if last is not None and row["initial_learning_rate"] != last:
            table.add_section()
        last = row["initial_learning_rate"]
        steps = row["steps_to_target"]
        table.add_row(
            f"{row['initial_learning_rate']:.4g}",
            row["arm"],
            with_interval(row["log_val_loss"], row["interval"], ".2f"),
            ""
            if row["arm"] == "qan"
            else with_interval(row["minus_reference"], row["minus_reference_interval"], "+.2f"),
            f"{100 * row['test_accuracy']:.1f} %",
            f"{steps:.0f}" if steps < float("inf") else "never",
            f"{row['diverged']} of {row['seeds']}",
        )
    console.print(table)


def with_interval(mean: float, interval: tuple[float, float], form: str) -> str:
    """A mean and its interval in one cell."""
    low, high = interval
    return f"{mean:{form}} ({low:{form}} … {high:{form}})"


def main(arguments: list[str]) -> None:
    """Runs the experiment that the flags describe."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    try:
        experiment = experiment_from_flags()
        experiment.use_threads()
        experiment.open_strategy()  # lists the devices in the log
        logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets reports every file it opens
        report = experiment.run(progress.for_terminal())
    except Stopped as stopped:
        print(f"train_qan: {stopped}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except (ValueError, OSError, RuntimeError, ImportError, TaskError, WorkerDiedError) as error:
        sys.exit(f"train_qan: {error}")
    if not report.rows:
        return  # a worker that is not the chief
    figures = plots.draw(report.directory)
    console = Console(width=None if Console().is_terminal else 132)
    show(report.rows, console)
    console.print(
        "Target: the mean validation loss that the constant rate ends with from the same initial "
        f"rate. QAN learned from {report.episodes} episodes."
    )
    console.print(f"Run: {report.directory}")
    for figure in figures:
        console.print(f"Figure: {figure}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
