"""A rally in its directory: settings, checkpoints, and logs for people and figures."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qan.qan.agent_state import AgentState
from keras_qan.qan.callback import QANCallback
from keras_qan.storage import checkpoint, files
from keras_qan.storage.settings import require_same_settings

_STEM = "rally"
_LOGS = ("stages", "looks")


class RallyStore:
    """The files of a rally; without a directory nothing is written.

    Args:
      directory: folder of the rally, or None.
      settings: all that a resumed rally has to share with the one in the directory.

    Raises:
      ValueError: the directory holds a rally with other settings.
      CheckpointError: its files are damaged.
    """

    def __init__(self, directory: Path | None, settings: dict[str, Any]) -> None:
        self.directory = directory
        self._saved: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None
        if directory is not None and require_same_settings(directory, settings, "rally"):
            self._saved = checkpoint.read_newest(directory, _STEM)

    @property
    def data(self) -> dict[str, Any]:
        """`stages`, `looks`, `qan_episodes` and `test` as of the last finished stage."""
        if self._saved is None:
            return {"stages": [], "looks": [], "qan_episodes": None, "test": {}}
        return dict(self._saved[1])

    def restore(self, model: keras.Model) -> None:
        """Give a network of the last finished stage's shape its weights and optimizer's state.

        Raises:
          CheckpointError: it has another shape.
        """
        assert self._saved is not None
        arrays = self._saved[0]
        model.optimizer.build(model.trainable_variables)
        for name, variable in _variables(model).items():
            array = arrays.get(name)
            if array is None or tuple(array.shape) != tuple(variable.shape):
                raise checkpoint.CheckpointError(
                    f"{self.directory} holds other weights than build_model and the stages "
                    f"lead to, first {variable.path}; expected the same build_model as before. "
                    "Use another directory."
                )
            variable.assign(array)

    def write(self, model: keras.Model, data: dict[str, Any]) -> None:
        """Write the state after a stage, and the whole logs."""
        if self.directory is None:
            return
        arrays = {
            name: keras.ops.convert_to_numpy(variable)
            for name, variable in _variables(model).items()
        }
        data = files.replace_non_finite(data)
        checkpoint.write_next(self.directory, _STEM, arrays, data)
        self._saved = arrays, data
        for log in _LOGS:
            lines = [json.dumps(record) for record in data[log]]
            files.replace(self.directory / f"{log}.jsonl", "".join(f"{line}\n" for line in lines))


def _variables(model: keras.Model) -> dict[str, Any]:
    """Variables of the network and of its optimizer, by their names in a checkpoint."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{group}/{place}": variable
        for group, variables in groups.items()
        for place, variable in enumerate(variables)
    }


def roll_back(qan: QANCallback, episodes: int) -> QANCallback:
    """Return the agent as it was after so many episodes.

    It is written after each episode, and the rally after that; a kill in between leaves an agent
    that has learned from a stage which will be trained again.

    Args:
      qan: the agent's callback.
      episodes: number of episodes that the rally knows of.

    Returns:
      The callback itself, or one of an earlier checkpoint.
    """
    if qan.directory is None or qan.episodes <= episodes:
        return qan
    later: list[Path] = []
    for path in reversed(checkpoint.series(qan.directory / "agent", AgentState.STEM)):
        known = int(checkpoint.read(path)[1]["episodes"])
        if known == episodes:
            for one in later:
                one.unlink()
            return QANCallback.load(qan.directory)
        later.append(path)
    warnings.warn(
        f"The agent in {qan.directory} has learned from {qan.episodes} episodes, and the rally "
        f"knows of {episodes}; its checkpoint of then is gone. It goes on with what it knows.",
        RuntimeWarning,
        stacklevel=3,
    )
    return qan
