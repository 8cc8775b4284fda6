"""Tune a training's hyperparameters by hypergradients, after a search for averages if asked.

python scripts/tune_drmad.py --flagfile=configs/mnist_drmad.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.experiments import tables
from keras_qan.experiments.flags import run_script
from keras_qan.experiments.hyperparameters import HyperparameterExperiment


def main(experiment: HyperparameterExperiment, console: Console) -> None:
    """Run the search, or resume it, and print the hyperparameters."""
    tuner, test = experiment.run()
    if experiment.check_steps:
        console.print(str(tuner.check(experiment.check_steps)))
    if tuner.directory is not None:
        console.print(f"Search: {tuner.directory}")
    tables.print_tuning(console, tuner, test)


if __name__ == "__main__":
    run_script(HyperparameterExperiment, main)
