"""An agent that acts for another and keeps what came of it, for the other to learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.agents.protocol import Agent, Choice


class Gathering:
    """Acts as an agent does, explores as it does, and learns nothing: it gathers transitions.

    Args:
      agent: who acts.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._gathered: list[tuple[Any, ...]] = []

    def build(self, num_features: int, num_actions: int) -> None:
        """Builds the agent."""
        self.agent.build(num_features, num_actions)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> Choice:
        """Acts as the agent does."""
        return self.agent.act(observation, explore)

    def learn(
        self, observation: tf.Tensor, action: tf.Tensor, reward: tf.Tensor, discount: tf.Tensor
    ) -> tf.Tensor:
        """Keeps the transition; not-a-number, as nothing was learned."""

        def keep(*transition: Any) -> np.ndarray:
            self._gathered.append(tuple(np.array(part) for part in transition))
            return np.asarray(np.nan, np.float32)

        parts = [observation, action, reward, discount]
        return tf.reshape(tf.numpy_function(keep, parts, tf.float32), [])

    def take(self) -> dict[str, np.ndarray]:
        """The transitions since the last time, oldest first.

        Returns:
          `observation` float32 `[T, F]`, `action` int64 `[T]`, `reward` and `discount` float32
          `[T]`; nothing at all where T is 0.
        """
        names = ("observation", "action", "reward", "discount")
        columns = [np.stack(column) for column in zip(*self._gathered, strict=True)]
        self._gathered = []
        return dict(zip(names, columns, strict=False))

    def abandon(self, num_transitions: int) -> None:
        """Forgets the last transitions."""
        del self._gathered[len(self._gathered) - num_transitions :]

    def arrays(self) -> dict[str, np.ndarray]:
        """The agent's."""
        return self.agent.arrays()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores the agent."""
        self.agent.restore(arrays)
