"""State of a selector's endless stream of batches.

`StreamState` owns it: how far the training is, which batches were made lately, the orders of the
epochs, and the values that take effect from a batch on.
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
_PEEK = 1 + STRATEGY_BUFFER

#: Changes of a value that may wait for their batch.
_PENDING = 64


class EpochOrders(NamedTuple):
    """The orders that one iterator follows at present.

    Attributes:
      members: the examples' numbers, group by group, each group in its order, int32 `[N]`.
      epoch: the epoch of each group's order, int64 `[G]`; -1 where none was drawn yet.
    """

    members: tf.Tensor
    epoch: tf.Tensor


class EpochSampler:
    """Samples each of several groups without replacement, epoch after epoch in a new order.

    The order is a function of seed, group and epoch, so that a counter is all there is to keep, and
    any iterator can begin anywhere.

    Args:
      group_of: the group of every example, int64 `[N]`, each of 0 to G - 1 at least once; None for
        a single group of N.
      num_examples: N.

    Attributes:
      sizes: examples of each group, int64 `[G]`.
    """

    def __init__(self, group_of: npt.NDArray[np.int64] | None, num_examples: int) -> None:
        with tf.device("/cpu:0"):
            if group_of is None:
                sizes = np.array([num_examples])
                self._by_group = None
            else:
                sizes = np.bincount(group_of)
                self._by_group = tf.constant(np.argsort(group_of, kind="stable").astype(np.int32))
            self.sizes = tf.constant(sizes, tf.int64)
            self._starts = tf.constant(np.cumsum(sizes) - sizes, tf.int64)  # [G]
        self._num_examples = num_examples

    def initial_orders(self) -> EpochOrders:
        """Orders of which none was drawn yet."""
        return EpochOrders(
            tf.zeros([self._num_examples], tf.int32),
            tf.fill([len(self.sizes)], tf.constant(-1, tf.int64)),
        )

    def sample(
        self, orders: EpochOrders, seed: tf.Tensor, group: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, EpochOrders]:
        """Look up the examples at positions of the groups' endless sequences of epochs.

        Args:
          orders: as the last call left them.
          seed: int64 `[]`.
          group: int64 `[B]`.
          position: how many of the group were sampled before, int64 `[B]`.

        Returns:
          The examples' numbers, int32 `[B]`, and the orders for the next call.
        """
        sizes = tf.gather(self.sizes, group)
        epoch = position // sizes
        place = tf.gather(self._starts, group) + position % sizes
        found = tf.gather(orders.members, place)
        ready = tf.equal(tf.gather(orders.epoch, group), epoch)

        def some_left(_: tf.Tensor, ready: tf.Tensor, *__: tf.Tensor) -> tf.Tensor:
            return tf.logical_not(tf.reduce_all(ready))

        def draw_one(
            found: tf.Tensor, ready: tf.Tensor, members: tf.Tensor, epochs: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            # The earliest epoch first, so that the latest order is the one that stays.
            nearest = tf.argmin(tf.where(ready, tf.int64.max, epoch))
            its_group, its_epoch = group[nearest], epoch[nearest]
            members = self._reordered(members, seed, its_group, its_epoch)
            epochs = tf.tensor_scatter_nd_update(epochs, [[its_group]], [its_epoch])
            now = tf.logical_and(tf.equal(group, its_group), tf.equal(epoch, its_epoch))
            found = tf.where(now, tf.gather(members, place), found)
            return found, tf.logical_or(ready, now), members, epochs

        found, _, members, epochs = tf.while_loop(some_left, draw_one, (found, ready, *orders))
        return found, EpochOrders(members, epochs)

    def _reordered(
        self, members: tf.Tensor, seed: tf.Tensor, group: tf.Tensor, epoch: tf.Tensor
    ) -> tf.Tensor:
        """The members with one group in the order of one of its epochs."""
        key = tf.stack([seed, group * 2**40 + epoch])
        if self._by_group is None:
            everyone = tf.range(self._num_examples, dtype=tf.int32)
            order = tf.random.experimental.stateless_shuffle(everyone, key)
            return tf.ensure_shape(order, [self._num_examples])
        first, size = self._starts[group], self.sizes[group]
        own = tf.random.experimental.stateless_shuffle(self._by_group[first : first + size], key)
        whole = tf.concat([members[:first], own, members[first + size :]], axis=0)
        return tf.ensure_shape(whole, [self._num_examples])


class DelayedValues(tf.Module):
    """The latest values of something, each with the number of the first batch that it holds for.

    The pipeline makes batches ahead of the training. What it reads here does not depend on how far
    ahead it happens to be, because a change says from which batch on it holds.

    Args:
      initial: the values that hold at first, oldest first, `[K, V]`; `at` gives K of them.

    Attributes:
      rows: float64 `[L, 1 + V]`, the number of the batch first.
    """

    def __init__(self, initial: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self._keep = len(initial)
        first = [[-1.0, *row] for row in initial]
        self._initial = [first[0]] * _PENDING + first
        with tf.device("/cpu:0"):
            # One variable, so that a reader in another thread sees a change as a whole; numbers of
            # batches are exact up to 2⁵³.
            self.rows = tf.Variable(tf.constant(self._initial, tf.float64), trainable=False)

    def append(self, value: tf.Tensor, since: tf.Tensor) -> None:
        """Add a change.

        Args:
          value: float64 `[V]`.
          since: the number of the first batch that it holds for, int64 `[]`; not before the last.
        """
        row = tf.concat([[tf.cast(since, tf.float64)], value], axis=0)
        self.rows.assign(tf.concat([self.rows.read_value()[1:], row[tf.newaxis]], axis=0))

    def at(self, number: tf.Tensor) -> tf.Tensor:
        """The K rows that hold for a batch, newest last, float64 `[K, 1 + V]`."""
        rows = self.rows.read_value()
        known = tf.reduce_sum(tf.cast(rows[:, 0] <= tf.cast(number, tf.float64), tf.int32))
        found = rows[tf.maximum(known - self._keep, 0) : tf.maximum(known, self._keep)]
        return tf.ensure_shape(found, [self._keep, rows.shape[1]])

    def newest(self) -> tf.Tensor:
        """The row that was added last, whether it holds yet or not, float64 `[1 + V]`."""
        return self.rows.read_value()[-1]

    def reset(self) -> None:
        """Forget every change."""
        self.rows.assign(self._initial)


class StreamState(tf.Module):
    """State of an endless stream of batches, numbered from 0, that a selector makes.

    Between `begin` and `end` the training says what was trained on; otherwise what is handed out
    counts as trained on, so that a dataset that is iterated over continues where it was.

    Args:
      batch_size: B.
      sampler: samples the examples, epoch after epoch.
      num_counters: S, how many numbers are carried from batch to batch. Defaults to 0.
      seed: seed of everything random. Defaults to 0.

    Attributes:
      seed: int64 `[]`.
      trained: batches trained on so far, int64 `[]`.
      counters: the numbers carried along, after these batches, int64 `[S]`.
      num_steps: the number of the batch where the training ends, 0 where it is unknown, int64 `[]`.
      delay: batches between an action and the first one that it shapes, int64 `[]`.
      is_counted: whether the training says what was trained on, bool `[]`.
      newest: the number of the batch that was made last, -1 before the first, int64 `[]`.
    """

    def __init__(
        self, batch_size: int, sampler: EpochSampler, num_counters: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.sampler = sampler
        self._delayed: dict[str, DelayedValues] = {}

        def integer(value: int | list[int], shape: list[int | None] | None = None) -> tf.Variable:
            return tf.Variable(tf.constant(value, tf.int64), trainable=False, shape=shape)

        with tf.device("/cpu:0"):
            self.seed = integer(seed)
            self.trained, self.num_steps, self.delay = integer(0), integer(0), integer(2)
            self.counters = integer([0] * num_counters)
            self.is_counted = tf.Variable(False, trainable=False)
            # Whether the last iterator is that of a training that was counted: what its buffers
            # still fetch after the end is not trained on.
            self._is_of_a_fit = tf.Variable(False, trainable=False)
            # Where the last iterator began: a look at the data is no training.
            self._trained_before, self._counters_before = integer(0), integer([0] * num_counters)
            # The latest batches, number n in row n modulo the length.
            self.newest = integer(-1)
            self._numbers = integer([], [None])
            self._indices = tf.Variable(
                tf.zeros([0, batch_size], tf.int32), shape=[None, batch_size], trainable=False
            )
            self._weights = tf.Variable(
                tf.zeros([0, batch_size]), shape=[None, batch_size], trainable=False
            )
            self._counters_after = tf.Variable(
                tf.zeros([0, num_counters], tf.int64), shape=[None, num_counters], trainable=False
            )
        self.clear_batches(64)

    # Values that the pipeline reads.

    def delayed_values(self, name: str, initial: Sequence[Sequence[float]]) -> DelayedValues:
        """Make values that take effect from a batch on, kept and reset with this state.

        Args:
          name: name in `variables_by_name`.
          initial: the values that hold at first, oldest first, `[K, V]`.
        """
        self._delayed[name] = values = DelayedValues(initial)
        return values

    def first_to_shape(self) -> tf.Tensor:
        """The first batch that what is done now can still shape, int64 `[]`."""
        return self.trained.read_value() + self.delay.read_value()

    def sample(
        self, orders: EpochOrders, group: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, EpochOrders]:
        """Look up the examples at positions of groups, as `EpochSampler.sample` with the seed."""
        return self.sampler.sample(orders, self.seed.read_value(), group, position)

    def sample_all(self, orders: EpochOrders, number: tf.Tensor) -> tuple[tf.Tensor, EpochOrders]:
        """Look up the batch of a number where there is a single group: int32 `[B]`, and orders."""
        position = number * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        return self.sample(orders, tf.zeros([self.batch_size], tf.int64), position)

    # Batches that the pipeline made.

    def clear_batches(self, capacity: int = 0) -> None:
        """Forget all batches, and make place for so many at least. Defaults to as many as now."""
        length = max(capacity, int(tf.shape(self._numbers)[0]))
        self._numbers.assign(tf.fill([length], tf.constant(-1, tf.int64)))
        self._indices.assign(tf.zeros([length, self._indices.shape[1]], tf.int32))
        self._weights.assign(tf.ones([length, self._indices.shape[1]]))
        self._counters_after.assign(tf.zeros([length, self._counters_after.shape[1]], tf.int64))
        self.newest.assign(-1)

    def record(
        self,
        number: tf.Tensor,
        indices: tf.Tensor,
        counters: tf.Tensor,
        weights: tf.Tensor | None = None,
    ) -> None:
        """Record a batch that was made.

        Args:
          number: the batch's, int64 `[]`.
          indices: its examples, int32 `[B]`.
          counters: the numbers carried along, after it, int64 `[S]`.
          weights: that it carries, float32 `[B]`. Defaults to none.
        """
        row = (number % tf.shape(self._numbers, tf.int64)[0])[tf.newaxis]
        self._indices.scatter_update(tf.IndexedSlices(indices[tf.newaxis], row))
        self._counters_after.scatter_update(tf.IndexedSlices(counters[tf.newaxis], row))
        if weights is not None:
            self._weights.scatter_update(tf.IndexedSlices(weights[tf.newaxis], row))
        self._numbers.scatter_update(tf.IndexedSlices(number[tf.newaxis], row))
        self.newest.assign(number)

    def recorded(
        self, first: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Look up consecutive batches.

        Args:
          first: number of the first one, int64 `[]`.
          count: T, int64 `[]`.

        Returns:
          Whether all of them are known, bool `[]`; their examples, int32 `[T, B]`; the counters
          after each, int64 `[T, S]`.
        """
        numbers = first + tf.range(count)
        rows = self._rows(numbers)
        are_known = tf.reduce_all(tf.equal(tf.gather(self._numbers, rows), numbers))
        return are_known, tf.gather(self._indices, rows), tf.gather(self._counters_after, rows)

    def weights(self, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Look up the weights that consecutive recorded batches carry, float32 `[T, B]`."""
        return tf.gather(self._weights, self._rows(first + tf.range(count)))

    def _rows(self, numbers: tf.Tensor) -> tf.Tensor:
        return numbers % tf.shape(self._numbers, tf.int64)[0]

    def hand_out(self, number: tf.Tensor, counters: tf.Tensor, is_first: tf.Tensor) -> None:
        """Note a batch that was handed out; where nobody counts, as one that was trained on.

        Args:
          number: the batch's, int64 `[]`.
          counters: the numbers carried along, after it, int64 `[S]`.
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

    # The training.

    def begin(
        self,
        num_steps: int | None,
        delay: int,
        steps_per_call: int = 1,
        total_steps: int | None = None,
    ) -> None:
        """Count from now on only what `advance` reports; undo a look at the data before.

        Args:
          num_steps: steps to come in this training, or None where they are unknown.
          delay: batches between an action and the first one that it shapes.
          steps_per_call: the most steps that `advance` reports at once. Defaults to 1.
          total_steps: steps of the whole training, those before included. Defaults to those before
            and `num_steps`.
        """
        was_counted = bool(self.is_counted.numpy())
        self.is_counted.assign(True)
        self._is_of_a_fit.assign(True)
        seen = int(self.trained.numpy()) - int(self._trained_before.numpy())
        if not was_counted and 0 < seen <= _PEEK:
            self.trained.assign(self._trained_before)
            self.counters.assign(self._counters_before)
        self.delay.assign(delay)
        known = 0 if num_steps is None else int(self.trained.numpy()) + num_steps
        self.num_steps.assign(known if total_steps is None else total_steps)
        self.clear_batches(2 * (delay + steps_per_call) + 8)

    def advance(self, trained: tf.Tensor, counters: tf.Tensor) -> None:
        """Note the batches trained on so far, int64 `[]`, and the counters, int64 `[S]`."""
        self.counters.assign(counters)
        self.trained.assign(trained)

    def end(self) -> None:
        """Count again what is handed out."""
        self.is_counted.assign(False)
        self._trained_before.assign(self.trained)
        self._counters_before.assign(self.counters)

    def reset(self, seed: int | None = None) -> None:
        """Go back to the beginning, with another seed. Defaults to the present one."""
        if seed is not None:
            self.seed.assign(seed)
        self.trained.assign(0)
        self.num_steps.assign(0)
        self.counters.assign(tf.zeros_like(self.counters))
        self.end()
        self.clear_batches()
        for values in self._delayed.values():
            values.reset()

    # Checkpoints.

    def variables_by_name(self) -> dict[str, tf.Variable]:
        """The variables that a checkpoint holds."""
        own = {name: getattr(self, name) for name in ("seed", "trained", "num_steps", "counters")}
        return own | {name: values.rows for name, values in self._delayed.items()}

    def resume(self) -> None:
        """Continue from restored variables."""
        self._trained_before.assign(self.trained)
        self._counters_before.assign(self.counters)
        self.clear_batches()
