"""Every example as often as every other: the yardstick."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_qan.selection.base import Selector
from keras_qan.selection.pipeline import ExampleChooser, ExampleSource
from keras_qan.selection.stream_state import EpochSampler, Orders


class Uniform(Selector):
    """Walks over all examples, anew in another order after each pass.

    What `shuffle().batch()` does with a buffer as large as the data, from the same machinery as the
    other selectors, and so the arm to compare them with.

    Args:
      dataset: single examples of any structure.
      batch_size: B, at most N.
      unbiased: whether batches carry weights; they are all 1.
      seed: what the orders follow from, at least 0.

    Raises:
      TypeError: the dataset is none, or holds sparse tensors.
      ValueError: an argument is out of range, or the dataset is batched or of unknown length.

    Example:
      >>> numbers = tf.data.Dataset.range(6)
      >>> selector = Uniform(numbers, batch_size=3)
      >>> pass_ = [batch.numpy() for batch in selector.dataset().take(2)]
      >>> sorted(number for batch in pass_ for number in batch.tolist())
      [0, 1, 2, 3, 4, 5]
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        batch_size: int,
        *,
        unbiased: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(ExampleSource(dataset), batch_size, unbiased=unbiased, seed=seed)

    def actions(self) -> tuple[Any, ...]:
        """None: there is nothing to steer."""
        return ()

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: Orders) -> ExampleChooser:
        indices, orders = next_of_all(
            self._walks, orders, self._seed.read_value(), number, self.batch_size
        )
        return ExampleChooser(indices, tf.ones([self.batch_size]), counters, orders)


def next_of_all(
    walks: EpochSampler, orders: Orders, seed: tf.Tensor, number: tf.Tensor, batch_size: int
) -> tuple[tf.Tensor, Orders]:
    """The batch of that number in a walk over all examples: `[B]`, and the orders after it."""
    position = number * batch_size + tf.range(batch_size, dtype=tf.int64)
    return walks.take(orders, seed, tf.zeros([batch_size], tf.int64), position)
