"""A training that is not over, on the disk: saved at the ends of epochs, and gone on with."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qan.qan.callback import QANCallback
from keras_qan.storage import checkpoint

#: Where the states are, in the run's directory.
FOLDER = "midway"

_STEM = "training"

#: Saves take at most this share of a training's time, where nothing else is asked for.
MOST_OF_TIME = 0.01

#: What a save is expected to take before one was timed: seconds, and bytes a second.
_SECONDS, _BYTES_A_SECOND = 0.05, 50e6


class FitCheckpoint:
    """Keeps the state of the running training in a run's directory.

    Args:
      directory: the run's.
      every: epochs between saves; 0 for as often as takes at most a hundredth of the time; None
        for never.
      held: a context in which nothing breaks off a write.
    """

    def __init__(
        self,
        directory: Path,
        every: int | None = 0,
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._folder = directory / FOLDER
        self.every = every
        self.held = held
        self._newest = self._read()

    def _read(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        try:
            return checkpoint.read_newest(self._folder, _STEM)
        except checkpoint.CheckpointError as error:
            # The agent's own checkpoint is at the training's beginning.
            warnings.warn(
                f"{error} The training is begun again from its start.", RuntimeWarning, stacklevel=2
            )
            return None

    def state_of(self, context: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What was saved of the training with that context, once; empty where nothing was."""
        newest, self._newest = self._newest, None
        if newest is None or newest[1].get("context") != context:
            return {}, {}
        return newest

    def write(self, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        """Saves a state.

        Raises:
          OSError: it cannot be written; the one before is untouched.
        """
        with self.held():
            checkpoint.write_next(self._folder, _STEM, arrays, data)

    def clear(self) -> None:
        """Removes the states: their training is over and written down."""
        shutil.rmtree(self._folder, ignore_errors=True)


class FitCheckpointCallback(keras.callbacks.Callback):
    """Saves one training at the ends of its epochs; stands behind the `QANCallback` in `fit`.

    Args:
      midway: where to.
      callback: the one that steers the training.

    Attributes:
      epoch: the epoch to begin with, `fit`'s `initial_epoch`.
    """

    def __init__(self, midway: FitCheckpoint, callback: QANCallback) -> None:
        super().__init__()
        self._midway, self._callback = midway, callback
        self._arrays, self._data = midway.state_of(dict(callback.context))
        self.epoch: int = self._data.get("epoch", 0)
        self._timed: float | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Goes on from what was saved.

        Raises:
          CheckpointError: it does not fit the training.
        """
        self._since = time.perf_counter()
        if not self._data:
            return
        try:
            self._restore()
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(
                f"What was saved of a training in its epoch {self.epoch} does not fit it: {error}. "
                f"Remove the folder {FOLDER!r} of the run, and the training begins again."
            ) from error
        self._arrays, self._data = {}, {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Saves where it is time."""
        is_last = epoch + 1 == self.params.get("epochs") or self.model.stop_training
        if not is_last and self._is_due(epoch):
            started = time.perf_counter()
            self._midway.write(*self._state(epoch + 1))
            self._since = time.perf_counter()
            self._timed = self._since - started

    def _is_due(self, epoch: int) -> bool:
        if self._midway.every is None:
            return False
        if self._midway.every:
            return (epoch + 1) % self._midway.every == 0
        seconds = self._timed
        if seconds is None:
            seconds = _SECONDS + self._size() / _BYTES_A_SECOND
        return time.perf_counter() - self._since >= seconds / MOST_OF_TIME

    def _size(self) -> int:
        parts = [*self.model.variables, *self.model.optimizer.variables]
        return sum(4 * int(np.prod(part.shape)) for part in parts)

    def _variables(self) -> dict[str, Any]:
        groups = {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
        return {
            f"{group}/{number}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }

    @property
    def _agent_learns(self) -> bool:
        """Whether the agent is not what it was when the training began."""
        return self._callback.explore or self._callback.agent.always_changes

    def _state(self, epoch: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        callback = self._callback
        arrays, data = callback.pause()
        arrays |= {name: _plain(v.value.numpy()) for name, v in self._variables().items()}
        if self._agent_learns:
            arrays |= {f"agent/{name}": a for name, a in callback.agent.arrays().items()}
        if callback.selector is not None:
            arrays |= {f"selector/{name}": a for name, a in callback.selector.arrays().items()}
        log = callback.state.log
        gathered = {} if log is None else log.gathered()
        for name, lines in gathered.pop("lines", {}).items():
            arrays[f"log/{name}"] = np.frombuffer("\n".join(lines).encode(), np.uint8)
        scalars = gathered.pop("scalars", [])
        names = sorted({name for name, _, _ in scalars})
        places = {name: place for place, name in enumerate(names)}
        rows = [(places[name], value, step) for name, value, step in scalars]
        arrays["log/scalars"] = np.array(rows, np.float64).reshape(-1, 3)
        data |= {"context": dict(callback.context), "epoch": epoch, "scalars": names}
        return arrays, data | {"logged": gathered.get("context", {})}

    def _restore(self) -> None:
        callback, arrays, data = self._callback, self._arrays, self._data
        if callback.selector is not None:
            callback.selector.restore(_under("selector/", arrays))
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        variables = self._variables()
        saved = {name for name in arrays if name.startswith(("model/", "optimizer/"))}
        if saved != variables.keys():
            raise ValueError(f"it has {len(saved)} variables, and the model {len(variables)}")
        for name, variable in variables.items():
            dtype = variable.value.numpy().dtype
            value = arrays[name]
            variable.assign(value.view(dtype) if dtype.kind == "V" else value)
        if self._agent_learns:
            callback.agent.restore(_under("agent/", arrays))
        callback.go_on(arrays, data)
        log = callback.state.log
        if log is None:
            return
        texts = {
            name: text.tobytes().decode()
            for name, text in _under("log/", arrays).items()
            if name != "scalars"
        }
        log.take_up(
            {
                "context": data["logged"],
                "lines": {name: text.split("\n") if text else [] for name, text in texts.items()},
                "scalars": [
                    (data["scalars"][int(name)], value, int(step))
                    for name, value, step in arrays["log/scalars"].tolist()
                ],
            }
        )


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that NumPy itself knows: bfloat16 as the integers of its bits."""
    if array.dtype.kind != "V":
        return np.asarray(array)
    return array.view({1: np.uint8, 2: np.uint16}[array.dtype.itemsize])
