"""Agents that learn nothing: the yardsticks of every comparison."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_qan.agents.protocol import Choice
from keras_qan.registry import configurable


class _Unlearned:
    """What all scripted agents share: sizes, and nothing to learn or keep."""

    def __init__(self) -> None:
        self._num_actions = 0

    def build(self, num_features: int, num_actions: int) -> None:  # noqa: ARG002
        """Notes the number of actions."""
        self._num_actions = num_actions

    def learn(
        self,
        observation: tf.Tensor,  # noqa: ARG002
        action: tf.Tensor,  # noqa: ARG002
        reward: tf.Tensor,  # noqa: ARG002
        discount: tf.Tensor,  # noqa: ARG002
    ) -> tf.Tensor:
        """Nothing is learned."""
        return tf.constant(np.nan)

    def abandon(self, num_transitions: int) -> None:
        """Nothing is remembered."""

    def _no_values(self) -> tf.Tensor:
        return tf.fill([self._num_actions], np.float32(np.nan))


@configurable
class Always(_Unlearned):
    """Takes the same action at every decision; with `Follow(schedule)` it plays a schedule.

    Args:
      action: the action's index, at least 0.
    """

    def __init__(self, action: int = 0) -> None:
        super().__init__()
        if action < 0:
            raise ValueError(f"Always got action={action}; expected an index of at least 0.")
        self.action = action

    def build(self, num_features: int, num_actions: int) -> None:
        """Checks that there is such an action.

        Raises:
          ValueError: the index is beyond the actions.
        """
        if self.action >= num_actions:
            raise ValueError(
                f"Always({self.action}) is to choose among {num_actions} actions; expected an "
                f"index from 0 to {num_actions - 1}."
            )
        super().build(num_features, num_actions)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> Choice:  # noqa: ARG002
        """The same action again."""
        return Choice(tf.constant(self.action, tf.int64), self._no_values(), tf.constant(0.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing to restore."""


@configurable
class Random(_Unlearned):
    """Takes every action with the same probability: what exploring alone would give.

    Args:
      seed: where its own stream of random numbers starts.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self._num_choices = tf.Variable(0, dtype=tf.int64, trainable=False)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> Choice:  # noqa: ARG002
        """A random action."""
        count = self._num_choices.assign_add(1)
        action = tf.random.stateless_uniform(
            [], [tf.constant(self.seed, tf.int64), count], 0, self._num_actions, tf.int64
        )
        return Choice(action, self._no_values(), tf.constant(1.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """The position in its stream."""
        return {"num_choices": self._num_choices.numpy()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Goes on from that position."""
        self._num_choices.assign(arrays["num_choices"])
