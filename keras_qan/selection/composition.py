"""What the batches were made of: shares of groups over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

#: Parts of time that are told apart; when they are full, two become one.
_PARTS = 256

#: How much of the recent shares stays after a batch.
_MEMORY = 0.9


@dataclass(frozen=True, eq=False)
class Shares:
    """The share of each group of examples in the batches of a training.

    Attributes:
      groups: their names, G of them.
      edges: numbers of the batches where each part of the training begins, and where the last one
        ends, float64 `[P + 1]`.
      share: float64 `[P, G]`; rows sum to 1, or to 0 where nothing was known of the groups.
    """

    groups: tuple[str, ...]
    edges: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]


class Composition(tf.Module):
    """Counts the examples of each group, over time and lately.

    Args:
      groups: names of the groups, G of them.
    """

    def __init__(self, groups: tuple[str, ...]) -> None:
        super().__init__()
        self._groups = groups
        with tf.device("/cpu:0"):
            self.counts = tf.Variable(tf.zeros([_PARTS, len(groups)]), trainable=False)
            self.width = tf.Variable(tf.constant(1, tf.int64), trainable=False)
            self.recent = tf.Variable(tf.zeros([len(groups)]), trainable=False)

    def add(self, first: tf.Tensor, counts: tf.Tensor) -> None:
        """Counts batches.

        Args:
          first: number of the first one, int64 `[]`.
          counts: examples of each group in each batch, float32 `[T, G]`.
        """
        numbers = first + tf.range(tf.shape(counts, tf.int64)[0])
        (width,) = tf.while_loop(
            lambda width: numbers[-1] // width >= _PARTS, self._halve, (self.width.read_value(),)
        )
        part = numbers // width
        self.counts.scatter_add(tf.IndexedSlices(counts, part))
        total = tf.reduce_sum(counts, axis=1, keepdims=True)
        shares = tf.math.divide_no_nan(counts, total)  # [T, G]
        age = tf.cast(numbers[-1] - numbers, tf.float32)
        weight = (1.0 - _MEMORY) * tf.pow(_MEMORY, age)[:, tf.newaxis]
        stays = tf.pow(_MEMORY, tf.cast(tf.shape(counts)[0], tf.float32))
        is_first = tf.reduce_all(tf.equal(self.recent.read_value(), 0.0))
        now = stays * self.recent.read_value() + tf.reduce_sum(weight * shares, axis=0)
        self.recent.assign(tf.where(is_first, tf.reduce_mean(shares, axis=0), now))

    def _halve(self, width: tf.Tensor) -> tuple[tf.Tensor]:
        pairs = tf.reshape(self.counts.read_value(), [_PARTS // 2, 2, len(self._groups)])
        merged = tf.reduce_sum(pairs, axis=1)
        self.counts.assign(tf.concat([merged, tf.zeros_like(merged)], axis=0))
        self.width.assign(2 * width)
        return (2 * width,)

    def shares(self, num_batches: int) -> Shares:
        """What the first `num_batches` batches were made of."""
        width = int(self.width.numpy())
        num_parts = -(-num_batches // width)
        counts = self.counts.numpy()[:num_parts].astype(np.float64)
        total = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
        edges = np.minimum(np.arange(num_parts + 1) * width, num_batches).astype(np.float64)
        return Shares(self._groups, edges, share)

    def reset(self) -> None:
        """Forgets everything."""
        self.counts.assign(tf.zeros_like(self.counts))
        self.width.assign(1)
        self.recent.assign(tf.zeros_like(self.recent))
