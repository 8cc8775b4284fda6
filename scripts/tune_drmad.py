"""Tunes a training's hyperparameters by hypergradients, after a search for averages if asked.

python scripts/tune_drmad.py --flagfile=configs/mnist_drmad.flags
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from keras_qan.drmad.tuner import Tuner
from keras_qan.experiments.hyperparameters import HyperparameterExperiment
from keras_qan.parallel import TaskError, WorkerDiedError


def define_flags(holder: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each field of TuneExperiment."""
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    for field in dataclasses.fields(HyperparameterExperiment):
        default, text = field.default, field.metadata["help"]
        if isinstance(default, tuple):
            flags.DEFINE_list(field.name, list(default), text, flag_values=holder)
        else:
            define[type(default)](field.name, default, text, flag_values=holder)


def experiment_from_flags(holder: flags.FlagValues = flags.FLAGS) -> HyperparameterExperiment:
    """Reads the flags into a TuneExperiment."""
    values = {f.name: holder[f.name].value for f in dataclasses.fields(HyperparameterExperiment)}
    values["hyperparameters"] = tuple(values["hyperparameters"])
    return HyperparameterExperiment(**values)


def show(tuner: Tuner, test: dict[str, float], console: Console) -> None:
    """Prints what was tuned, and the test metrics."""
    first, last = tuner.history[0]["val_loss"], tuner.val_loss
    table = Table(title=f"{tuner.num_hyperparameters} hyperparameters, {len(tuner.history)} steps")
    for heading in ("hyperparameter", "numbers", "mean", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "hyperparameter" else "right")
    for name, value in tuner.best_values.items():
        cells = [f"{number:.4g}" for number in (value.mean(), value.min(), value.max())]
        table.add_row(name, str(value.size), *cells)
    console.print(table)
    console.print(
        f"Validation loss {first:.4f} → {last:.4f}; {tuner.divergences} steps diverged and were "
        "halved."
    )
    console.print("Test: " + ", ".join(f"{name} {value:.4f}" for name, value in test.items()))


def main(arguments: list[str]) -> None:
    """Runs the search that the flags describe."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets reports every file it opens
    console = Console(width=None if Console().is_terminal else 110)
    try:
        experiment = experiment_from_flags()
        tuner, test = experiment.run()
        if experiment.check_steps:
            console.print(str(tuner.check(experiment.check_steps)))
    except (
        ValueError,
        OSError,
        ArithmeticError,
        ImportError,
        TaskError,
        WorkerDiedError,
    ) as error:
        sys.exit(f"tune_drmad: {error}")
    if tuner.directory is not None:
        own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
        lines = [flag.serialize() for flag in own if flag.value not in (None, "")]
        (Path(tuner.directory) / "flags.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        console.print(f"Search: {tuner.directory}")
    if tuner.history:
        show(tuner, test, console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
