"""Train the same model with a bare `QANCallback` and with other schedules, and compare them.

python scripts/compare_schedules.py --flagfile=configs/digits_demo.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan import plots
    from keras_qan.experiments import reports, tables
    from keras_qan.experiments.flags import run_script
    from keras_qan.experiments.schedules import ScheduleExperiment
    from keras_qan.utils import progress

#: What the arms are.
SUMMARY = (
    "Each arm trains the same model from the same weights on the same batches, on seeds that the "
    "policy never saw: qan is a bare QANCallback(); constant is the same fit without it; cosine is "
    "Keras's CosineDecay to zero; plateau is ReduceLROnPlateau(factor=0.5, patience=1); adamw is "
    "Keras's AdamW as it is, the same from every initial rate, instead of SGD with momentum.",
    "The policy that ships has learned on small networks, digits among their data. On other kinds "
    "of networks it can do harm: docs/results.md says where.",
)


def main(experiment: ScheduleExperiment, console: Console) -> None:
    """Train all arms, or those that are missing, and print the comparison."""
    found = experiment.run(progress.for_terminal(seconds=3.0))
    tables.print_comparison(console, found)
    figures = plots.draw_if_possible(lambda: plots.draw(found.directory))
    report = reports.write(
        found.directory,
        "compare_schedules",
        f"QANCallback() beside other schedules: {experiment.model} on {experiment.dataset}",
        tables=tables.comparison_tables(found),
        figures=figures,
        summary=SUMMARY,
    )
    tables.print_files(console, found.directory, [*figures, report])


if __name__ == "__main__":
    run_script(ScheduleExperiment, main)
