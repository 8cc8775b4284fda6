"""Fixed schedules: progress t/T in [0, 1] → share of the peak rate. They serve as baselines."""

from __future__ import annotations

import math
from typing import Protocol

import tensorflow as tf

from keras_qan.storage.serialization import configurable


class Schedule(Protocol):
    """A learning rate that depends on the time alone."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share of the peak rate, float32 `[]`, at `progress`, float32 `[]` in [0, 1]."""
        ...


@configurable
class Cosine:
    """½(1 + cos(π t/T)): from the peak to zero (Loshchilov & Hutter 2016, without restarts)."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`."""
        return 0.5 * (1.0 + tf.cos(math.pi * progress))


@configurable
class StepDecay:
    """The rate falls by a factor at fixed shares of the training (Zagoruyko & Komodakis 2016).

    Args:
      factor: in (0, 1), applied at each milestone.
      milestones: shares of the training in (0, 1); theirs are 60, 120 and 160 of 200 epochs.
    """

    def __init__(
        self, factor: float = 0.2, milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    ) -> None:
        if not 0.0 < factor < 1.0 or not all(0.0 < point < 1.0 for point in milestones):
            raise ValueError(
                f"StepDecay got factor={factor} and milestones={milestones}; expected a factor and "
                "milestones strictly between 0 and 1."
            )
        self.factor, self.milestones = float(factor), tuple(milestones)

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`."""
        passed = tf.reduce_sum(tf.cast(progress >= tf.constant(self.milestones), tf.float32))
        return tf.pow(self.factor, passed)


@configurable
class OneCycle:
    """Up to the peak and down to nearly nothing, both along a cosine (Smith & Topin 2018).

    Args:
      warm_up: the share of the training that leads up to the peak, in (0, 1).
      start: the first rate's share of the peak.
      end: the last rate's share of the peak.
    """

    def __init__(self, warm_up: float = 0.3, start: float = 0.04, end: float = 4e-6) -> None:
        if not 0.0 < warm_up < 1.0 or not (0.0 < start <= 1.0 and 0.0 <= end <= 1.0):
            raise ValueError(
                f"OneCycle got warm_up={warm_up}, start={start}, end={end}; expected warm_up "
                "strictly between 0 and 1, and shares of the peak in (0, 1]."
            )
        self.warm_up, self.start, self.end = float(warm_up), float(start), float(end)

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`."""
        up = self.start + (1.0 - self.start) * _rise(progress / self.warm_up)
        down = self.end + (1.0 - self.end) * _rise((1.0 - progress) / (1.0 - self.warm_up))
        return tf.where(progress < self.warm_up, up, down)


@configurable
class WarmRestarts:
    """Cosines that start again from the peak, each longer than the last (SGDR, 2016).

    Args:
      first: the first cycle's share of the training, in (0, 1].
      growth: how much longer each cycle is than the one before, at least 1.
    """

    def __init__(self, first: float = 1.0 / 7.0, growth: float = 2.0) -> None:
        if not 0.0 < first <= 1.0 or not 1.0 <= growth < math.inf:
            raise ValueError(
                f"WarmRestarts got first={first}, growth={growth}; expected first in (0, 1] and a "
                "finite growth of at least 1."
            )
        self.first, self.growth = float(first), float(growth)

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`."""
        starts, length = [0.0], self.first
        while starts[-1] + length < 1.0 - 1e-6:
            starts.append(starts[-1] + length)
            length *= self.growth
        begun = tf.constant(starts)
        cycle = tf.maximum(tf.reduce_sum(tf.cast(progress >= begun - 1e-6, tf.int32)) - 1, 0)
        lengths = tf.constant([self.first * self.growth**n for n in range(len(starts))])
        within = (progress - tf.gather(begun, cycle)) / tf.gather(lengths, cycle)
        return 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(within, 0.0, 1.0)))


def _rise(share: tf.Tensor) -> tf.Tensor:
    """Half a cosine from 0 to 1."""
    return 0.5 * (1.0 - tf.cos(math.pi * tf.clip_by_value(share, 0.0, 1.0)))
