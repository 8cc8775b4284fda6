"""h of the paper's equations 6 to 8: five numbers that describe many descriptions."""

from __future__ import annotations

import tensorflow as tf

from keras_qan.observations import moments

NAMES = ("mean", "median", "standard_deviation", "maximum", "minimum")


def pool(descriptions: tf.Tensor) -> tf.Tensor:
    """Pools M descriptions of F numbers each into five statistics of each number.

    h_β(Φ), Φ = [Φ₁, …, Φ_M] (Fu et al. 2016, equations 6 to 8): mean, median, population standard
    deviation, maximum and minimum over the M descriptions. Their order does not matter, which is
    what makes the state independent of the order of filters.

    Args:
      descriptions: float32 `[M, F]`, M ≥ 1.

    Returns:
      float32 `[5 * F]`: the F means, then the F medians, and so on in the order of `NAMES`.

    Example:
      >>> print(pool(tf.constant([[1.0], [2.0], [6.0]])).numpy().round(3))
      [3.   2.   2.16 6.   1.  ]
    """
    mean = tf.reduce_mean(descriptions, axis=0)
    median = moments.quantiles(tf.transpose(descriptions), (0.5,))[:, 0]
    deviation = tf.sqrt(tf.reduce_mean(tf.square(descriptions - mean), axis=0))
    maximum = tf.reduce_max(descriptions, axis=0)
    minimum = tf.reduce_min(descriptions, axis=0)
    return tf.concat([mean, median, deviation, maximum, minimum], axis=0)
