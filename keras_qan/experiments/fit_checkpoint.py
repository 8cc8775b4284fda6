"""Mid-training checkpoints, written at the ends of epochs, to resume from."""

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

#: The folder of the checkpoints in a run's directory.
FOLDER = "midway"

_STEM = "training"

#: Largest share of a training's time that saves take, where no interval is asked for.
MAX_TIME_SHARE = 0.01

#: Expected time of a save before one was timed: seconds, and bytes a second.
_SECONDS, _BYTES_A_SECOND = 0.05, 50e6


class FitCheckpoint:
    """Checkpoints of the running training in a run's directory.

    Args:
      directory: of the run.
      every: epochs between saves; 0 for as often as takes at most `MAX_TIME_SHARE` of the time;
        None for never. Defaults to 0.
      hold: a context in which nothing breaks off a write. Defaults to one that does nothing.
    """

    def __init__(
        self,
        directory: Path,
        every: int | None = 0,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._folder = directory / FOLDER
        self.every = every
        self.hold = hold
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

    def pop(self, context: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the saved state of the training with that context, once; empty where none is."""
        newest, self._newest = self._newest, None
        if newest is None or newest[1].get("context") != context:
            return {}, {}
        return newest

    def write(self, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        """Save a state.

        Raises:
          OSError: it cannot be written; the one before is untouched.
        """
        with self.hold():
            checkpoint.write_next(self._folder, _STEM, arrays, data)

    def clear(self) -> None:
        """Remove the states: their training is over and its records are written."""
        shutil.rmtree(self._folder, ignore_errors=True)


class FitCheckpointCallback(keras.callbacks.Callback):
    """Save one training at the ends of its epochs; it comes after the `QANCallback` in `fit`.

    Args:
      checkpoint: the checkpoints to write to.
      callback: the QANCallback of the training.

    Attributes:
      epoch: the epoch to begin with, `fit`'s `initial_epoch`.
    """

    def __init__(self, checkpoint: FitCheckpoint, callback: QANCallback) -> None:
        super().__init__()
        self._checkpoint, self._callback = checkpoint, callback
        self._arrays, self._data = checkpoint.pop(dict(callback.context))
        self.epoch: int = self._data.get("epoch", 0)
        self._timed: float | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Resume from the saved state.

        Raises:
          CheckpointError: the state does not fit the training.
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
        """Save where it is time."""
        is_last = epoch + 1 == self.params.get("epochs") or self.model.stop_training
        if not is_last and self._is_due(epoch):
            started = time.perf_counter()
            self._checkpoint.write(*self._state(epoch + 1))
            self._since = time.perf_counter()
            self._timed = self._since - started

    def _is_due(self, epoch: int) -> bool:
        every = self._checkpoint.every
        if every is None:
            return False
        if every:
            return (epoch + 1) % every == 0
        seconds = self._timed
        if seconds is None:
            seconds = _SECONDS + self._count_bytes() / _BYTES_A_SECOND
        return time.perf_counter() - self._since >= seconds / MAX_TIME_SHARE

    def _count_bytes(self) -> int:
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
        """True where the agent may have changed since the training began."""
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
        records = {} if log is None else log.state()
        for name, lines in records.pop("lines", {}).items():
            arrays[f"log/{name}"] = np.frombuffer("\n".join(lines).encode(), np.uint8)
        scalars = records.pop("scalars", [])
        names = sorted({name for name, _, _ in scalars})
        places = {name: place for place, name in enumerate(names)}
        rows = [(places[name], value, step) for name, value, step in scalars]
        arrays["log/scalars"] = np.array(rows, np.float64).reshape(-1, 3)
        data |= {"context": dict(callback.context), "epoch": epoch, "scalars": names}
        return arrays, data | {"logged": records.get("context", {})}

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
        log.restore(
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
    """Return the arrays whose names begin so, without the prefix."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _plain(array: np.ndarray) -> np.ndarray:
    """Return the array in a type of NumPy's own: bfloat16 as the integers of its bits."""
    if array.dtype.kind != "V":
        return np.asarray(array)
    return array.view({1: np.uint8, 2: np.uint16}[array.dtype.itemsize])
