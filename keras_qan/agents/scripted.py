"""Agents that learn nothing: the yardsticks of every comparison."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_qan.agents.base import ActionChoice
from keras_qan.storage.serialization import configurable


class _Unlearned:
    """What all scripted agents share: sizes, and nothing to learn or keep."""

    def __init__(self) -> None:
        self._sizes: tuple[int, int] | None = None

    def build(self, num_features: int, num_actions: int) -> None:
        """Notes the sizes.

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
class ConstantAgent(_Unlearned):
    """Takes the same action at every decision; with `Follow(schedule)` it plays a schedule.

    Args:
      action: the action's index, at least 0.
    """

    def __init__(self, action: int = 0) -> None:
        super().__init__()
        if action < 0 or int(action) != action:
            raise ValueError(f"Always got action={action}; expected an index of at least 0.")
        self.action = int(action)

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

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:  # noqa: ARG002
        """The same action again."""
        return ActionChoice(tf.constant(self.action, tf.int64), self._no_values(), tf.constant(0.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing to restore."""


@configurable
class RandomAgent(_Unlearned):
    """Takes every action with the same probability: what exploring alone would give.

    Args:
      seed: where its own stream of random numbers starts.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self._num_choices = tf.Variable(0, dtype=tf.int64, trainable=False)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:  # noqa: ARG002
        """A random action."""
        count = self._num_choices.assign_add(1)
        action = tf.random.stateless_uniform(
            [], [tf.constant(self.seed, tf.int64), count], 0, self._num_actions, tf.int64
        )
        return ActionChoice(action, self._no_values(), tf.constant(1.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """The position in its stream."""
        return {"num_choices": self._num_choices.numpy()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Goes on from that position.

        Raises:
          ValueError: the position is missing.
        """
        if "num_choices" not in arrays:
            raise ValueError(
                "The saved agent holds no 'num_choices'; expected what arrays() of a Random gave."
            )
        self._num_choices.assign(arrays["num_choices"])
