"""Train a small network, grow it to a grid of widths, train each on: the Net2Net blog's table.

python scripts/grow_grid.py --flagfile=configs/mnist_grow_grid.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan.experiments import reports, tables
    from keras_qan.experiments.flags import run_script
    from keras_qan.experiments.growth import GrowthExperiment


def main(experiment: GrowthExperiment, console: Console) -> None:
    """Run the grid and print its table."""
    report = experiment.run()
    tables.print_growth(console, report)
    if report.directory is not None:
        written = reports.write(
            report.directory,
            "grow_grid",
            f"A grid of grown widths on {experiment.dataset}",
            tables=tables.growth_tables(report),
        )
        tables.print_files(console, report.directory, [written])


if __name__ == "__main__":
    run_script(GrowthExperiment, main)
