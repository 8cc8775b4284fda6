"""What the examples of each class lose of late."""

from __future__ import annotations

import tensorflow as tf

#: How much of a class's mean loss stays after one more of its examples: a memory of twenty.
_MEMORY = 0.95


class ClassLosses(tf.Module):
    """A running mean of each class's loss, which forgets by examples, not by batches.

    So the mean of a class that comes seldom is as precise as any other's, only older.

    Args:
      num_classes: C.

    Attributes:
      means: float32 `[C]`; not-a-number where no loss of the class is known yet.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self._num_classes = num_classes
        with tf.device("/cpu:0"):
            self.means = tf.Variable(tf.fill([num_classes], float("nan")), trainable=False)

    def update(self, labels: tf.Tensor, losses: tf.Tensor) -> None:
        """Takes in losses.

        Args:
          labels: the classes of examples, int32 of any shape.
          losses: theirs, float32 of the same shape; those that are not finite are left out.
        """
        is_known = tf.reshape(tf.math.is_finite(losses), [-1])
        label = tf.boolean_mask(tf.reshape(labels, [-1]), is_known)
        values = tf.boolean_mask(tf.reshape(losses, [-1]), is_known)
        count = tf.math.unsorted_segment_sum(tf.ones_like(values), label, self._num_classes)
        total = tf.math.unsorted_segment_sum(values, label, self._num_classes)
        before = self.means.read_value()
        latest = tf.math.divide_no_nan(total, count)
        stays = tf.where(tf.math.is_nan(before), 0.0, tf.pow(_MEMORY, count))
        known = tf.where(tf.math.is_nan(before), 0.0, before)
        now = stays * known + (1.0 - stays) * latest
        self.means.assign(tf.where(count > 0.0, now, before))

    def over_all(self, shares: tf.Tensor) -> tf.Tensor:
        """The loss over data with these shares of the classes `[C]`, of the classes known, `[]`."""
        means = self.means.read_value()
        shares = tf.where(tf.math.is_nan(means), 0.0, shares)
        weighted = tf.where(tf.math.is_nan(means), 0.0, means * shares)
        return tf.reduce_sum(weighted) / tf.reduce_sum(shares)

    def reset(self) -> None:
        """Forgets everything."""
        self.means.assign(tf.fill(self.means.shape, float("nan")))
