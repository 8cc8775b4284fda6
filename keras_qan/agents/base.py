"""What every agent can do."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf


class ActionChoice(NamedTuple):
    """A decision and what it was taken from.

    Attributes:
      action: the chosen action's index, int64 `[]`.
      q_values: the estimated value of each action, float32 `[A]`; not-a-number where an agent
        estimates none.
      epsilon: the probability of a random action at this decision, float32 `[]`.
    """

    action: tf.Tensor
    q_values: tf.Tensor
    epsilon: tf.Tensor


class Agent(Protocol):
    """Chooses among actions, and may learn from what came of it.

    `act` and `learn` are called within a compiled function: they hold TensorFlow operations and
    keep what they remember in variables made by `build`.
    """

    def build(self, num_features: int, num_actions: int) -> None:
        """Makes the variables; a second call with the same sizes does nothing.

        Raises:
          ValueError: it was built for other sizes.
        """
        ...

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:
        """Chooses.

        Args:
          observation: the state, float32 `[F]`, not normalised.
          explore: whether random actions and learning are wanted, bool `[]`.
        """
        ...

    def learn(
        self, observation: tf.Tensor, action: tf.Tensor, reward: tf.Tensor, discount: tf.Tensor
    ) -> tf.Tensor:
        """Takes in one transition and learns.

        Args:
          observation: the state that the action was chosen in, float32 `[F]`.
          action: the action's index, int64 `[]`.
          reward: what came of it, float32 `[]`.
          discount: 0 where the episode ended with it, else 1, float32 `[]`.

        Returns:
          The temporal-difference loss, float32 `[]`; not-a-number where nothing was learned.
        """
        ...

    def abandon(self, num_transitions: int) -> None:
        """Forgets the last transitions: their episode was broken off without an end."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that it knows, by name."""
        ...

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` of an agent of the same settings gave.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        ...
