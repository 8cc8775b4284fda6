"""Last seen losses, of every example and of every class, and the lists drawn from them."""

from __future__ import annotations

import tensorflow as tf

#: Groups of examples by their loss: tenths, the highest losses first.
DECILES = (
    "losses 0–10 % (highest)",
    *(f"losses {10 * k}–{10 * k + 10} %" for k in range(1, 9)),
    "losses 90–100 % (lowest)",
)

#: The share of a class's mean loss that stays after one more of its examples: a memory of twenty.
_MEMORY = 0.95


class LossTable(tf.Module):
    """The loss of each example when it was last trained on.

    Args:
      num_examples: N.

    Attributes:
      losses: float32 `[N]`; infinite where an example has not been trained on yet.
      bounds: the losses between the tenths, descending, float32 `[9]`; infinite before the first
        `update_bounds`.
    """

    def __init__(self, num_examples: int) -> None:
        super().__init__()
        infinite = tf.constant(float("inf"))
        with tf.device("/cpu:0"):
            self.losses = tf.Variable(tf.fill([num_examples], infinite), trainable=False)
            self.bounds = tf.Variable(tf.fill([9], infinite), trainable=False)

    def update(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        """Update losses; of an example that is there twice, the later one stays.

        Args:
          indices: int32 `[T, B]`.
          losses: float32 `[T, B]`; where one is not finite, the earlier one is kept.
        """
        flat, values = tf.reshape(indices, [-1]), tf.reshape(losses, [-1])
        known = tf.math.is_finite(values)
        flat, values = tf.boolean_mask(flat, known), tf.boolean_mask(values, known)
        order = tf.argsort(flat, stable=True)
        ordered = tf.gather(flat, order)
        is_last = tf.concat([ordered[1:] != ordered[:-1], tf.ones_like(ordered[:1], tf.bool)], 0)
        chosen = tf.boolean_mask(order, is_last)
        new = tf.IndexedSlices(tf.gather(values, chosen), tf.gather(flat, chosen))
        self.losses.scatter_update(new)

    def ranked(self) -> tf.Tensor:
        """Rank the examples' numbers by their losses, highest first, int32 `[N]`; update bounds."""
        losses = self.losses.read_value()
        ordered, order = tf.math.top_k(losses, k=losses.shape[0])
        self._set_bounds(ordered)
        return order

    def update_bounds(self) -> None:
        """Update the losses between the tenths."""
        self._set_bounds(tf.sort(self.losses.read_value(), direction="DESCENDING"))

    def _set_bounds(self, ordered: tf.Tensor) -> None:
        size = ordered.shape[0]
        places = [min(size * k // 10, size - 1) for k in range(1, 10)]
        self.bounds.assign(tf.gather(ordered, places))

    def mean(self) -> tf.Tensor:
        """The mean of the losses that are known, `[]`; not-a-number before there is one."""
        losses = self.losses.read_value()
        is_known = tf.math.is_finite(losses)
        count = tf.reduce_sum(tf.cast(is_known, tf.float32))
        return tf.reduce_sum(tf.where(is_known, losses, 0.0)) / count

    def tenths(self, indices: tf.Tensor) -> tf.Tensor:
        """Count the examples of each tenth in batches, by their last losses.

        Args:
          indices: int32 `[T, B]`.

        Returns:
          float32 `[T, 10]`; zeros before the first bounds.
        """
        bounds = self.bounds.read_value()
        losses = tf.gather(self.losses, indices)
        tenth = tf.reduce_sum(tf.cast(losses[..., tf.newaxis] <= bounds, tf.int32), axis=-1)
        counts = tf.reduce_sum(tf.one_hot(tenth, 10), axis=1)
        return tf.where(tf.math.is_finite(bounds[-1]), counts, 0.0)

    def reset(self) -> None:
        """Forget every loss."""
        for variable in (self.losses, self.bounds):
            variable.assign(tf.fill(variable.shape, float("inf")))


class Lists(tf.Module):
    """Lists of examples: the pipeline uses some while another is written.

    Args:
      count: how many lists, at least 2.
      num_examples: N, the length of each.
    """

    def __init__(self, count: int, num_examples: int) -> None:
        super().__init__()
        with tf.device("/cpu:0"):
            self.lists = [
                tf.Variable(tf.zeros([num_examples], tf.int32), trainable=False)
                for _ in range(count)
            ]

    def write(self, which: tf.Tensor, values: tf.Tensor) -> None:
        """Write one list, int32 `[N]`."""
        tf.switch_case(which, [lambda v=v: v.assign(values) for v in self.lists])

    def fetch(self, which: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Fetch the entries of one list at places `[B]`."""
        return tf.switch_case(which, [lambda v=v: tf.gather(v, places) for v in self.lists])

    def reset(self) -> None:
        """Empty all lists."""
        for variable in self.lists:
            variable.assign(tf.zeros_like(variable))


class ClassLosses(tf.Module):
    """A running mean of each class's loss, which forgets by examples, not by batches.

    So the mean of a rare class is as precise as any other's, only older.

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
        """Update the means.

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
        """Estimate the loss over data with these shares `[C]`, of the known classes alone, `[]`."""
        means = self.means.read_value()
        shares = tf.where(tf.math.is_nan(means), 0.0, shares)
        weighted = tf.where(tf.math.is_nan(means), 0.0, means * shares)
        return tf.reduce_sum(weighted) / tf.reduce_sum(shares)

    def reset(self) -> None:
        """Forget everything."""
        self.means.assign(tf.fill(self.means.shape, float("nan")))
