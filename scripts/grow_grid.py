"""Trains a small network, grows it to a grid of widths, trains each on: the Net2Net blog's table.

python scripts/grow_grid.py --flagfile=configs/mnist_grow_grid.flags
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

import net2net
from keras_qan.data import load

# Slater's "Using Net2Net to speed up network training" (2016), its only table: test accuracy of
# one run each, 75 epochs at 100-100 and 50 more at the grid's widths.
BLOG = {
    (100, 100): 0.9347,
    (150, 100): 0.9337,
    (150, 150): 0.9358,
    (200, 100): 0.9369,
    (200, 150): 0.9363,
    (200, 200): 0.9354,
}


def define_flags(holder: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each keyword of `grid`, and where its table goes."""
    flags.DEFINE_string("dataset", "mnist", "name of the data set", flag_values=holder)
    flags.DEFINE_list(
        "widths", [f"{a}-{b}" for a, b in BLOG], "the grid, first-second layer", flag_values=holder
    )
    flags.DEFINE_integer("first_epochs", 75, "epochs of the first network", flag_values=holder)
    flags.DEFINE_integer("grid_epochs", 50, "epochs of each grown one", flag_values=holder)
    flags.DEFINE_float(
        "scale", 1.0, "factor on both numbers of epochs, at least one epoch each",
        lower_bound=0.0, flag_values=holder,
    )  # fmt: skip
    flags.DEFINE_float("train_fraction", 1.0, "of the training images", flag_values=holder)
    flags.DEFINE_integer("batch_size", 100, "examples a step", lower_bound=1, flag_values=holder)
    flags.DEFINE_float("learning_rate", 0.01, "of plain gradient descent", flag_values=holder)
    flags.DEFINE_integer("seeds", 1, "how many whole runs", lower_bound=1, flag_values=holder)
    flags.DEFINE_string(
        "directory", "", "where to write grid.csv and flags.txt; nowhere if empty",
        flag_values=holder,
    )  # fmt: skip


def first_network(
    input_shape: tuple[int, ...], widths: tuple[int, int], classes: int, learning_rate: float
) -> Any:
    """Returns the blog's network: two hidden layers, here of ReLU, compiled."""
    model = keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(widths[0], "relu", name="first"),
            keras.layers.Dense(widths[1], "relu", name="second"),
            keras.layers.Dense(classes, "softmax", name="last"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def grid(
    *,
    dataset: str,
    widths: list[tuple[int, int]],
    first_epochs: int,
    grid_epochs: int,
    train_fraction: float,
    batch_size: int,
    learning_rate: float,
    seeds: int,
) -> list[dict[str, Any]]:
    """Returns one row for each width and seed, with the accuracies after growth and training."""
    rows = []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        splits = load(dataset, train_fraction=train_fraction, seed=seed)
        start = min(a for a, _ in widths), min(b for _, b in widths)
        model = first_network(splits.input_shape, start, splits.num_classes, learning_rate)
        fit = {"batch_size": batch_size, "verbose": 0}
        model.fit(splits.train.x, splits.train.y, epochs=first_epochs, **fit)
        for pair in widths:
            wanted = {
                name: width
                for name, width, had in zip(("first", "second"), pair, start, strict=True)
                if width > had
            }
            wide = net2net.grow(model, wanted, seed=seed)
            before = wide.evaluate(splits.train.x, splits.train.y, verbose=0)[0]
            wide.fit(splits.train.x, splits.train.y, epochs=grid_epochs, **fit)
            rows.append(
                {
                    "first": pair[0],
                    "second": pair[1],
                    "seed": seed,
                    "loss_after_growth": before,
                    "train": wide.evaluate(splits.train.x, splits.train.y, verbose=0)[1],
                    "test": wide.evaluate(splits.test.x, splits.test.y, verbose=0)[1],
                }
            )
    return rows


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Prints the mean over seeds beside the blog's figures."""
    table = Table(title="Accuracy after growing and training on")
    for heading in ("first", "second", "train", "test", "spread over seeds", "the blog's test"):
        table.add_column(heading, justify="right")
    for pair in dict.fromkeys((row["first"], row["second"]) for row in rows):
        same = [row for row in rows if (row["first"], row["second"]) == pair]
        tests = [row["test"] for row in same]
        table.add_row(
            str(pair[0]),
            str(pair[1]),
            f"{np.mean([row['train'] for row in same]):.2%}",
            f"{np.mean(tests):.2%}",
            f"{np.std(tests):.2%}",
            f"{BLOG[pair]:.2%}" if pair in BLOG else "",
        )
    console.print(table)


def parsed_widths(names: list[str]) -> list[tuple[int, int]]:
    """Returns the pairs that are written as "150-100"."""
    pairs = []
    for name in names:
        parts = name.split("-")
        if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise ValueError(
                f"Received the width {name!r}; expected two whole numbers with a dash between "
                "them. Write for example --widths=100-100,150-100."
            )
        pairs.append((int(parts[0]), int(parts[1])))
    return pairs


def place(directory: str) -> Path | None:
    """Returns the folder for the table, made if it is not there; None if there is to be none."""
    if not directory:
        return None
    folder = Path(directory)
    if (folder / "grid.csv").exists():
        raise FileExistsError(
            f"{folder} holds a grid.csv already; expected a folder without one. Give another "
            "--directory, or move the table away."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(arguments: list[str]) -> None:
    """Runs the grid that the flags describe."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets reports every file it opens
    asked = flags.FLAGS
    try:
        folder = place(asked.directory)
        rows = grid(
            dataset=asked.dataset,
            widths=parsed_widths(asked.widths),
            first_epochs=max(1, round(asked.first_epochs * asked.scale)),
            grid_epochs=max(1, round(asked.grid_epochs * asked.scale)),
            train_fraction=asked.train_fraction,
            batch_size=asked.batch_size,
            learning_rate=asked.learning_rate,
            seeds=asked.seeds,
        )
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"grow_grid: {error}")
    if folder is not None:
        own = asked.get_key_flags_for_module(sys.argv[0])
        lines = [flag.serialize() for flag in own if flag.name != "directory"]
        (folder / "flags.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (folder / "grid.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    show(rows, Console(file=sys.stdout))


if __name__ == "__main__":
    define_flags()
    app.run(main)
