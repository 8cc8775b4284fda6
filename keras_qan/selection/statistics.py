"""Composition of the batches over time, and a test for class-alternating sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import stats

#: Parts of time that are told apart; when they are full, two become one.
_PARTS = 256

#: The share of the recent composition that stays after a batch.
_MEMORY = 0.9

#: Permutations of a permutation test.
_NUM_RESAMPLES = 999


@dataclass(frozen=True, eq=False)
class GroupFractions:
    """The share of each group of examples in the batches of a training.

    Attributes:
      groups: their names, G of them.
      edges: numbers of the batches where each part of the training begins, and where the last one
        ends, float64 `[P + 1]`.
      share: float64 `[P, G]`; rows sum to 1, or to 0 where nothing was known of the groups.
    """

    groups: tuple[str, ...]
    edges: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]


class BatchComposition(tf.Module):
    """Counts of the examples of each group, over time, and their recent shares.

    Args:
      groups: names of the groups, G of them.
    """

    def __init__(self, groups: tuple[str, ...]) -> None:
        super().__init__()
        self._groups = groups
        with tf.device("/cpu:0"):
            self.counts = tf.Variable(tf.zeros([_PARTS, len(groups)]), trainable=False)
            self.width = tf.Variable(tf.constant(1, tf.int64), trainable=False)
            self.recent = tf.Variable(tf.zeros([len(groups)]), trainable=False)

    def add(self, first: tf.Tensor, counts: tf.Tensor) -> None:
        """Count batches.

        Args:
          first: number of the first one, int64 `[]`.
          counts: examples of each group in each batch, float32 `[T, G]`.
        """
        numbers = first + tf.range(tf.shape(counts, tf.int64)[0])
        (width,) = tf.while_loop(
            lambda width: numbers[-1] // width >= _PARTS, self._halve, (self.width.read_value(),)
        )
        part = numbers // width
        self.counts.scatter_add(tf.IndexedSlices(counts, part))
        total = tf.reduce_sum(counts, axis=1, keepdims=True)
        shares = tf.math.divide_no_nan(counts, total)  # [T, G]
        age = tf.cast(numbers[-1] - numbers, tf.float32)
        weight = (1.0 - _MEMORY) * tf.pow(_MEMORY, age)[:, tf.newaxis]
        stays = tf.pow(_MEMORY, tf.cast(tf.shape(counts)[0], tf.float32))
        is_first = tf.reduce_all(tf.equal(self.recent.read_value(), 0.0))
        now = stays * self.recent.read_value() + tf.reduce_sum(weight * shares, axis=0)
        self.recent.assign(tf.where(is_first, tf.reduce_mean(shares, axis=0), now))

    def _halve(self, width: tf.Tensor) -> tuple[tf.Tensor]:
        pairs = tf.reshape(self.counts.read_value(), [_PARTS // 2, 2, len(self._groups)])
        merged = tf.reduce_sum(pairs, axis=1)
        self.counts.assign(tf.concat([merged, tf.zeros_like(merged)], axis=0))
        self.width.assign(2 * width)
        return (2 * width,)

    def shares(self, num_batches: int) -> GroupFractions:
        """The shares in the first `num_batches` batches."""
        width = int(self.width.numpy())
        num_parts = -(-num_batches // width)
        counts = self.counts.numpy()[:num_parts].astype(np.float64)
        total = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
        edges = np.minimum(np.arange(num_parts + 1) * width, num_batches).astype(np.float64)
        return GroupFractions(self._groups, edges, share)

    def reset(self) -> None:
        """Forget everything."""
        self.counts.assign(tf.zeros_like(self.counts))
        self.width.assign(1)
        self.recent.assign(tf.zeros_like(self.recent))


@dataclass(frozen=True)
class Uniformity:
    """Uniformity of choices of classes, overall and in a row.

    Attributes:
      chi_square: Σ (n_c - n/C)² / (n/C) of the classes' counts, with C - 1 degrees of freedom.
      p_uniform: the probability of counts at least as uneven where every class is as likely.
      distinct: the mean number of distinct classes in C choices in a row; C where they alternate.
      p_alternating: the probability of at least as many in a random order of the same choices.
      num_classes: C.
    """

    chi_square: float
    p_uniform: float
    distinct: float
    p_alternating: float
    num_classes: int

    @property
    def verdict(self) -> str:
        """`alternating`, `uneven` or `as if at random`, at the level of one per cent.

        `alternating`: more classes in a row than chance has, and no class more often than others.
        """
        if self.p_uniform < 0.01:
            return "uneven"
        return "alternating" if self.p_alternating < 0.01 else "as if at random"


def uniformity(choices: Sequence[int], num_classes: int, seed: int = 0) -> Uniformity:
    """Test a sequence of chosen classes for uniformity and for alternation.

    Pearson's chi-square test of the counts, and a permutation test of the number of distinct
    classes in windows of C choices (of the choices' order).

    Args:
      choices: the classes in the order in which they were chosen, at least 2 · C of them.
      num_classes: C, at least 2.
      seed: seed of the permutations. Defaults to 0.

    Returns:
      Both statistics with their p-values.

    Raises:
      ValueError: there are too few choices, or a class outside 0 … C - 1.

    Example:
      >>> uniformity([0, 1, 2] * 20, num_classes=3).verdict
      'alternating'
    """
    chosen = np.asarray(choices, np.int64)
    if num_classes < 2 or chosen.size < 2 * num_classes:
        raise ValueError(
            f"uniformity got {chosen.size} choices among {num_classes} classes; expected at least "
            "2 classes, and twice as many choices. Train for longer."
        )
    if chosen.min() < 0 or chosen.max() >= num_classes:
        raise ValueError(
            f"uniformity got classes from {chosen.min()} to {chosen.max()}; expected 0 to "
            f"{num_classes - 1}."
        )
    counts = np.bincount(chosen, minlength=num_classes)
    found = stats.chisquare(counts)
    distinct = _distinct_in_a_row(chosen, num_classes)
    generator = np.random.default_rng(seed)
    by_chance = np.array(
        [
            _distinct_in_a_row(generator.permutation(chosen), num_classes)
            for _ in range(_NUM_RESAMPLES)
        ]
    )
    p_alternating = (1 + np.sum(by_chance >= distinct - 1e-12)) / (1 + _NUM_RESAMPLES)
    return Uniformity(
        float(found.statistic),
        float(found.pvalue),
        float(distinct),
        float(p_alternating),
        num_classes,
    )


def _distinct_in_a_row(chosen: npt.NDArray[np.int64], num_classes: int) -> np.floating:
    """The mean number of distinct classes in all windows of C choices."""
    windows = np.lib.stride_tricks.sliding_window_view(chosen, num_classes)
    ordered = np.sort(windows, axis=1)
    return (1 + (np.diff(ordered, axis=1) != 0).sum(axis=1)).mean()
