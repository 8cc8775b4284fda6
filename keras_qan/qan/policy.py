"""A learned policy as a file: its settings, its parameters and its provenance."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan.actions import LinearFall
from keras_qan.agents import DQN, ThompsonDQN
from keras_qan.qan import presets
from keras_qan.qan.config import CallbackConfig
from keras_qan.storage import checkpoint

#: The largest file that is read as a policy, in bytes.
LARGEST_FILE = 1 << 20

#: The largest replay memory that a policy may ask for, in bytes.
LARGEST_MEMORY = 1 << 28

#: Arguments of a callback that go with any policy.
COMPATIBLE = ("decide_every", "rate_bounds", "dense_start", "schedule", "raises_by_slope")

#: Stands for an argument that was not given, where None says something.
UNSET: Any = object()

#: The format that the file names.
FORMAT = "keras_qan policy 1"


@dataclass(frozen=True)
class Policy:
    """A policy.

    Attributes:
      settings: the settings of a callback that follows it.
      arrays: the agent's parameters and the statistics that normalise its state.
      provenance: tasks, command and scores of its training; plain data.
    """

    settings: CallbackConfig
    arrays: dict[str, np.ndarray]
    provenance: dict[str, Any]

    @property
    def learns(self) -> bool:
        """True where its agent can go on learning; a rule learns nothing."""
        return isinstance(self.settings.agent, DQN)

    @property
    def learning_settings(self) -> CallbackConfig:
        """The settings with which it learns on one task: its agent has a bias to learn."""
        agent, actions = self.settings.agent, self.settings.actions or ()
        if not isinstance(agent, DQN):
            return self.settings
        # The bias does not apply to a step back: it answers a loss that has jumped.
        directions = [0.0 if a.steps_back else math.log(a.factor) for a in actions]
        biased = ThompsonDQN(agent, directions, agent.seed)
        return dataclasses.replace(self.settings, agent=biased)

    def save(self, path: str | Path) -> Path:
        """Write the policy to a file.

        Args:
          path: of the file; folders above it are made.

        Returns:
          The path.

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
        """Read a policy. It is data: nothing in it is run.

        Args:
          path: of a file.

        Returns:
          The policy.

        Raises:
          FileNotFoundError: there is no such file.
          CheckpointError: the file is damaged, too large, or holds something else.
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(
                f"There is no policy at {str(source)!r}; expected a file that "
                'scripts/train_policy.py or Policy.save wrote, or "shipped" for the one that '
                "comes with the package."
            )
        size = source.stat().st_size
        if size > LARGEST_FILE:
            raise checkpoint.CheckpointError(
                f"{source} has {size:,} bytes; expected a policy of at most {LARGEST_FILE:,}. The "
                "checkpoint of a run is opened with QANCallback.load(directory)."
            )
        arrays, data = checkpoint.read(source, max_data_bytes=LARGEST_FILE)
        if data.get("format") != FORMAT:
            raise checkpoint.CheckpointError(
                f"{source} holds {data.get('format', 'a checkpoint')!r}; expected {FORMAT!r}. The "
                "checkpoint of a run is opened with QANCallback.load(directory)."
            )
        try:
            settings = CallbackConfig.from_config(data["settings"])
            settings.check()
            _check_fits(settings, arrays)
            return cls(settings, arrays, dict(data["provenance"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(
                f"{source} does not hold what this version expects of a policy: {error}."
            ) from error


def _check_fits(settings: CallbackConfig, arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where an agent of these settings cannot have known these arrays."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} holds numbers that are none")
    agent = settings.agent
    if not isinstance(agent, DQN):
        raise ValueError(f"its agent is {agent!r}; expected a DQN")
    if settings.actions is None or settings.observations is None:
        raise ValueError("it names no actions or no observations")
    first = arrays["network/0"].shape
    sizes = [first[0] if first else 0, *agent.hidden, len(settings.actions)]
    state = {sum(part.size(kernels) for part in settings.observations) for kernels in (1, 2)}
    if len(state) == 1 and state != {sizes[0]}:
        raise ValueError(f"its network takes {sizes[0]} numbers of a state of {state.pop()}")
    shapes: dict[str, tuple[int, ...]] = {
        "normaliser/count": (),
        "normaliser/mean": (sizes[0],),
        "normaliser/squares": (sizes[0],),
    }
    for place, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        for group in ("network", "target"):
            shapes[f"{group}/{2 * place}"] = (inputs, outputs)
            shapes[f"{group}/{2 * place + 1}"] = (outputs,)
    found = {name: array.shape for name, array in arrays.items()}
    if found != shapes or any(array.dtype != np.float32 for array in arrays.values()):
        raise ValueError(f"it holds arrays of shapes {found}; expected float32 of {shapes}")
    memory = 4 * (sizes[0] + 6) * agent.replay_capacity
    if memory > LARGEST_MEMORY:
        raise ValueError(
            f"its replay_capacity of {agent.replay_capacity} would take {memory:,} bytes; expected "
            f"at most {LARGEST_MEMORY:,}"
        )


def slope() -> Policy:
    """Return the rule that follows the slope ratio: it knows no parameters."""
    return Policy(CallbackConfig(**presets.slope()), {}, {"rule": "slope"})


@functools.cache
def shipped() -> Policy:
    """Return the policy that ships with the package."""
    found = Policy.load(Path(__file__).parents[1] / "policies" / "default.qan")
    # Its file is older than the limit, and than the later fall (decisions 9 and 16).
    changes: dict[str, Any] = {"raises_by_slope": True, "schedule": LinearFall(0.5)}
    return dataclasses.replace(found, settings=dataclasses.replace(found.settings, **changes))


def _by_name(name: str | Path) -> Policy:
    if name == "slope":
        return slope()
    return shipped() if name == "shipped" else Policy.load(name)


def starting_policy(asked: Policy | str | Path | None, given: CallbackConfig) -> Policy | None:
    """Return the policy that a callback starts from, if any.

    Args:
      asked: the callback's argument `policy`; `UNSET` where it was not given.
      given: the other arguments.

    Raises:
      FileNotFoundError: there is no file of that name.
      CheckpointError: the file is damaged, or no policy.
      ValueError: a policy is asked for together with what only it can say.
    """
    parts = [name for name in given.explicit if name not in COMPATIBLE]
    if asked is None or (asked is UNSET and parts):
        return None
    if parts:
        raise ValueError(
            f"QANCallback got policy={asked!r} and {', '.join(parts)}; expected one or the other: "
            "a policy comes with the actions, observations and agent it was learned with. Leave "
            "the others out, or give policy=None to learn from nothing."
        )
    if isinstance(asked, Policy):
        found = asked
    else:
        found = _by_name("shipped" if asked is UNSET else asked)
    changes = dict(given.explicit)
    if "decide_every" in changes:
        changes.setdefault("dense_start", False)
    return dataclasses.replace(found, settings=dataclasses.replace(found.settings, **changes))
