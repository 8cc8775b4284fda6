"""Train in stages, data and network growing together, and compare that with from nothing.

python scripts/rally.py --flagfile=configs/digits_rally.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan import plots
    from keras_qan.experiments import reports, tables
    from keras_qan.experiments.flags import run_script
    from keras_qan.experiments.rally import RallyExperiment


def main(experiment: RallyExperiment, console: Console) -> None:
    """Run the rally, or resume it, and print its stages."""
    found = experiment.run()
    tables.print_rally(console, found)
    runs = {"rally": found.directory}
    if found.from_nothing is not None:
        runs["from nothing"] = found.directory / "from_nothing"
    target = found.directory / "figures" / "accuracy_by_cost.png"
    figures = plots.draw_if_possible(lambda: [plots.draw_rally(runs, target)])
    written = reports.write(
        found.directory,
        "rally",
        f"Rally on {experiment.dataset}",
        tables=tables.rally_tables(found),
        figures=figures,
    )
    tables.print_files(console, found.directory, [*figures, written])


if __name__ == "__main__":
    run_script(RallyExperiment, main)
