"""Agents that learn nothing: the yardsticks of every comparison."""

from __future__ import annotations

import math

import numpy as np

from keras_qan.agents.base import ActionChoice, Agent, check_shapes, random_stream
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check, check_integer


class ScriptedAgent(Agent):
    """An agent that knows its sizes, and has nothing to learn or keep."""

    def __init__(self) -> None:
        self._sizes: tuple[int, int] | None = None

    def build(self, num_features: int, num_actions: int) -> None:
        """Take the sizes.

        Raises:
          ValueError: it was built for others.
        """
        if self._sizes not in (None, (num_features, num_actions)):
            raise ValueError(
                f"This {type(self).__name__} was built for (features, actions) = {self._sizes}, "
                f"and is asked for {(num_features, num_actions)}. Watch as many layers as before, "
                "or make a new agent."
            )
        self._sizes = (num_features, num_actions)

    @property
    def _num_actions(self) -> int:
        return self._sizes[1] if self._sizes else 0

    def learn(self, observation: np.ndarray, action: int, reward: float, discount: float) -> float:  # noqa: ARG002
        """Learn nothing."""
        return math.nan

    def abandon(self, num_transitions: int) -> None:
        """Remember nothing."""

    def _choose(self, action: int, epsilon: float) -> ActionChoice:
        return ActionChoice(action, np.full(self._num_actions, np.nan, np.float32), epsilon)


@configurable
class ConstantAgent(ScriptedAgent):
    """Take the same action at every decision; with `Follow(schedule)` it follows a schedule.

    Args:
      action: the action's index, at least 0. Defaults to 0.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, action: int = 0) -> None:
        super().__init__()
        self.action = check_integer("ConstantAgent's action", action, 0)

    def build(self, num_features: int, num_actions: int) -> None:
        """Take the sizes.

        Raises:
          ValueError: the index is beyond the actions.
        """
        expected = f"an index from 0 to {num_actions - 1}, as there are {num_actions} actions"
        check(self.action < num_actions, "ConstantAgent's action", self.action, expected)
        super().build(num_features, num_actions)

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:  # noqa: ARG002
        """Choose the same action again."""
        return self._choose(self.action, 0.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return nothing."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore nothing."""


@configurable
class RandomAgent(ScriptedAgent):
    """Take every action with the same probability, as exploring alone would.

    Args:
      seed: seed of its own stream of random numbers. Defaults to 0.

    Raises:
      ValueError: an argument is out of range.
    """

    always_changes = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = check_integer("RandomAgent's seed", seed)
        self._num_choices = 0

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:  # noqa: ARG002
        """Choose a random action."""
        self._num_choices += 1
        draw = random_stream(self.seed, self._num_choices).integers(self._num_actions)
        return self._choose(int(draw), 1.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the position in its stream."""
        return {"num_choices": np.array(self._num_choices, np.int64)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from that position.

        Raises:
          ValueError: the position is missing.
        """
        check_shapes({"num_choices": ()}, arrays)
        self._num_choices = int(arrays["num_choices"])
