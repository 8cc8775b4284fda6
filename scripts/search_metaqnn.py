"""Searches architectures with MetaQNN, trains the best anew, and reports them.

python scripts/search_metaqnn.py --flagfile=configs/digits_metaqnn.flags
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from keras_qan import plots
from keras_qan.experiments.architecture import ArchitectureExperiment, SearchReport
from keras_qan.parallel import TaskError, WorkerDiedError
from keras_qan.utils import progress

_DEFINE: dict[type, Any] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def define_flags(holder: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each field of SearchExperiment."""
    for field in dataclasses.fields(ArchitectureExperiment):
        define = _DEFINE[type(field.default)]
        define(field.name, field.default, field.metadata["help"], flag_values=holder)


def experiment_from_flags(holder: flags.FlagValues = flags.FLAGS) -> ArchitectureExperiment:
    """Reads the flags into a SearchExperiment."""
    names = [field.name for field in dataclasses.fields(ArchitectureExperiment)]
    return ArchitectureExperiment(**{name: holder[name].value for name in names})


def show(report: SearchReport, console: Console) -> None:
    """Prints the best models, and what they came to after being trained anew."""
    table = Table(title=f"The best of {report.search.num_models} models")
    for heading in ("val. accuracy", "parameters", "status", "architecture"):
        table.add_column(heading, justify="left" if heading == "architecture" else "right")
    for row in report.search.best(5):
        table.add_row(f"{row.score:.2%}", f"{row.parameters:,}", row.status, row.architecture)
    console.print(table, markup=False)
    if report.ensemble_accuracy is None:
        return
    table = Table(title="Trained anew, on the test examples")
    for heading in ("test accuracy", "architecture"):
        table.add_column(heading)
    for score, text in zip(report.test_accuracies, report.architectures, strict=True):
        table.add_row(f"{score:.2%}", text)
    table.add_row(f"{report.ensemble_accuracy:.2%}", "the ensemble of these")
    console.print(table, markup=False)


def main(arguments: list[str]) -> None:
    """Runs the search that the flags describe, or goes on with it."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets reports every file it opens
    try:
        experiment = experiment_from_flags()
        report = experiment.run(progress.for_terminal())
    except (ValueError, OSError, ImportError, TaskError, WorkerDiedError) as error:
        sys.exit(f"search_metaqnn: {error}")
    directory = report.search.directory
    (directory / "flags.txt").write_text(experiment.flags(), encoding="utf-8")
    console = Console(width=None if Console().is_terminal else 132)
    show(report, console)
    console.print(f"Run: {directory}")
    for figure in plots.draw_search(directory):
        console.print(f"Figure: {figure}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
