"""Where a training is in the stream of batches."""

from __future__ import annotations

import tensorflow as tf

#: Batches that tf.distribute holds back for its devices when there are several.
STRATEGY_BUFFER = 3

#: An iterator that ended within so many batches was a look at the data, not a training.
_A_LOOK = 1 + STRATEGY_BUFFER


class Position(tf.Module):
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
