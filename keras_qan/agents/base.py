"""The protocol of agents."""

from __future__ import annotations

import abc
from typing import NamedTuple

import numpy as np


class ActionChoice(NamedTuple):
    """A decision, and the values that it was taken from.

    Attributes:
      action: the chosen action's index.
      q_values: the estimated value of each action, float array `[A]`; not-a-number where an agent
        estimates none.
      epsilon: the probability of a random action at this decision.
    """

    action: int
    q_values: np.ndarray
    epsilon: float


class Agent(abc.ABC):
    """A chooser of actions that may learn from their rewards; subclass it for one of your own.

    It works on the host, in NumPy: a training has few decisions, and a compiled decision would
    cost more to trace than all of them take.
    """

    #: Whether its arrays change also when it does not explore. Defaults to False.
    always_changes: bool = False

    #: The discount factor γ of the rewards within an option. Defaults to 1.
    gamma: float = 1.0

    @abc.abstractmethod
    def build(self, num_features: int, num_actions: int) -> None:
        """Take the sizes; a second call with the same sizes does nothing.

        Args:
          num_features: size of the state, F.
          num_actions: how many there are, A.

        Raises:
          ValueError: it was built for other sizes.
        """

    def begin(self) -> None:  # noqa: B027 - few agents need it
        """Take note that a training begins."""

    @abc.abstractmethod
    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:
        """Choose an action.

        Args:
          observation: the state, float32 `[F]`, not normalised.
          explore: whether random actions and learning are wanted.

        Returns:
          The action with its values, and how random the choice was.
        """

    @abc.abstractmethod
    def learn(self, observation: np.ndarray, action: int, reward: float, discount: float) -> float:
        """Take in one transition and learn.

        Args:
          observation: the state that the action was chosen in, float32 `[F]`.
          action: the action's index.
          reward: its reward; of an option over k decisions Σ_{i<k} γⁱ rᵢ.
          discount: 0 where the episode ended with it, else 1; of such an option γᵏ⁻¹, as the value
            of the state that follows is discounted by γ for any action.

        Returns:
          The temporal-difference loss; not-a-number where nothing was learned.
        """

    @abc.abstractmethod
    def abandon(self, num_transitions: int) -> None:
        """Forget the last transitions: their episode was broken off without an end.

        Args:
          num_transitions: how many of them.
        """

    @abc.abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything that it knows, by name, as copies."""

    @abc.abstractmethod
    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` of an agent of the same settings gave.

        Args:
          arrays: by name.

        Raises:
          ValueError: an array is missing or has another shape.
        """

    def arrays_to_act(self, stream: int) -> dict[str, np.ndarray]:
        """Return what `restore` of another process needs to act as this agent would.

        Args:
          stream: the number of its stream for exploration; each episode has its own, from 1.
        """
        del stream
        return self.arrays()

    def adopt(self, parameters: dict[str, np.ndarray]) -> None:
        """Take over the parameters of a learned policy.

        Args:
          parameters: arrays by name.

        Raises:
          ValueError: it has no parameters, or not of these shapes.
        """
        raise ValueError(
            f"{type(self).__name__} follows no learned policy, and got one of "
            f"{len(parameters)} arrays; expected a DQN."
        )


def random_stream(seed: int, count: int) -> np.random.Generator:
    """Return the generator of one draw: it depends on seed and count alone."""
    mask = (1 << 64) - 1
    return np.random.Generator(np.random.Philox(key=[seed & mask, count & mask]))


def check_shapes(expected: dict[str, tuple[int, ...]], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where a saved array is missing or has another shape.

    Args:
      expected: shapes by name.
      arrays: the saved arrays.
    """
    for name, shape in expected.items():
        if name not in arrays or np.shape(arrays[name]) != tuple(shape):
            received = np.shape(arrays[name]) if name in arrays else "nothing"
            raise ValueError(
                f"The saved agent holds {received} for {name!r}; expected an array of shape "
                f"{tuple(shape)}. It was saved by another kind of agent, or with other settings."
            )
