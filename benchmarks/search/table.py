"""Every architecture of a small space, trained once: what searches are replayed on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from benchmarks.common.records import Records
from keras_qan.data import load
from keras_qan.metaqnn import Recipe, Space, StateSpace
from keras_qan.metaqnn.space import Architecture, format_architecture, parse_architecture
from keras_qan.metaqnn.trial import Trial, compile_model, fit_model

SPACE = Space(
    filters=(8, 32), sizes=(3,), pools=((2, 2),), dense=(32,), max_dense=1, max_depth=3,
    max_parameters=40_000,
)  # fmt: skip
RECIPE = Recipe(stages=((3e-3, 4), (6e-4, 2)), batch_size=32, restart_after=0)


def state_space() -> StateSpace:
    """Of the table's space on digits."""
    return StateSpace(SPACE, (8, 8, 1), 10)


def all_architectures(over: StateSpace) -> Iterator[Architecture]:
    """Yields every legal architecture."""
    waiting: list[Architecture] = [()]
    while waiting:
        layers = waiting.pop()
        state = over.state_after(layers)
        if state.ends:
            yield layers
        waiting += [(*layers, layer) for layer in over.legal_actions(state)]


def make(path: Path) -> None:
    """Trains what is not there yet and appends one JSON line each."""
    records = Records(path, "architecture")
    splits, over = load("digits"), state_space()
    texts = sorted(format_architecture(layers) for layers in all_architectures(over))
    for (text,) in records.missing((text,) for text in texts):
        number = texts.index(text)
        trial = Trial(text, over, splits.train, splits.validation, RECIPE, number)
        began = time.process_time()
        model, clock = compile_model(trial, RECIPE), Clock()
        curve = fit_model(model, trial, RECIPE, [clock])
        whole = time.process_time() - began
        each = float(np.median(np.diff(clock.ends)))
        test = fraction_right(model, splits.test)
        records.add(
            {
                "architecture": text,
                "curve": curve,
                "seconds_each": each,
                "seconds_first": whole - each * len(curve),
                "parameters": over.state_after(parse_architecture(text)).parameters,
                "test": test,
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


def fraction_right(model: keras.Model, examples) -> float:
    found = model.predict(examples.x, batch_size=512, verbose=0).argmax(axis=1)
    return float(np.mean(found == examples.y))


if __name__ == "__main__":
    raise SystemExit("Run benchmarks/search/run.py --part table.")
