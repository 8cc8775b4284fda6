"""Mini-batches of all examples in random order: the baseline."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_qan.selection.base import Selector
from keras_qan.selection.pipeline import BatchChoice, ExampleSource
from keras_qan.selection.stream_state import EpochOrders


class Uniform(Selector):
    """Visits all examples, in another order in each epoch.

    The same as `shuffle().batch()` with a buffer as large as the data, by the code of the other
    selectors: the baseline to compare them with.

    Args:
      dataset: single examples of any structure.
      batch_size: B, at most N.
      unbiased: whether batches carry weights, all of them 1. Defaults to False.
      seed: seed of the orders, at least 0. Defaults to 0.

    Raises:
      TypeError: it is no dataset, or holds sparse tensors.
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
        """None: there is nothing to choose."""
        return ()

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: EpochOrders) -> BatchChoice:
        indices, orders = self._stream.sample_all(orders, number)
        return BatchChoice(indices, tf.ones([self.batch_size]), counters, orders)
