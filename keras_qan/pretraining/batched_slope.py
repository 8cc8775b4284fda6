"""The slope ratio of a population, from sums that stay in its compiled loop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.qan.slope_ratio import FEWEST_PAIRS


class SlopeSums(NamedTuple):
    """Sums that the slope ratio of each member follows from; see `keras_qan.qan.slope_ratio`.

    Attributes:
      update: the last update, a list of tensors as of the weights.
      start: its ⟨g, d⟩, `[P]`.
      counts: 1 where it is the first of a pair, else 0, `[P]`.
      sums: `[P, 9]`: pairs of steps; over them the sums of s = ⟨g(t), d(t)⟩, e = ⟨g(t+1), d(t)⟩,
        s², e² and e s; steps; over them those of ⟨d, d⟩ and ⟨w, w⟩.
    """

    update: list[tf.Tensor]
    start: tf.Tensor
    counts: tf.Tensor
    sums: tf.Tensor


class BatchedSlope(NamedTuple):
    """The estimates of P members, as `SlopeEstimate` has them for one; arrays `[P]`."""

    ratio: np.ndarray
    error: np.ndarray
    is_known: np.ndarray
    relative_step: np.ndarray
    highest: np.ndarray


def no_steps(weights: list[tf.Tensor]) -> SlopeSums:
    """Return the sums before any step of a population."""
    zeros = tf.zeros([weights[0].shape[0]])
    return SlopeSums([tf.zeros_like(w) for w in weights], zeros, zeros, tf.zeros([len(zeros), 9]))


def forget(measured: SlopeSums, goes_on: np.ndarray) -> SlopeSums:
    """Return the sums, begun anew where nothing goes on.

    Args:
      measured: so far.
      goes_on: whose sums stay, bool `[P]`.
    """
    kept = tf.constant(goes_on, tf.float32)
    sums = measured.sums * kept[:, tf.newaxis]
    return measured._replace(counts=measured.counts * kept, sums=sums)


def add_step(
    measured: SlopeSums,
    gradient: list[tf.Tensor],
    update: list[tf.Tensor],
    weights: list[tf.Tensor],
    counts: tf.Tensor,
) -> SlopeSums:
    """Take in one step.

    Args:
      measured: the sums before it.
      gradient: g(t).
      update: d(t), without weight decay.
      weights: after it.
      counts: 1 where the step is measured, else 0, `[]`.
    """
    start, end = _dot(gradient, update), _dot(gradient, measured.update)
    before, pair = measured.start, measured.counts * counts
    steps = counts * tf.ones_like(start)
    row = [pair, pair * before, pair * end, pair * before**2, pair * end**2, pair * end * before]
    row += [steps, steps * _dot(update, update), steps * _dot(weights, weights)]
    return SlopeSums(update, start, steps, measured.sums + tf.stack(row, axis=-1))


def _dot(left: list[tf.Tensor], right: list[tf.Tensor]) -> tf.Tensor:
    products = [tf.reduce_sum(a * b, axis=[1, 2]) for a, b in zip(left, right, strict=True)]
    return tf.add_n(products)


def estimate(measured: SlopeSums, highest: np.ndarray) -> BatchedSlope:
    """Return the estimates.

    Args:
      measured: the sums.
      highest: the highest lower bound of each ratio so far, `[P]`.
    """
    numbers = np.moveaxis(measured.sums.numpy().astype(np.float64), -1, 0)
    pairs, start, end, starts, ends, both, _, squares, sizes = numbers
    with np.errstate(all="ignore"):
        ratio = end / start
        # Of a ratio of means, by the delta method: both have the step's own scale.
        spread = np.maximum(ends - 2.0 * ratio * both + ratio**2 * starts, 0.0) / (pairs - 1.0)
        error = np.sqrt(spread * pairs) / np.abs(start)
        relative = np.sqrt(squares / np.maximum(sizes, 1e-30))
        is_known = (pairs >= FEWEST_PAIRS) & (start < 0.0) & np.isfinite(ratio + error)
        lowest = np.where(is_known, ratio - error, 0.0)
    return BatchedSlope(ratio, error, is_known, relative, np.maximum(highest, lowest))
