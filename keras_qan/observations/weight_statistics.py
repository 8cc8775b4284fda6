"""192 statistics of a kernel, whatever its size (Fu et al. 2016, equations 5 to 8).

All of it is `keras.ops`, so that the statistics are computed where the weights are, on any of
Keras's backends; `kernel_features` alone brings the finished numbers to the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_qan.utils.backend import compile_function

#: g of the paper: twelve numbers that describe a set of weights.
MOMENT_NAMES = (
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

#: h of the paper: five numbers that describe many descriptions.
POOLING_NAMES = ("mean", "median", "standard_deviation", "maximum", "minimum")

NUM_FEATURES = len(MOMENT_NAMES) * (1 + 3 * len(POOLING_NAMES))


def quantiles(values: Any, probabilities: tuple[float, ...]) -> Any:
    """Return quantiles along the last axis, linear between the two nearest values.

    Args:
      values: float32 `[..., n]` with n known and at least 1.
      probabilities: P numbers in [0, 1].

    Returns:
      float32 `[..., P]`.
    """
    num_values = int(values.shape[-1])
    ascending = ops.sort(values, axis=-1)
    found = []
    for probability in probabilities:
        position = probability * (num_values - 1)
        below = int(position)
        above = min(below + 1, num_values - 1)
        share = position - below
        found.append(ascending[..., below] * (1.0 - share) + ascending[..., above] * share)
    return ops.stack(found, axis=-1)


def moments(values: Any) -> Any:
    """Describe each set of weights along the last axis by twelve statistics.

    In the order of `MOMENT_NAMES`: mean, quartiles, standard deviation σ, skewness m₃/σ³, excess
    kurtosis m₄/σ⁴ - 3, and the central moments m_p = mean((w - mean)^p) for p = 1 … 5 (Fu et al.
    2016, below equation 8). Population moments throughout, so that a single weight has one too.

    Deviations: m₁ is zero by definition and is returned as an exact zero rather than as rounding
    noise; skewness and kurtosis of weights that do not vary are zero rather than not-a-number.

    Args:
      values: float `[..., n]`, n ≥ 1.

    Returns:
      float32 `[..., 12]`, finite for weights up to 10⁷ (the fifth moment of larger ones is not).

    Example:
      >>> print(ops.convert_to_numpy(moments(ops.array([1.0, 2.0, 3.0, 4.0, 10.0])))[:4])
      [4. 2. 3. 4.]
    """
    values = ops.cast(values, "float32")
    mean = ops.mean(values, axis=-1)
    deviation = values - mean[..., None]
    square = deviation * deviation
    cube = square * deviation
    moment_2 = ops.mean(square, axis=-1)
    moment_3 = ops.mean(cube, axis=-1)
    moment_4 = ops.mean(square * square, axis=-1)
    moment_5 = ops.mean(square * cube, axis=-1)
    sigma = ops.sqrt(moment_2)
    # Standardised first and raised to powers then, as σ⁴ of small weights would underflow.
    spread = ops.max(ops.abs(values), axis=-1)
    varies = sigma > 1e-6 * spread
    standard = deviation / ops.where(varies, sigma, ops.ones_like(sigma))[..., None]
    zero = ops.zeros_like(mean)
    standard_square = standard * standard
    skewness = ops.where(varies, ops.mean(standard_square * standard, axis=-1), zero)
    fourth = ops.mean(standard_square * standard_square, axis=-1)
    kurtosis = ops.where(varies, fourth - 3.0, zero)
    quartiles = quantiles(values, (0.25, 0.5, 0.75))
    rest = [sigma, skewness, kurtosis, zero, moment_2, moment_3, moment_4, moment_5]
    return ops.concatenate([mean[..., None], quartiles, ops.stack(rest, axis=-1)], axis=-1)


def pool(descriptions: Any) -> Any:
    """Pool M descriptions of F numbers each into five statistics of each number.

    h_β(Φ), Φ = [Φ₁, …, Φ_M] (Fu et al. 2016, equations 6 to 8): mean, median, population standard
    deviation, maximum and minimum over the M descriptions. Their order does not matter, which is
    what makes the state independent of the order of filters.

    Args:
      descriptions: float32 `[M, F]`, M ≥ 1.

    Returns:
      float32 `[5 * F]`: the F means, then the F medians, and so on in the order of
      `POOLING_NAMES`.

    Example:
      >>> print(ops.convert_to_numpy(pool(ops.array([[1.0], [2.0], [6.0]]))).round(3))
      [3.   2.   2.16 6.   1.  ]
    """
    mean = ops.mean(descriptions, axis=0)
    median = quantiles(ops.transpose(descriptions), (0.5,))[:, 0]
    # Scaled before they are squared, as the square of a fifth moment leaves float32's range.
    apart = descriptions - mean
    reach = ops.max(ops.abs(apart), axis=0)
    scaled = apart / ops.where(reach > 0.0, reach, ops.ones_like(reach))
    deviation = reach * ops.sqrt(ops.mean(ops.square(scaled), axis=0))
    maximum = ops.max(descriptions, axis=0)
    minimum = ops.min(descriptions, axis=0)
    return ops.concatenate([mean, median, deviation, maximum, minimum], axis=0)


def kernel_features(kernel: Any) -> np.ndarray:
    """Describe one kernel by statistics that do not depend on the order of its filters.

    A kernel joins I inputs to J outputs by I·J single kernels of K weights. The result is
    g(w) (equation 5), h(g(w_{1*}), …, g(w_{I*})) over the inputs' rows (6), the same over the
    outputs' columns (7) and over the I·J single kernels (8): 12 + 60 + 60 + 60 numbers.

    Args:
      kernel: float `[..., I, J]`, rank at least 2: `[height, width, I, J]` of a Conv2D (K = height
        · width), `[I, J]` of a Dense layer (K = 1), likewise in one and three dimensions.

    Returns:
      float32 `[192]`, on the host.

    Raises:
      ValueError: the kernel has fewer than two axes.
    """
    if len(kernel.shape) < 2:
        raise ValueError(
            f"A watched kernel has shape {tuple(kernel.shape)}; expected at least two axes, inputs "
            "and outputs last. Watch a Dense or convolution layer's kernel instead."
        )
    return np.asarray(ops.convert_to_numpy(_kernel_features(kernel)))


@compile_function
def _kernel_features(kernel: Any) -> Any:
    """Return the 192 statistics as a tensor."""
    num_inputs, num_outputs = int(kernel.shape[-2]), int(kernel.shape[-1])
    blocks = ops.reshape(ops.cast(kernel, "float32"), [-1, num_inputs, num_outputs])  # [K, I, J]
    size = int(blocks.shape[0])
    by_input = ops.transpose(blocks, [1, 0, 2])  # [I, K, J]
    by_output = ops.transpose(blocks, [2, 0, 1])  # [J, K, I]
    rows = moments(ops.reshape(by_input, [num_inputs, size * num_outputs]))
    columns = moments(ops.reshape(by_output, [num_outputs, size * num_inputs]))
    whole = moments(ops.reshape(blocks, [-1]))
    return ops.concatenate([whole, pool(rows), pool(columns), _pool_single_kernels(blocks)], axis=0)


def _pool_single_kernels(blocks: Any) -> Any:
    """Return equation 8 for blocks `[K, I, J]`: h over g of each single kernel, float32 `[60]`."""
    size = int(blocks.shape[0])
    if size > 1:
        return pool(moments(ops.reshape(ops.transpose(blocks, [1, 2, 0]), [-1, size])))
    # One weight is its own mean and quartiles and does not vary: pooled once instead of 12 times,
    # as a Dense layer has as many single kernels as weights.
    is_the_weight = ops.array([1.0] * 4 + [0.0] * (len(MOMENT_NAMES) - 4))
    pooled = pool(ops.reshape(blocks, [-1, 1]))  # [5]
    return ops.reshape(pooled[:, None] * is_the_weight, [-1])
