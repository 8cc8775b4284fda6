"""Train QAN on a data set over episodes, and compare what it learned with other schedules.

python scripts/train_qan.py --flagfile=configs/digits_lr.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan import plots
from keras_qan.experiments import tables
from keras_qan.experiments.flags import run_script
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.utils import progress


def prepare(experiment: LearningRateExperiment) -> None:
    """Set up the devices, which lists them in the log."""
    experiment.use_threads()
    experiment.open_strategy()


def main(experiment: LearningRateExperiment, console: Console) -> None:
    """Learn, evaluate and print the comparison."""
    report = experiment.run(progress.for_terminal())
    if report.rows:  # of several workers, the chief has them
        figures = plots.draw(report.directory)
        tables.print_comparison(console, report)
        tables.print_files(console, report.directory, figures)


if __name__ == "__main__":
    run_script(LearningRateExperiment, main, prepare)
