"""Values that hold from a batch on: how an action reaches batches that are not made yet."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

#: Changes that may wait for the batch that they hold from.
_PENDING = 64


class Timeline(tf.Module):
    """The latest values of something, each with the number of the batch that it holds from.

    The pipeline makes batches ahead of the training. What it finds here does not depend on how far
    ahead it happens to be, because a change says from which batch on it holds.

    Args:
      initial: what holds at first, oldest first, `[K, V]`; `last` gives K of them.
    """

    def __init__(self, initial: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self._keep = len(initial)
        self._initial = [[-1.0, *row] for row in initial]
        rows = [self._initial[0]] * _PENDING + self._initial
        with tf.device("/cpu:0"):
            # One variable, so that a reader in another thread sees a change as a whole; numbers of
            # batches are exact up to 2⁵³.
            self.rows = tf.Variable(tf.constant(rows, tf.float64), trainable=False)  # [L, 1 + V]

    def append(self, value: tf.Tensor, since: tf.Tensor) -> None:
        """Adds a change.

        Args:
          value: float64 `[V]`.
          since: the number of the first batch that it holds for, int64 `[]`; not before the last.
        """
        rows = self.rows.read_value()
        row = tf.concat([[tf.cast(since, tf.float64)], value], axis=0)
        self.rows.assign(tf.concat([rows[1:], row[tf.newaxis]], axis=0))

    def last(self, number: tf.Tensor) -> tf.Tensor:
        """The K values that hold for a batch, newest last, float64 `[K, 1 + V]`; since first."""
        rows = self.rows.read_value()
        known = tf.reduce_sum(tf.cast(rows[:, 0] <= tf.cast(number, tf.float64), tf.int32))
        found = rows[tf.maximum(known - self._keep, 0) : tf.maximum(known, self._keep)]
        return tf.ensure_shape(found, [self._keep, rows.shape[1]])

    def newest(self) -> tf.Tensor:
        """The value that was added last, whether it holds yet or not, float64 `[1 + V]`."""
        return self.rows.read_value()[-1]

    def reset(self) -> None:
        """Forgets every change."""
        self.rows.assign([self._initial[0]] * _PENDING + self._initial)
