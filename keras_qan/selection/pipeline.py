"""How a selector's pipeline is put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def as_written(function: Callable[..., Any]) -> Any:
    """Keeps TensorFlow from translating a function that is TensorFlow already."""
    return tf.autograph.experimental.do_not_convert(function)


def with_weights(batch: Any, weights: tf.Tensor) -> Any:
    """Puts weights `[B]` into a batch, times those that it has."""
    if len(batch) == 2:
        return (*batch, weights)

    def times(own: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(weights), tf.ones([tf.rank(own) - 1], tf.int32)], axis=0)
        return own * tf.cast(tf.reshape(weights, shape), own.dtype)

    return (*batch[:2], tf.nest.map_structure(times, batch[2]))


def options() -> tf.data.Options:
    """Leaves the pipeline as it is written: a prefetch that TensorFlow adds would be undeclared."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_optimization.inject_prefetch = False
    options.autotune.enabled = False
    options.deterministic = True
    return options
