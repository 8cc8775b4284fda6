"""What a learned policy still has to learn on a user's own task: one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.agents.base import ActionChoice
from keras_qan.agents.dqn import DQN
from keras_qan.storage.serialization import configurable

#: The leans that are tried, in action value for a change of the rate by a factor of e.
BIASED_ACTIONS = (-0.04, -0.02, -0.01, 0.0, 0.01, 0.02, 0.04)

#: What is believed of returns before any is known, in nats: how far those of two leans lie apart,
#: how far those of two trainings with one lean do, how many leans are alike, and by how much the
#: outermost ones are worse than none.
DEVIATION, NOISE, LENGTH, PENALTY = 0.15, 0.15, 1.5, 0.1


@configurable
class ThompsonDQN:
    """A policy that stays as it is but for its lean to higher or to lower learning rates.

    With Q the values that the policy knows and d_a the logarithm of what action a multiplies the
    rate by, it acts by Q(s, a) + b·d_a. The lean b is a choice among `LEANS`, made for each
    training: by Thompson sampling while it learns (from the posterior of a Gaussian process over
    the leans, given the returns of the trainings so far), by the highest posterior mean afterwards.
    Trainings differ by their seeds in more than any single decision changes, so that a network
    fitted to a few of their returns unlearns what it knew; one number can be learned from them.

    Args:
      agent: the policy.
      directions: d_a, a number for each action.
      seed: what the draws follow from.

    Raises:
      ValueError: a direction is no finite number.
    """

    def __init__(self, agent: DQN, directions: Sequence[float], seed: int = 0) -> None:
        self.agent, self.seed = agent, int(seed)
        self.directions = tuple(float(d) for d in directions)
        if not np.isfinite(self.directions).all():
            raise ValueError(
                f"Leaning got directions={self.directions}; expected a finite number for each "
                "action, such as log(0.5) for one that halves the rate."
            )
        self._is_built = False

    def build(self, num_features: int, num_actions: int) -> None:
        """Makes the policy's variables, and those of what is known of the leans.

        Raises:
          ValueError: there are more or fewer actions than directions, or the policy was built for
            other sizes.
        """
        if num_actions != len(self.directions):
            raise ValueError(
                f"Leaning got {len(self.directions)} directions and chooses among {num_actions} "
                "actions; expected one for each."
            )
        self.agent.build(num_features, num_actions)
        if self._is_built:
            return
        self._is_built = True
        count = len(BIASED_ACTIONS)
        with tf.device("/cpu:0"):
            self._counts = tf.Variable(tf.zeros([count]), trainable=False)
            self._sums = tf.Variable(tf.zeros([count]), trainable=False)
            self._total = tf.Variable(0.0, trainable=False)
            self._current = tf.Variable(count // 2, dtype=tf.int32, trainable=False)
            self._draws = tf.Variable(0, dtype=tf.int32, trainable=False)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:
        """The policy's choice with the training's lean, or with the best one known."""
        known = self.agent.act(observation, tf.constant(False))
        mean, _ = self._posterior()
        best = tf.argmax(mean, output_type=tf.int32)
        lean = tf.gather(tf.constant(BIASED_ACTIONS), tf.where(explore, self._current, best))
        values = known.q_values + lean * tf.constant(self.directions)
        preferences = values + self.agent.handicaps()
        return ActionChoice(tf.argmax(preferences), values, known.epsilon)

    def learn(
        self,
        observation: tf.Tensor,  # noqa: ARG002 - the protocol's signature
        action: tf.Tensor,  # noqa: ARG002
        reward: tf.Tensor,
        discount: tf.Tensor,
    ) -> tf.Tensor:
        """Adds up the return, and when the training is over learns from it and draws a lean."""
        total = self._total.assign_add(reward)

        def finish() -> tf.Tensor:
            here = tf.one_hot(self._current, len(BIASED_ACTIONS))
            self._counts.assign_add(here)
            self._sums.assign_add(here * total)
            self._total.assign(0.0)
            mean, covariance = self._posterior()
            draw = tf.random.stateless_normal(
                [len(BIASED_ACTIONS), 1], tf.stack([self.seed, self._draws.assign_add(1)])
            )
            root = tf.linalg.cholesky(covariance + 1e-5 * tf.eye(len(BIASED_ACTIONS)))
            drawn = mean + (root @ draw)[:, 0]
            self._current.assign(tf.argmax(drawn, output_type=tf.int32))
            return tf.constant(np.nan, tf.float32)

        return tf.cond(discount > 0.0, lambda: tf.constant(np.nan, tf.float32), finish)

    def _posterior(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean `[K]` and covariance `[K, K]` of the leans' returns."""
        place = np.arange(len(BIASED_ACTIONS)) - len(BIASED_ACTIONS) // 2
        prior = DEVIATION**2 * np.exp(-0.5 * (np.subtract.outer(place, place) / LENGTH) ** 2)
        covariance = tf.constant(prior, tf.float32)
        penalty = tf.constant(PENALTY * (place / place.max()) ** 2, tf.float32)
        seen = tf.maximum(tf.reduce_sum(self._counts), 1.0)
        level = tf.reduce_sum(self._sums + self._counts * penalty) / seen
        expected = level - penalty
        averages = self._sums / tf.maximum(self._counts, 1.0)
        # Of a lean that was never tried nothing is known: its noise is beyond all bounds.
        noise = NOISE**2 / tf.maximum(self._counts, 1e-6)
        solved = tf.linalg.solve(covariance + tf.linalg.diag(noise), covariance)
        gap = tf.where(self._counts > 0.0, averages - expected, 0.0)
        mean = expected + tf.linalg.matvec(solved, gap, transpose_a=True)
        return mean, covariance - covariance @ solved

    def abandon(self, num_transitions: int) -> None:
        """Forgets what was added up of a training that was broken off."""
        if num_transitions:
            self._total.assign(0.0)

    def preferences(self, observations: tf.Tensor) -> tf.Tensor:
        """What the greedy policy takes the highest of, float32 `[N, A]` for states `[N, F]`."""
        mean, _ = self._posterior()
        lean = tf.gather(tf.constant(BIASED_ACTIONS), tf.argmax(mean))
        return self.agent.preferences(observations) + lean * tf.constant(self.directions)

    def _variables(self) -> dict[str, tf.Variable]:
        return {
            "leaning/counts": self._counts,
            "leaning/sums": self._sums,
            "leaning/total": self._total,
            "leaning/current": self._current,
            "leaning/draws": self._draws,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """What is known of the leans, and all of the policy."""
        return self.agent.arrays() | {n: v.numpy() for n, v in self._variables().items()}

    def parameters(self) -> dict[str, np.ndarray]:
        """What the greedy policy needs."""
        own = {n: v.numpy() for n, v in self._variables().items()}
        return self.agent.parameters() | own

    def adopt(self, parameters: dict[str, np.ndarray]) -> None:
        """Takes over what `parameters` gave, of a policy alone or of one that leans.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        self.agent.adopt(parameters)
        if "leaning/counts" in parameters:
            self._take(parameters)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        for name, variable in self._variables().items():
            found: Any = arrays[name].shape if name in arrays else "nothing"
            if found != tuple(variable.shape):
                raise ValueError(
                    f"The saved agent holds {found} for {name!r}; expected an array of shape "
                    f"{tuple(variable.shape)}. It was saved by another kind of agent."
                )
        self.agent.restore(arrays)
        self._take(arrays)

    def _take(self, arrays: dict[str, np.ndarray]) -> None:
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
