"""How a selector's pipeline is put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_qan.selection.position import Position
from keras_qan.selection.source import Source
from keras_qan.selection.trail import Trail
from keras_qan.selection.walks import Orders, Walks


class Choice(NamedTuple):
    """What goes into one batch.

    Attributes:
      indices: the examples' numbers, int32 `[B]`.
      weights: what makes the batch's loss an unbiased estimate, float32 `[B]`.
      counters: what the selector counts, after this batch, int64 `[S]`.
      orders: the orders that it walks in.
    """

    indices: tf.Tensor
    weights: tf.Tensor
    counters: tf.Tensor
    orders: Orders


class Pipeline:
    """Batches without an end, each chosen, noted, fetched and handed out in turn.

    Args:
      choose: what goes into the batch of a number, after what was counted, in which orders.
      source: the examples.
      walks: what the examples are walked in.
      position: where the training is; an iterator begins there.
      trail: where batches are noted when they are chosen.
      weighted: whether batches carry weights.
      watch: told the number of each batch that is handed out; None for nobody.
    """

    def __init__(
        self,
        choose: Callable[[tf.Tensor, tf.Tensor, Orders], Choice],
        source: Source,
        walks: Walks,
        position: Position,
        trail: Trail,
        weighted: bool,
        watch: Callable[[tf.Tensor], None] | None,
    ) -> None:
        self._choose, self._source, self._walks = choose, source, walks
        self._position, self._trail = position, trail
        self._weighted, self._watch = weighted, watch

    def dataset(self, prefetch: int, transform: Callable[..., Any] | None) -> tf.data.Dataset:
        """The batches, so many of them made ahead."""
        chosen = tf.data.Dataset.range(1).flat_map(_as_written(self._choices))
        batches = chosen.map(_as_written(self._fetch))
        if transform is not None:

            def transformed(marks: Any, batch: Any) -> Any:
                return marks, transform(*batch) if isinstance(batch, tuple) else transform(batch)

            batches = batches.map(transformed)
        if prefetch:
            batches = batches.prefetch(prefetch)
        return batches.map(_as_written(self._hand_out)).with_options(_options())

    def _choices(self, _: tf.Tensor) -> tf.data.Dataset:
        """What one iterator chooses, beginning where the training is."""
        first = self._position.trained.read_value()
        start = (first, self._position.counters.read_value(), self._walks.fresh())

        def choose(state: Any, _: tf.Tensor) -> Any:
            number, counters, orders = state
            choice = self._choose(number, counters, orders)
            self._trail.write(number, choice.indices, choice.counters)
            made = (number, choice.indices, choice.weights, choice.counters, number == first)
            return (number + 1, choice.counters, choice.orders), made

        return tf.data.Dataset.counter().scan(start, _as_written(choose))

    def _fetch(
        self,
        number: tf.Tensor,
        indices: tf.Tensor,
        weights: tf.Tensor,
        after: tf.Tensor,
        is_first: tf.Tensor,
    ) -> Any:
        """The examples of a batch, and what has to be known when it is handed out."""
        batch = self._source.batch(indices)
        if self._weighted:
            batch = _with_weights(batch, weights)
        return (number, after, is_first), batch

    def _hand_out(self, marks: Any, batch: Any) -> Any:
        """Lets a batch go."""
        self._position.hand_out(*marks)
        if self._watch is not None:
            self._watch(marks[0])
        return batch


def _as_written(function: Callable[..., Any]) -> Any:
    """Keeps TensorFlow from translating a function that is TensorFlow already."""
    return tf.autograph.experimental.do_not_convert(function)


def _with_weights(batch: Any, weights: tf.Tensor) -> Any:
    """Puts weights `[B]` into a batch, times those that it has."""
    if len(batch) == 2:
        return (*batch, weights)

    def times(own: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(weights), tf.ones([tf.rank(own) - 1], tf.int32)], axis=0)
        return own * tf.cast(tf.reshape(weights, shape), own.dtype)

    return (*batch[:2], tf.nest.map_structure(times, batch[2]))


def _options() -> tf.data.Options:
    """Leaves the pipeline as it is written: a prefetch that TensorFlow adds would be undeclared."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_optimization.inject_prefetch = False
    options.autotune.enabled = False
    options.deterministic = True
    return options
