"""What was handed out lately: the way back from a training step to its examples."""

from __future__ import annotations

import tensorflow as tf


class Trail(tf.Module):
    """The latest batches that the pipeline made, by their numbers.

    Args:
      batch_size: B.
      num_counters: S.
    """

    def __init__(self, batch_size: int, num_counters: int) -> None:
        super().__init__()
        self._widths = (batch_size, num_counters)
        with tf.device("/cpu:0"):
            self.newest = tf.Variable(tf.constant(-1, tf.int64), trainable=False)
            self._numbers = tf.Variable(tf.zeros([0], tf.int64), shape=[None], trainable=False)
            self._indices = tf.Variable(
                tf.zeros([0, batch_size], tf.int32), shape=[None, batch_size], trainable=False
            )
            self._counters = tf.Variable(
                tf.zeros([0, num_counters], tf.int64), shape=[None, num_counters], trainable=False
            )
        self.clear(64)

    def clear(self, length: int) -> None:
        """Forgets everything, and makes room for so many batches at least."""
        length = max(length, int(tf.shape(self._numbers)[0]))
        self._numbers.assign(tf.fill([length], tf.constant(-1, tf.int64)))
        self._indices.assign(tf.zeros([length, self._widths[0]], tf.int32))
        self._counters.assign(tf.zeros([length, self._widths[1]], tf.int64))
        self.newest.assign(-1)

    def write(self, number: tf.Tensor, indices: tf.Tensor, counters: tf.Tensor) -> None:
        """Notes a batch: its number, its examples, and the counters after it."""
        row = number % tf.shape(self._numbers, tf.int64)[0]
        self._indices.scatter_update(tf.IndexedSlices(indices[tf.newaxis], row[tf.newaxis]))
        self._counters.scatter_update(tf.IndexedSlices(counters[tf.newaxis], row[tf.newaxis]))
        self._numbers.scatter_update(tf.IndexedSlices(number[tf.newaxis], row[tf.newaxis]))
        self.newest.assign(number)

    def read(self, first: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Reads consecutive batches.

        Args:
          first: number of the first one, int64 `[]`.
          count: T, int64 `[]`.

        Returns:
          Whether they are all here, bool `[]`; their examples, int32 `[T, B]`; the counters after
          each, int64 `[T, S]`.
        """
        numbers = first + tf.range(count)
        rows = numbers % tf.shape(self._numbers, tf.int64)[0]
        are_here = tf.reduce_all(tf.equal(tf.gather(self._numbers, rows), numbers))
        return are_here, tf.gather(self._indices, rows), tf.gather(self._counters, rows)
