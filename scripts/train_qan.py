"""Train QAN on a data set over episodes, and compare what it learned with other schedules.

python scripts/train_qan.py --flagfile=configs/digits_lr.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan import plots
    from keras_qan.experiments import reports, tables
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
        figures = plots.draw_if_possible(lambda: plots.draw(report.directory))
        tables.print_comparison(console, report)
        written = reports.write(
            report.directory,
            "train_qan",
            f"QAN on {experiment.dataset}: {experiment.model}",
            tables=tables.comparison_tables(report),
            figures=figures,
        )
        tables.print_files(console, report.directory, [*figures, written])


if __name__ == "__main__":
    run_script(LearningRateExperiment, main, prepare)
