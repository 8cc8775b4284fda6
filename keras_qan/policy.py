"""A learned policy as a file: what it can be used with, what it knows, and where it comes from."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan import checkpoint
from keras_qan.agents import DQN, Leaning
from keras_qan.brain import Settings

#: The largest file that is read as a policy, in bytes.
LARGEST_FILE = 1 << 20

#: What the file says it is.
FORMAT = "keras_qan policy 1"


@dataclass(frozen=True)
class Policy:
    """A policy.

    Attributes:
      settings: what a callback that follows it is made of.
      arrays: the agent's parameters and the statistics that normalise its state.
      provenance: what it was trained on, with which command, and how it scored; plain data.
    """

    settings: Settings
    arrays: dict[str, np.ndarray]
    provenance: dict[str, Any]

    @property
    def learning_settings(self) -> Settings:
        """The settings with which it goes on learning on one task: its agent may lean."""
        agent, actions = self.settings.agent, self.settings.actions or ()
        if not isinstance(agent, DQN):
            return self.settings
        factors = [float(getattr(action, "factor", 1.0)) for action in actions]
        leaning = Leaning(agent, [math.log(factor) for factor in factors], agent.seed)
        return dataclasses.replace(self.settings, agent=leaning)

    def save(self, path: str | Path) -> Path:
        """Writes the policy to a file.

        Raises:
          OSError: the file cannot be written.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "format": FORMAT,
            "settings": self.settings.config(),
            "provenance": self.provenance,
        }
        checkpoint.write(target, self.arrays, data)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Reads a policy. It is data: nothing in it is run.

        Raises:
          FileNotFoundError: there is no such file.
          CheckpointError: the file is damaged, too large, or holds something else.
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(
                f"There is no policy at {str(source)!r}; expected a file that "
                "scripts/train_policy.py or Policy.save wrote. QANCallback() without arguments "
                "uses the one that ships with the package."
            )
        size = source.stat().st_size
        if size > LARGEST_FILE:
            raise checkpoint.CheckpointError(
                f"{source} has {size:,} bytes; expected a policy of at most {LARGEST_FILE:,}. The "
                "checkpoint of a run is opened with QANCallback.load(directory)."
            )
        arrays, data = checkpoint.read(source)
        if data.get("format") != FORMAT:
            raise checkpoint.CheckpointError(
                f"{source} holds {data.get('format', 'a checkpoint')!r}; expected {FORMAT!r}. The "
                "checkpoint of a run is opened with QANCallback.load(directory)."
            )
        try:
            settings = Settings.from_config(data["settings"])
            settings.check()
            return cls(settings, arrays, dict(data["provenance"]))
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(
                f"{source} does not hold what this version expects of a policy: {error}."
            ) from error


@functools.cache
def shipped() -> Policy:
    """The policy that ships with the package."""
    return Policy.load(Path(__file__).parent / "policies" / "default.qan")
