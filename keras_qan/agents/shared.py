"""One agent for several workers: it lives on the chief, and all act on its choices."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_qan.agents.protocol import Agent, Choice
from keras_qan.distribute import Team

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

    def __init__(self, agent: Agent, team: Team) -> None:
        self.team = team
        self.agent = agent
        self._num_actions = 0

    def build(self, num_features: int, num_actions: int) -> None:
        """Builds the chief's agent."""
        self._num_actions = num_actions
        if self.team.is_chief:
            self.agent.build(num_features, num_actions)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> Choice:
        """The chief's choice.

        Raises:
          tf.errors.InvalidArgumentError: when run, where a worker sees another state than the
            chief: their trainings have drifted apart.
        """
        if self.team.is_chief:
            own = self.agent.act(observation, explore)
        else:
            nothing = tf.zeros([self._num_actions])
            own = Choice(tf.constant(0, tf.int64), nothing, tf.constant(0.0))
        head = tf.stack([tf.cast(own.action, tf.float32), own.epsilon])
        mine = tf.concat([head, own.q_values, observation], axis=0)  # [2 + A + F]
        everyone = self.team.gather(mine)  # [W, 2 + A + F]
        seen = everyone[:, 2 + self._num_actions :]
        with tf.control_dependencies([self._same(seen)]):
            chiefs = tf.identity(everyone[0])
        return Choice(
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
