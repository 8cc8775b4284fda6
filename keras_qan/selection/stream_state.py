"""Where a training is in the stream of batches.

Walking over groups of examples without replacement, from a seed.

What was handed out lately: the way back from a training step to its examples.

Values that hold from a batch on: how an action reaches batches that are not made yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

#: Batches that tf.distribute holds back for its devices when there are several.
STRATEGY_BUFFER = 3


#: An iterator that ended within so many batches was a look at the data, not a training.
_A_LOOK = 1 + STRATEGY_BUFFER


class StreamPosition(tf.Module):
    """Batches that were trained on, and what was counted in them.

    Between `begin` and `end` somebody says what was trained on; else what is handed out counts as
    trained on, so that a dataset that is iterated over goes on where it was.

    Args:
      num_counters: S, numbers that are carried from batch to batch.

    Attributes:
      trained: batches so far, int64 `[]`.
      counters: what was counted in them, int64 `[S]`.
      num_steps: the number of the batch where the training ends, 0 where it is not known, int64.
      delay: batches between an action and the first one that it shapes, int64 `[]`.
      is_counted: whether somebody says what was trained on, bool `[]`.
    """

    def __init__(self, num_counters: int) -> None:
        super().__init__()

        def number(value: int) -> tf.Variable:
            return tf.Variable(tf.constant(value, tf.int64), trainable=False)

        with tf.device("/cpu:0"):
            self.trained = number(0)
            self.counters = tf.Variable(tf.zeros([num_counters], tf.int64), trainable=False)
            self.num_steps = number(0)
            self.delay = number(2)
            self.is_counted = tf.Variable(False, trainable=False)
            # Whether the last iterator is that of a training that was counted: what its buffers
            # still fetch after the end is not trained on.
            self._is_of_a_fit = tf.Variable(False, trainable=False)
            # Where the last iterator began: a look at the data is no training.
            self._trained_before = number(0)
            self._counters_before = tf.Variable(self.counters, trainable=False)

    def first_to_shape(self) -> tf.Tensor:
        """The first batch that what is done now can still shape, int64 `[]`."""
        return self.trained.read_value() + self.delay.read_value()

    def begin(self, num_steps: int | None, delay: int) -> None:
        """From now on `advance` says what was trained on; a look at the data is taken back."""
        was_counted = bool(self.is_counted.numpy())
        self.is_counted.assign(True)
        self._is_of_a_fit.assign(True)
        looked = int(self.trained.numpy()) - int(self._trained_before.numpy())
        if not was_counted and 0 < looked <= _A_LOOK:
            self.trained.assign(self._trained_before)
            self.counters.assign(self._counters_before)
        self.delay.assign(delay)
        total = 0 if num_steps is None else int(self.trained.numpy()) + num_steps
        self.num_steps.assign(total)

    def advance(self, trained: tf.Tensor, counters: tf.Tensor) -> None:
        """Notes batches trained on so far, int64 `[]`, and what was counted, int64 `[S]`."""
        self.counters.assign(counters)
        self.trained.assign(trained)

    def hand_out(self, number: tf.Tensor, counters: tf.Tensor, is_first: tf.Tensor) -> None:
        """Notes a batch that was handed out; where nobody counts, as one that was trained on.

        Args:
          number: the batch's, int64 `[]`.
          counters: what was counted up to its end, int64 `[S]`.
          is_first: whether its iterator began with it, bool `[]`.
        """

        def count() -> tf.Tensor:
            before = tf.where(is_first, self.trained, self._trained_before)
            self._trained_before.assign(before)
            before = tf.where(is_first, self.counters, self._counters_before)
            self._counters_before.assign(before)
            self.trained.assign(number + 1)
            return self.counters.assign(counters)

        is_counted = self.is_counted.read_value()
        is_of_a_fit = tf.where(is_first, is_counted, self._is_of_a_fit.read_value())
        self._is_of_a_fit.assign(is_of_a_fit)
        tf.cond(tf.logical_or(is_counted, is_of_a_fit), lambda: tf.zeros_like(counters), count)

    def end(self) -> None:
        """What is handed out counts again."""
        self.is_counted.assign(False)
        self.settle()

    def settle(self) -> None:
        """What was trained on so far was no mere look."""
        self._trained_before.assign(self.trained)
        self._counters_before.assign(self.counters)

    def reset(self) -> None:
        """Goes back to the beginning."""
        self.trained.assign(0)
        self.num_steps.assign(0)
        self.counters.assign(tf.zeros_like(self.counters))
        self.end()


class Orders(NamedTuple):
    """The orders that one iterator walks in at present.

    Attributes:
      members: the examples' numbers, group by group, each group in its order, int32 `[N]`.
      walk: which walk each group's order is of, int64 `[G]`; -1 where none was drawn yet.
    """

    members: tf.Tensor
    walk: tf.Tensor


class EpochSampler:
    """An endless walk over each of several groups: every example once, then all in another order.

    The order of a group's walk is a function of seed, group and walk, so that no position in it
    has to be kept but a counter, and any iterator can begin anywhere.

    Args:
      group_of: the group of every example, int64 `[N]`, each of 0 to G - 1 at least once; None for
        a single group of N.
      num_examples: N.
    """

    def __init__(self, group_of: npt.NDArray[np.int64] | None, num_examples: int) -> None:
        with tf.device("/cpu:0"):
            if group_of is None:
                sizes = np.array([num_examples])
                self._by_group = None
            else:
                sizes = np.bincount(group_of)
                self._by_group = tf.constant(np.argsort(group_of, kind="stable").astype(np.int32))
            self.sizes = tf.constant(sizes, tf.int64)  # [G]
            self._starts = tf.constant(np.cumsum(sizes) - sizes, tf.int64)  # [G]
        self._num_examples = num_examples

    def fresh(self) -> Orders:
        """No order drawn yet."""
        return Orders(
            tf.zeros([self._num_examples], tf.int32),
            tf.fill([len(self.sizes)], tf.constant(-1, tf.int64)),
        )

    def take(
        self, orders: Orders, seed: tf.Tensor, group: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, Orders]:
        """The examples at positions of the endless walks.

        Args:
          orders: as the last call left them.
          seed: int64 `[]`.
          group: int64 `[B]`.
          position: how many of the group were taken before, int64 `[B]`.

        Returns:
          The examples' numbers, int32 `[B]`, and the orders for the next call.
        """
        sizes = tf.gather(self.sizes, group)
        walk = position // sizes
        place = tf.gather(self._starts, group) + position % sizes
        found = tf.gather(orders.members, place)
        ready = tf.equal(tf.gather(orders.walk, group), walk)

        def some_left(_: tf.Tensor, ready: tf.Tensor, *__: tf.Tensor) -> tf.Tensor:
            return tf.logical_not(tf.reduce_all(ready))

        def draw_one(
            found: tf.Tensor, ready: tf.Tensor, members: tf.Tensor, walks: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            # The earliest walk first, so that the latest order is the one that stays.
            nearest = tf.argmin(tf.where(ready, tf.int64.max, walk))
            its_group, its_walk = group[nearest], walk[nearest]
            members = self._reordered(members, seed, its_group, its_walk)
            walks = tf.tensor_scatter_nd_update(walks, [[its_group]], [its_walk])
            now = tf.logical_and(tf.equal(group, its_group), tf.equal(walk, its_walk))
            found = tf.where(now, tf.gather(members, place), found)
            return found, tf.logical_or(ready, now), members, walks

        found, _, members, walks = tf.while_loop(
            some_left, draw_one, (found, ready, orders.members, orders.walk)
        )
        return found, Orders(members, walks)

    def _reordered(
        self, members: tf.Tensor, seed: tf.Tensor, group: tf.Tensor, walk: tf.Tensor
    ) -> tf.Tensor:
        """The members with one group in the order of one of its walks."""
        key = tf.stack([seed, group * 2**40 + walk])
        if self._by_group is None:
            everyone = tf.range(self._num_examples, dtype=tf.int32)
            order = tf.random.experimental.stateless_shuffle(everyone, key)
            return tf.ensure_shape(order, [self._num_examples])
        first, size = self._starts[group], self.sizes[group]
        own = tf.random.experimental.stateless_shuffle(self._by_group[first : first + size], key)
        whole = tf.concat([members[:first], own, members[first + size :]], axis=0)
        return tf.ensure_shape(whole, [self._num_examples])


class BatchLog(tf.Module):
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


#: Changes that may wait for the batch that they hold from.
_PENDING = 64


class DelayedValues(tf.Module):
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
