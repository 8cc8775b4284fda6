"""Equations 5 to 8: one watched kernel becomes 192 numbers, whatever its size."""

from __future__ import annotations

import tensorflow as tf

from keras_qan.observations.moments import NAMES as MOMENT_NAMES
from keras_qan.observations.moments import moments
from keras_qan.observations.pooling import NAMES as POOLING_NAMES
from keras_qan.observations.pooling import pool

NUM_FEATURES = len(MOMENT_NAMES) * (1 + 3 * len(POOLING_NAMES))


def kernel_features(kernel: tf.Tensor) -> tf.Tensor:
    """Describes one kernel by statistics that do not depend on the order of its filters.

    A kernel joins I inputs to J outputs by I·J single kernels of K weights. The result is
    g(w) (equation 5), h(g(w_{1*}), …, g(w_{I*})) over the inputs' rows (6), the same over the
    outputs' columns (7) and over the I·J single kernels (8): 12 + 60 + 60 + 60 numbers.

    Args:
      kernel: float `[..., I, J]`, rank at least 2: `[height, width, I, J]` of a Conv2D (K = height
        · width), `[I, J]` of a Dense layer (K = 1), likewise in one and three dimensions.

    Returns:
      float32 `[192]`.

    Raises:
      ValueError: the kernel has fewer than two axes.
    """
    if kernel.shape.rank is None or kernel.shape.rank < 2:
        raise ValueError(
            f"A watched kernel has shape {kernel.shape}; expected at least two axes, inputs and "
            "outputs last. Watch a Dense or convolution layer's kernel instead."
        )
    num_inputs, num_outputs = int(kernel.shape[-2]), int(kernel.shape[-1])
    blocks = tf.reshape(tf.cast(kernel, tf.float32), [-1, num_inputs, num_outputs])  # [K, I, J]
    size = int(blocks.shape[0])
    by_input = tf.transpose(blocks, [1, 0, 2])  # [I, K, J]
    by_output = tf.transpose(blocks, [2, 0, 1])  # [J, K, I]
    rows = moments(tf.reshape(by_input, [num_inputs, size * num_outputs]))
    columns = moments(tf.reshape(by_output, [num_outputs, size * num_inputs]))
    whole = moments(tf.reshape(blocks, [-1]))
    return tf.concat([whole, pool(rows), pool(columns), _pool_single_kernels(blocks)], axis=0)


def _pool_single_kernels(blocks: tf.Tensor) -> tf.Tensor:
    """Equation 8 for blocks `[K, I, J]`: h over g of each single kernel, float32 `[60]`."""
    size = int(blocks.shape[0])
    if size > 1:
        return pool(moments(tf.reshape(tf.transpose(blocks, [1, 2, 0]), [-1, size])))
    # One weight is its own mean and quartiles and does not vary: pooled once instead of 12 times,
    # as a Dense layer has as many single kernels as weights.
    is_the_weight = tf.constant([1.0] * 4 + [0.0] * (len(MOMENT_NAMES) - 4))
    pooled = pool(tf.reshape(blocks, [-1, 1]))  # [5]
    return tf.reshape(pooled[:, tf.newaxis] * is_the_weight, [-1])
