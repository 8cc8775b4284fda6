"""An agent that acts for another and keeps what came of it, for the other to learn from.

One agent for several workers: it lives on the chief, and all act on its choices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.agents.base import ActionChoice, Agent
from keras_qan.distribute import WorkerGroup


class TransitionCollector:
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

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:
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


#: How far the states that two workers see may lie apart, relative and absolute: sums of float32
#: whose order is not fixed, and nothing else.
TOLERANCE = 1e-3


class SharedAgent:
    """Lets every worker of a training act on what the chief's agent chooses.

    On the chief it hands everything on to the agent. On the others there is none: they hold no
    parameters and learn nothing. At each choice the workers meet once: every one brings the state
    that it sees, the chief also its choice, and all take the chief's.

    Args:
      agent: what decides; used on the chief alone.
      team: the workers.
    """

    def __init__(self, agent: Agent, team: WorkerGroup) -> None:
        self.team = team
        self.agent = agent
        self._num_actions = 0

    def build(self, num_features: int, num_actions: int) -> None:
        """Builds the chief's agent."""
        self._num_actions = num_actions
        if self.team.is_chief:
            self.agent.build(num_features, num_actions)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:
        """The chief's choice.

        Raises:
          tf.errors.InvalidArgumentError: when run, where a worker sees another state than the
            chief: their trainings have drifted apart.
        """
        if self.team.is_chief:
            own = self.agent.act(observation, explore)
        else:
            nothing = tf.zeros([self._num_actions])
            own = ActionChoice(tf.constant(0, tf.int64), nothing, tf.constant(0.0))
        head = tf.stack([tf.cast(own.action, tf.float32), own.epsilon])
        mine = tf.concat([head, own.q_values, observation], axis=0)  # [2 + A + F]
        everyone = self.team.gather(mine)  # [W, 2 + A + F]
        seen = everyone[:, 2 + self._num_actions :]
        with tf.control_dependencies([self._same(seen)]):
            chiefs = tf.identity(everyone[0])
        return ActionChoice(
            action=tf.cast(chiefs[0], tf.int64),
            q_values=chiefs[2 : 2 + self._num_actions],
            epsilon=chiefs[1],
        )

    def _same(self, seen: tf.Tensor) -> tf.Operation:
        """Fails where the workers see different states, `[W, F]`."""
        apart = tf.abs(seen - seen[:1]) - TOLERANCE * (1.0 + tf.abs(seen[:1]))
        return tf.debugging.Assert(
            tf.reduce_max(apart) <= 0.0,
            [
                "The workers see different states of what should be one training; expected the "
                "same. Give every worker the same code, seed, data and callbacks, and start again "
                "from the last checkpoint. States, one worker a row:",
                seen,
            ],
            summarize=20,
        )

    def learn(
        self, observation: tf.Tensor, action: tf.Tensor, reward: tf.Tensor, discount: tf.Tensor
    ) -> tf.Tensor:
        """Lets the chief's agent learn; the others learn nothing."""
        if self.team.is_chief:
            return self.agent.learn(observation, action, reward, discount)
        return tf.constant(np.nan, tf.float32)

    def abandon(self, num_transitions: int) -> None:
        """Lets the chief's agent forget the last transitions."""
        if self.team.is_chief:
            self.agent.abandon(num_transitions)

    def arrays(self) -> dict[str, np.ndarray]:
        """What the chief's agent knows; nothing elsewhere."""
        return self.agent.arrays() if self.team.is_chief else {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores the chief's agent."""
        if self.team.is_chief:
            self.agent.restore(arrays)

    def adopt(self, arrays: dict[str, np.ndarray]) -> None:
        """Gives the chief's agent a policy to start from."""
        if self.team.is_chief:
            self.agent.adopt(arrays)  # type: ignore[attr-defined]
