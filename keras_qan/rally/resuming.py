"""An agent that knows of a stage whose end was lost is taken back to the stage before."""

from __future__ import annotations

import warnings
from pathlib import Path

from keras_qan import checkpoint
from keras_qan.brain import Brain
from keras_qan.callback import QANCallback


def taken_back(qan: QANCallback, episodes: int) -> QANCallback:
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
    for path in reversed(checkpoint.series(folder, Brain.STEM)):
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
