"""A rally in its directory: settings, checkpoints, and logs for people and figures.

An agent that knows of a stage whose end was lost is taken back to the stage before.
"""

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
from keras_qan.storage.run_log import plain

_STEM = "rally"


_SETTINGS = "settings.json"


LOGS = ("stages", "looks")


class RallyStore:
    """Keeps a rally, if it has a directory.

    Args:
      directory: where, or None.
      settings: what the rally is made of; one that is there has to have the same.

    Raises:
      ValueError: the directory holds a rally with other settings.
      CheckpointError: its files are damaged.
    """

    def __init__(self, directory: Path | None, settings: dict[str, Any]) -> None:
        self.directory = directory
        self._saved: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None
        if directory is None:
            return
        path = directory / _SETTINGS
        present = json.loads(json.dumps(plain(settings)))
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            files.replace(path, json.dumps(present, indent=1) + "\n")
            return
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise checkpoint.CheckpointError(
                f"{path} is not whole: {error}. Start anew in another directory."
            ) from error
        keys = sorted(present.keys() | saved.keys())
        differing = [key for key in keys if saved.get(key) != present.get(key)]
        if differing:
            raise ValueError(
                f"{directory} holds a rally with other {', '.join(differing)}; expected the same, "
                "so that it can go on. Use another directory, or give what it was made with: "
                + "; ".join(f"{key}={json.dumps(saved.get(key))[:300]}" for key in differing)
            )
        self._saved = checkpoint.read_newest(directory, _STEM)

    @property
    def data(self) -> dict[str, Any]:
        """What the last finished stage left: `stages`, `looks`, `qan_episodes`, `test`."""
        if self._saved is None:
            return {"stages": [], "looks": [], "qan_episodes": None, "test": {}}
        return dict(self._saved[1])

    def restore(self, model: keras.Model) -> None:
        """Gives a network of the last finished stage's shape its weights and optimizer's state.

        Raises:
          CheckpointError: it has another shape.
        """
        assert self._saved is not None
        arrays = self._saved[0]
        model.optimizer.build(model.trainable_variables)
        for name, variables in _variables(model).items():
            found = [arrays.get(f"{name}/{place}") for place in range(len(variables))]
            for variable, array in zip(variables, found, strict=True):
                if array is None or tuple(array.shape) != tuple(variable.shape):
                    raise checkpoint.CheckpointError(
                        f"{self.directory} holds other weights than build_model and the stages "
                        f"lead to, first {variable.path}; expected the same build_model as before. "
                        "Use another directory."
                    )
                variable.assign(array)

    def write(self, model: keras.Model, data: dict[str, Any]) -> None:
        """Writes where the rally stands after a stage, and the logs anew."""
        if self.directory is None:
            return
        arrays = {
            f"{name}/{place}": keras.ops.convert_to_numpy(variable)
            for name, variables in _variables(model).items()
            for place, variable in enumerate(variables)
        }
        data = plain(data)
        checkpoint.write_next(self.directory, _STEM, arrays, data)
        self._saved = arrays, data
        for log in LOGS:
            lines = [json.dumps(record) for record in data[log]]
            files.replace(self.directory / f"{log}.jsonl", "".join(f"{line}\n" for line in lines))


def _variables(model: keras.Model) -> dict[str, list[Any]]:
    return {"model": list(model.variables), "optimizer": list(model.optimizer.variables)}


def roll_back(qan: QANCallback, episodes: int) -> QANCallback:
    """The agent as it was after so many episodes.

    It is written after each episode, and the rally after that; a kill in between leaves an agent
    that has learned from a stage which will be trained again.

    Args:
      qan: the agent's callback.
      episodes: what the rally knows of.

    Returns:
      The callback itself, or one of an earlier checkpoint.
    """
    if qan.directory is None or qan.episodes <= episodes:
        return qan
    folder = qan.directory / "agent"
    later: list[Path] = []
    for path in reversed(checkpoint.series(folder, AgentState.STEM)):
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
