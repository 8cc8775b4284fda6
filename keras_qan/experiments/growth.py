"""A small network grown to a grid of widths and trained on: the Net2Net blog's table.

Slater, "Using Net2Net to speed up network training" (2016).
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import net2net
from keras_qan.data import load
from keras_qan.experiments.flags import flag, open_run
from keras_qan.storage import files
from keras_qan.utils.progress import Progress, for_terminal
from keras_qan.utils.validation import check_integer, check_number

#: The blog's only table: test accuracy of one run each, 75 epochs at 100-100 and 50 more at the
#: grid's widths.
BLOG = {
    (100, 100): 0.9347,
    (150, 100): 0.9337,
    (150, 150): 0.9358,
    (200, 100): 0.9369,
    (200, 150): 0.9363,
    (200, 200): 0.9354,
}

_TABLE = "grid.csv"


@dataclass(frozen=True)
class GrowthReport:
    """Outcome of a `GrowthExperiment`.

    Attributes:
      rows: one for each width and seed: `first`, `second`, `seed`, `loss_after_growth`, and the
        accuracies `train` and `test`.
      directory: of the table; None where it was not kept.
    """

    rows: list[dict[str, Any]]
    directory: Path | None


@dataclass(frozen=True)
class GrowthExperiment:
    """The blog's grid; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = flag("name of the data set", "mnist")
    widths: tuple[str, ...] = flag(
        "the grid, first-second layer", tuple(f"{first}-{second}" for first, second in BLOG)
    )
    first_epochs: int = flag("epochs of the first network", 75)
    grid_epochs: int = flag("epochs of each grown one", 50)
    scale: float = flag("factor on both numbers of epochs, at least one epoch each", 1.0)
    train_fraction: float = flag("of the training images", 1.0)
    batch_size: int = flag("examples a step", 100)
    learning_rate: float = flag("of plain gradient descent", 0.01)
    seeds: int = flag("how many whole runs", 1)
    directory: str = flag(
        "where to write grid.csv and flags.txt; nowhere if empty", "", is_saved=False
    )

    def __post_init__(self) -> None:
        check_number("scale", self.scale, 0.0)
        for name in ("batch_size", "seeds"):
            check_integer(name, getattr(self, name), 1)
        parse_widths(self.widths)

    def run(self) -> GrowthReport:
        """Train, grow and train on, and write the table.

        Raises:
          FileExistsError: the directory holds a table already.
        """
        if not self.directory:
            return GrowthReport(self._train_all(), None)
        directory = Path(self.directory)
        if (directory / _TABLE).exists():
            raise FileExistsError(
                f"{directory} holds a {_TABLE} already; expected a folder without one. Give "
                "another --directory, or move the table away."
            )
        with open_run(directory, self):
            rows = self._train_all()
            table = io.StringIO(newline="")
            writer = csv.DictWriter(table, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            files.replace(directory / _TABLE, table.getvalue())
        return GrowthReport(rows, directory)

    def _train_all(self) -> list[dict[str, Any]]:
        with for_terminal() as shown:
            shown.start("networks", 0, self.seeds * (1 + len(self.widths)), 0)
            return [row for seed in range(self.seeds) for row in self._train(seed, shown)]

    def _train(self, seed: int, shown: Progress) -> list[dict[str, Any]]:
        keras.utils.set_random_seed(seed)
        splits = load(self.dataset, train_fraction=self.train_fraction, seed=seed)
        train, test = ((part.x, part.y) for part in (splits.train, splits.test))
        grid = parse_widths(self.widths)
        start = min(first for first, _ in grid), min(second for _, second in grid)
        model = build_network(splits.input_shape, start, splits.num_classes, self.learning_rate)
        fit = {"batch_size": self.batch_size, "verbose": 0, "callbacks": [shown.epochs()]}
        model.fit(*train, epochs=self._scale(self.first_epochs), **fit)
        shown.advance()
        rows = []
        for pair in grid:
            growth = {
                name: width
                for name, width, before in zip(("first", "second"), pair, start, strict=True)
                if width > before
            }
            wide = net2net.grow(model, growth, seed=seed)
            loss = wide.evaluate(*train, verbose=0)[0]
            wide.fit(*train, epochs=self._scale(self.grid_epochs), **fit)
            shown.advance()
            rows.append(
                {
                    "first": pair[0],
                    "second": pair[1],
                    "seed": seed,
                    "loss_after_growth": loss,
                    "train": wide.evaluate(*train, verbose=0)[1],
                    "test": wide.evaluate(*test, verbose=0)[1],
                }
            )
        return rows

    def _scale(self, epochs: int) -> int:
        return max(1, round(epochs * self.scale))


def build_network(
    input_shape: tuple[int, ...], widths: tuple[int, int], num_classes: int, learning_rate: float
) -> keras.Model:
    """Return the blog's network: two hidden layers, here of ReLU, compiled."""
    model = keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(widths[0], "relu", name="first"),
            keras.layers.Dense(widths[1], "relu", name="second"),
            keras.layers.Dense(num_classes, "softmax", name="last"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def parse_widths(names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the pairs that are written as "150-100".

    Raises:
      ValueError: a name is not two positive whole numbers with a dash between.

    Example:
      >>> parse_widths(("100-100", "150-20"))
      [(100, 100), (150, 20)]
    """
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
