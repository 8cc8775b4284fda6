"""Running statistics of the state, by which acting and learning see the same numbers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


class Normalizer:
    """Standardises features by their running mean and deviation (Welford 1962).

    Args:
      num_features: F.
      limit: the largest absolute value that comes out, in standard deviations.
    """

    def __init__(self, num_features: int, limit: float = 5.0) -> None:
        self.limit = limit
        self._count = tf.Variable(0.0, trainable=False)
        self._mean = tf.Variable(tf.zeros([num_features]), trainable=False)
        self._squares = tf.Variable(tf.zeros([num_features]), trainable=False)

    def update(self, features: tf.Tensor, weight: tf.Tensor) -> None:
        """Takes in one state, float32 `[F]`, if `weight` is 1; none if it is 0."""
        count = self._count.assign_add(weight)
        deviation = features - self._mean
        mean = self._mean.assign_add(weight * deviation / tf.maximum(count, 1.0))
        self._squares.assign_add(weight * deviation * (features - mean))

    def fit(self, states: np.ndarray) -> None:
        """Takes the statistics of these states, float32 `[N, F]`, in place of those so far."""
        self._count.assign(float(len(states)))
        self._mean.assign(states.mean(axis=0, dtype=np.float64))
        self._squares.assign(states.var(axis=0, dtype=np.float64) * len(states))

    def __call__(self, features: tf.Tensor) -> tf.Tensor:
        """(x - mean) / deviation, within ±limit; zero for a feature that has not varied yet.

        Args:
          features: float32 `[..., F]`.

        Returns:
          float32 `[..., F]`.
        """
        deviation = tf.sqrt(self._squares / tf.maximum(self._count, 1.0))
        # A spread within rounding of the mean is no information.
        varies = deviation > 1e-6 * tf.abs(self._mean)
        scale = tf.where(varies, deviation, tf.fill(tf.shape(deviation), float("inf")))
        return tf.clip_by_value((features - self._mean) / scale, -self.limit, self.limit)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """What has to be kept with the agent."""
        return {"count": self._count, "mean": self._mean, "squares": self._squares}
