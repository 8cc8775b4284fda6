"""g of the paper's equations 5 to 8: twelve numbers that describe a set of weights."""

from __future__ import annotations

import tensorflow as tf

NAMES = (
    "mean",
    "quantile_25",
    "quantile_50",
    "quantile_75",
    "standard_deviation",
    "skewness",
    "kurtosis",
    "central_moment_1",
    "central_moment_2",
    "central_moment_3",
    "central_moment_4",
    "central_moment_5",
)


def quantiles(values: tf.Tensor, probabilities: tuple[float, ...]) -> tf.Tensor:
    """Quantiles along the last axis, linear between the two nearest values.

    Args:
      values: float32 `[..., n]` with n known and at least 1.
      probabilities: P numbers in [0, 1].

    Returns:
      float32 `[..., P]`.
    """
    num_values = int(values.shape[-1])
    ascending = tf.sort(values, axis=-1)
    found = []
    for probability in probabilities:
        position = probability * (num_values - 1)
        below = int(position)
        above = min(below + 1, num_values - 1)
        share = position - below
        found.append(ascending[..., below] * (1.0 - share) + ascending[..., above] * share)
    return tf.stack(found, axis=-1)


def moments(values: tf.Tensor) -> tf.Tensor:
    """Describes each set of weights along the last axis by twelve statistics.

    In the order of `NAMES`: mean, quartiles, standard deviation σ, skewness m₃/σ³, excess kurtosis
    m₄/σ⁴ - 3, and the central moments m_p = mean((w - mean)^p) for p = 1 … 5 (Fu et al. 2016,
    below equation 8). Population moments throughout, so that a single weight has one too.

    Deviations: m₁ is zero by definition and is returned as an exact zero rather than as rounding
    noise; skewness and kurtosis of weights that do not vary are zero rather than not-a-number.

    Args:
      values: float `[..., n]`, n ≥ 1.

    Returns:
      float32 `[..., 12]`, finite for finite values.

    Example:
      >>> print(moments(tf.constant([1.0, 2.0, 3.0, 4.0, 10.0]))[:4].numpy())
      [4. 2. 3. 4.]
    """
    values = tf.cast(values, tf.float32)
    mean = tf.reduce_mean(values, axis=-1)
    deviation = values - mean[..., tf.newaxis]
    square = deviation * deviation
    cube = square * deviation
    moment_2 = tf.reduce_mean(square, axis=-1)
    moment_3 = tf.reduce_mean(cube, axis=-1)
    moment_4 = tf.reduce_mean(square * square, axis=-1)
    moment_5 = tf.reduce_mean(square * cube, axis=-1)
    sigma = tf.sqrt(moment_2)
    # Standardised first and raised to powers then, as σ⁴ of small weights would underflow.
    spread = tf.reduce_max(tf.abs(values), axis=-1)
    varies = sigma > 1e-6 * spread
    standard = deviation / tf.where(varies, sigma, tf.ones_like(sigma))[..., tf.newaxis]
    zero = tf.zeros_like(mean)
    standard_square = standard * standard
    skewness = tf.where(varies, tf.reduce_mean(standard_square * standard, axis=-1), zero)
    fourth = tf.reduce_mean(standard_square * standard_square, axis=-1)
    kurtosis = tf.where(varies, fourth - 3.0, zero)
    quartiles = quantiles(values, (0.25, 0.5, 0.75))
    rest = [sigma, skewness, kurtosis, zero, moment_2, moment_3, moment_4, moment_5]
    return tf.concat([mean[..., tf.newaxis], quartiles, tf.stack(rest, axis=-1)], axis=-1)
