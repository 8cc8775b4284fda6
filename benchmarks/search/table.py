"""Every architecture of a small space, trained once: what searches are replayed on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from benchmarks.common.records import Records, read_rows
from keras_qan.data import Examples, Splits, load
from keras_qan.metaqnn import Recipe, Space, StateSpace
from keras_qan.metaqnn.space import Architecture, format_architecture, parse_architecture
from keras_qan.metaqnn.trial import Trial, compile_model, fit_model

HERE = Path(__file__).resolve().parent


def load_mnist() -> Splits:
    """MNIST: 10,000 images to train on, 5,000 to validate on, all without their margins of 4."""
    splits = load("mnist", train_fraction=10_000 / 55_000, validation_fraction=5_000 / 60_000)
    parts = {
        name: Examples(getattr(splits, name).x[:, 4:-4, 4:-4], getattr(splits, name).y)
        for name in ("train", "validation", "test")
    }
    return dataclasses.replace(splits, **parts, input_shape=(20, 20, 1))


@dataclass(frozen=True)
class Task:
    """Data, space and training of a table, and the time of a search that is replayed on it.

    Args:
      splits: gives the data.
      image: (height, width, channels) of it.
      space: of its architectures.
      recipe: of their training.
      models: average models, each trained to its end, that a search has the time for.
      path: of the table.
    """

    splits: Callable[[], Splits]
    image: tuple[int, int, int]
    space: Space
    recipe: Recipe
    models: int
    path: Path

    def states(self) -> StateSpace:
        """Its decision process; all data here have ten classes."""
        return StateSpace(self.space, self.image, 10)


TASKS = {
    "digits": Task(
        lambda: load("digits"),
        (8, 8, 1),
        Space(
            filters=(8, 32), sizes=(3,), pools=((2, 2),), dense=(32,), max_dense=1, max_depth=3,
            max_parameters=40_000,
        ),
        Recipe(stages=((3e-3, 4), (6e-4, 2)), batch_size=32, restart_after=0),
        20,
        HERE / "digits_table.jsonl",
    ),
    "mnist": Task(
        load_mnist,
        (20, 20, 1),
        Space(
            filters=(4, 16), sizes=(3,), pools=((2, 2), (4, 4)), dense=(32,), max_dense=1,
            max_depth=4, max_parameters=40_000,
        ),
        Recipe(stages=((3e-3, 3), (6e-4, 1)), batch_size=64, restart_after=0),
        40,
        HERE / "mnist_table.jsonl",
    ),
}  # fmt: skip


def all_architectures(over: StateSpace) -> Iterator[Architecture]:
    """Yields every legal architecture."""
    waiting: list[Architecture] = [()]
    while waiting:
        layers = waiting.pop()
        state = over.state_after(layers)
        if state.ends:
            yield layers
        waiting += [(*layers, layer) for layer in over.legal_actions(state)]


def average_seconds(task: Task) -> float:
    """Processor time of a model of the table that is trained to its end, in the mean."""
    epochs = task.recipe.epochs
    rows = read_rows(task.path)
    return float(np.mean([row["seconds_first"] + epochs * row["seconds_each"] for row in rows]))


def make(task: Task) -> None:
    """Trains what is not there yet and appends one JSON line each."""
    records = Records(task.path, "architecture")
    splits, recipe, over = task.splits(), task.recipe, task.states()
    texts = sorted(format_architecture(layers) for layers in all_architectures(over))
    for (text,) in records.missing((text,) for text in texts):
        trial = Trial(text, over, splits.train, splits.validation, recipe, texts.index(text))
        began = time.process_time()
        model, clock = compile_model(trial, recipe), Clock()
        curve = fit_model(model, trial, recipe, [clock])
        whole = time.process_time() - began
        each = float(np.median(np.diff(clock.ends)))
        records.add(
            {
                "architecture": text,
                "curve": [round(value, 6) for value in curve],
                "seconds_each": round(each, 4),
                "seconds_first": round(whole - each * len(curve), 4),
                "parameters": over.state_after(parse_architecture(text)).parameters,
            }
        )
        keras.backend.clear_session()


class Clock(keras.callbacks.Callback):
    """Notes the processor time at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Notes the time."""
        del epoch, logs
        self.ends.append(time.process_time())


if __name__ == "__main__":
    raise SystemExit("Run benchmarks/search/run.py --part=table.")
