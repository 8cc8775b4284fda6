"""Tune a training's hyperparameters by hypergradients, after a search for averages if asked.

python scripts/tune_drmad.py --flagfile=configs/mnist_drmad.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan.experiments import reports, tables
    from keras_qan.experiments.flags import run_script
    from keras_qan.experiments.hyperparameters import HyperparameterExperiment


def main(experiment: HyperparameterExperiment, console: Console) -> None:
    """Run the search, or resume it, and print the hyperparameters."""
    tuner, test = experiment.run()
    if experiment.check_steps:
        console.print(str(tuner.check(experiment.check_steps)))
    tables.print_tuning(console, tuner, test)
    if tuner.directory is not None:
        figures = sorted((tuner.directory / "figures").glob("*.png"))
        written = reports.write(
            tuner.directory,
            "tune_drmad",
            f"Hyperparameters tuned by hypergradients on {experiment.dataset}",
            tables=tables.tuning_tables(tuner, test),
            figures=figures,
        )
        tables.print_files(console, tuner.directory, [*figures, written])


if __name__ == "__main__":
    run_script(HyperparameterExperiment, main)
