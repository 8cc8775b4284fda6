"""Train a small network, grow it to a grid of widths, train each on: the Net2Net blog's table.

python scripts/grow_grid.py --flagfile=configs/mnist_grow_grid.flags
"""

from __future__ import annotations

from rich.console import Console

from keras_qan.experiments import tables
from keras_qan.experiments.flags import run_script
from keras_qan.experiments.growth import GrowthExperiment


def main(experiment: GrowthExperiment, console: Console) -> None:
    """Run the grid and print its table."""
    tables.print_growth(console, experiment.run())


if __name__ == "__main__":
    run_script(GrowthExperiment, main)
