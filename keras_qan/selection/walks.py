"""Walking over groups of examples without replacement, from a seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf


class Orders(NamedTuple):
    """The orders that one iterator walks in at present.

    Attributes:
      members: the examples' numbers, group by group, each group in its order, int32 `[N]`.
      walk: which walk each group's order is of, int64 `[G]`; -1 where none was drawn yet.
    """

    members: tf.Tensor
    walk: tf.Tensor


class Walks:
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
