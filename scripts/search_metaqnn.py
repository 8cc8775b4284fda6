"""Search architectures with MetaQNN, train the best anew, and report them.

python scripts/search_metaqnn.py --flagfile=configs/digits_metaqnn.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan import plots
    from keras_qan.experiments import reports, tables
    from keras_qan.experiments.architecture import ArchitectureExperiment
    from keras_qan.experiments.flags import run_script
    from keras_qan.utils import progress


def main(experiment: ArchitectureExperiment, console: Console) -> None:
    """Run the search, or resume it, and print the best models."""
    report = experiment.run(progress.for_terminal())
    directory = report.search.directory
    tables.print_search(console, report)
    figures = plots.draw_if_possible(lambda: plots.draw_search(directory))
    written = reports.write(
        directory,
        "search_metaqnn",
        f"Architecture search on {experiment.dataset}",
        tables=tables.search_tables(report),
        figures=figures,
    )
    tables.print_files(console, directory, [*figures, written])


if __name__ == "__main__":
    run_script(ArchitectureExperiment, main)
