"""Fixed schedules: progress t/T in [0, 1] → share of the peak rate. They serve as baselines."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check, check_number


class Schedule(Protocol):
    """A learning rate that depends on the time alone."""

    def __call__(self, progress: Any) -> Any:
        """Return the share of the peak rate.

        Args:
          progress: t/T, a float or a float array `[...]`, in [0, 1].

        Returns:
          Floats of the shape of `progress`.
        """
        ...


@configurable
class Cosine:
    """½(1 + cos(π t/T)): from the peak to zero (Loshchilov & Hutter 2016, without restarts)."""

    def __call__(self, progress: Any) -> Any:
        """Return the share at `progress`."""
        return 0.5 * (1.0 + np.cos(math.pi * np.asarray(progress)))


@configurable
class StepDecay:
    """A fall by a factor at fixed shares of the training (Zagoruyko & Komodakis 2016).

    Args:
      factor: in (0, 1), applied at each milestone. Defaults to 0.2.
      milestones: shares of the training in (0, 1). Defaults to theirs, 60, 120 and 160 of 200
        epochs.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self, factor: float = 0.2, milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    ) -> None:
        self.factor = check_number("StepDecay's factor", factor, above=0, below=1)
        for point in milestones:
            check_number("StepDecay's milestones", point, above=0, below=1)
        self.milestones = tuple(milestones)

    def __call__(self, progress: Any) -> Any:
        """Return the share at `progress`."""
        passed = sum((np.asarray(progress) >= point).astype(float) for point in self.milestones)
        return np.power(self.factor, passed)


@configurable
class LinearFall:
    """The peak rate for a while, and then a straight line to zero.

    Args:
      begin: the share of the training at which the fall begins, in [0, 1). Defaults to 0.2.

    Raises:
      ValueError: the share is out of range.
    """

    def __init__(self, begin: float = 0.2) -> None:
        self.begin = check_number("LinearFall's begin", begin, minimum=0, below=1)

    def __call__(self, progress: Any) -> Any:
        """Return the share at `progress`."""
        return np.minimum(1.0, (1.0 - np.asarray(progress)) / (1.0 - self.begin))


@configurable
class OneCycle:
    """Up to the peak and down to nearly nothing, both along a cosine (Smith & Topin 2018).

    Args:
      warm_up: the share of the training that leads up to the peak, in (0, 1). Defaults to 0.3.
      start: the first rate's share of the peak. Defaults to 0.04.
      end: the last rate's share of the peak. Defaults to 4e-6.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, warm_up: float = 0.3, start: float = 0.04, end: float = 4e-6) -> None:
        self.warm_up = check_number("OneCycle's warm_up", warm_up, above=0, below=1)
        self.start = check_number("OneCycle's start", start, above=0, maximum=1)
        self.end = check_number("OneCycle's end", end, minimum=0, maximum=1)

    def __call__(self, progress: Any) -> Any:
        """Return the share at `progress`."""
        progress = np.asarray(progress)
        up = self.start + (1.0 - self.start) * _rise(progress / self.warm_up)
        down = self.end + (1.0 - self.end) * _rise((1.0 - progress) / (1.0 - self.warm_up))
        return np.where(progress < self.warm_up, up, down)


@configurable
class WarmRestarts:
    """Cosines that start again from the peak, each longer than the last (SGDR, 2016).

    Args:
      first: the first cycle's share of the training, in (0, 1]. Defaults to 1/7.
      growth: the length of each cycle relative to the one before, at least 1. Defaults to 2.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, first: float = 1.0 / 7.0, growth: float = 2.0) -> None:
        self.first = check_number("WarmRestarts's first", first, above=0, maximum=1)
        self.growth = check_number("WarmRestarts's growth", growth, 1)

    def __call__(self, progress: Any) -> Any:
        """Return the share at `progress`."""
        starts, length = [0.0], self.first
        while starts[-1] + length < 1.0 - 1e-6:
            starts.append(starts[-1] + length)
            length *= self.growth
        progress = np.asarray(progress)
        cycle = np.searchsorted(np.array(starts) - 1e-6, progress, side="right") - 1
        cycle = np.maximum(cycle, 0)
        lengths = self.first * self.growth ** np.arange(len(starts))
        within = (progress - np.array(starts)[cycle]) / lengths[cycle]
        return 0.5 * (1.0 + np.cos(math.pi * np.clip(within, 0.0, 1.0)))


def _rise(share: Any) -> Any:
    """Half a cosine from 0 to 1."""
    return 0.5 * (1.0 - np.cos(math.pi * np.clip(share, 0.0, 1.0)))


def check_schedule(name: str, value: Any) -> None:
    """Raise ValueError unless the value can be called like a `Schedule`."""
    check(callable(value), name, value, "a schedule such as Cosine()")
