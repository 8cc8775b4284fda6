"""Do the actions converge to class-alternating sampling? A test for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

_NUM_RESAMPLES = 999


@dataclass(frozen=True)
class Uniformity:
    """How evenly classes were chosen, all in all and one after another.

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
    """Tests a sequence of chosen classes for uniformity and for alternation.

    Pearson's chi-square test of the counts, and a permutation test of the number of distinct
    classes in windows of C choices (the choices' order is what is permuted).

    Args:
      choices: the classes in the order in which they were chosen, at least 2 · C of them.
      num_classes: C, at least 2.
      seed: of the permutations.

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
