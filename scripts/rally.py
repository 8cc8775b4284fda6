"""Trains in stages, data and network growing together, and compares that with from nothing.

python scripts/rally.py --flagfile=configs/digits_rally.flags
"""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from keras_qan import plots
from keras_qan.experiments.rally import RallyComparison, RallyExperiment

_DEFINE: dict[type, Any] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_list,
}


def define_flags(holder: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each field of RallyExperiment."""
    for field in dataclasses.fields(RallyExperiment):
        define = _DEFINE[type(field.default)]
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        define(field.name, default, field.metadata["help"], flag_values=holder)


def experiment_from_flags(holder: flags.FlagValues = flags.FLAGS) -> RallyExperiment:
    """Reads the flags into a RallyExperiment."""
    values = {f.name: holder[f.name].value for f in dataclasses.fields(RallyExperiment)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return RallyExperiment(**values | lists)


def show(found: RallyComparison, console: Console) -> None:
    """Prints each stage, and what the target cost."""
    table = Table(title="Stages")
    headings = ("stage", "examples", "parameters", "steps", "multiply-adds", "seconds",
                "val. accuracy")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
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
    said = f"{ratio:.2f} of" if math.isfinite(ratio) else "not reached at"
    console.print(
        f"Cost of the rally to the validation accuracy that from nothing ends with "
        f"({found.target:.2%}): {said} the cost from nothing. One run each: no more than a hint."
    )


def main(arguments: list[str]) -> None:
    """Runs the rally that the flags describe, or goes on with it."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets reports every file it opens
    try:
        found = experiment_from_flags().run()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        sys.exit(f"rally: {error}")
    console = Console(width=None if Console().is_terminal else 132)
    show(found, console)
    runs = {"rally": found.directory}
    if found.from_nothing is not None:
        runs["from nothing"] = found.directory / "from_nothing"
    console.print(f"Run: {found.directory}")
    figure = plots.draw_rally(runs, found.directory / "figures" / "accuracy_by_cost.png")
    console.print(f"Figure: {figure}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
