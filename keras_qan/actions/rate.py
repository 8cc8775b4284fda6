"""Actions on the learning rate. They say which rate comes next; only the controller assigns it."""

from __future__ import annotations

import math
from typing import Protocol

import tensorflow as tf

from keras_qan.actions.schedules import Schedule
from keras_qan.registry import configurable


class Action(Protocol):
    """One choice of an agent."""

    def next_rate(self, rate: tf.Tensor, initial_rate: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
        """The learning rate that follows.

        Args:
          rate: the present learning rates, float32 `[K]`: one for each optimizer.
          initial_rate: what they were when `fit` began, float32 `[K]`.
          progress: the share of the training's steps that are done, float32 `[]` in [0, 1].

        Returns:
          float32 `[K]`; the controller keeps it within its bounds.
        """
        ...


class _Scale:
    """What `Decay`, `Raise` and `StepBack` share: the rate times a factor."""

    factor: float

    def next_rate(
        self,
        rate: tf.Tensor,
        initial_rate: tf.Tensor,  # noqa: ARG002
        progress: tf.Tensor,  # noqa: ARG002
    ) -> tf.Tensor:
        """factor · rate."""
        return rate * self.factor


@configurable
class Decay(_Scale):
    """Multiplies the learning rate by a factor below one (the paper's: 0.95).

    Args:
      factor: in (0, 1).
    """

    def __init__(self, factor: float = 0.95) -> None:
        if not 0.0 < factor < 1.0:
            raise ValueError(
                f"Decay got factor={factor}; expected a number between 0 and 1. "
                "To raise the rate use Raise(factor), to keep it use Hold()."
            )
        self.factor = float(factor)


@configurable
class Raise(_Scale):
    """Multiplies the learning rate by a factor above one.

    Args:
      factor: above 1.
    """

    def __init__(self, factor: float = 1.25) -> None:
        if not (factor > 1.0 and math.isfinite(factor)):
            raise ValueError(
                f"Raise got factor={factor}; expected a finite number above 1. "
                "To lower the rate use Decay(factor), to keep it use Hold()."
            )
        self.factor = float(factor)


@configurable
class Hold:
    """Leaves the learning rate as it is."""

    def next_rate(
        self,
        rate: tf.Tensor,
        initial_rate: tf.Tensor,  # noqa: ARG002
        progress: tf.Tensor,  # noqa: ARG002
    ) -> tf.Tensor:
        """The rate itself."""
        return rate


@configurable
class StepBack(_Scale):
    """Sets the training back to where its loss was lowest, and goes on from there more slowly.

    Weights and optimizer slots become those of the decision before which the training loss was
    lowest. It is taken without asking where the loss has jumped (`observations.track.has_jumped`)
    or is no number. The steps that led astray remain spent.

    Args:
      factor: in (0, 1); the rate becomes `factor` times the present one, or the one that led to
        the lowest loss where that is less.
    """

    def __init__(self, factor: float = 0.3) -> None:
        if not 0.0 < factor < 1.0:
            raise ValueError(
                f"StepBack got factor={factor}; expected a number between 0 and 1: a training that "
                "is set back goes astray again unless its rate is lower."
            )
        self.factor = float(factor)

    def rate_after(self, rate: tf.Tensor, kept_rate: tf.Tensor) -> tf.Tensor:
        """The rate after a training was set back.

        Args:
          rate: the present one.
          kept_rate: the one of the kept weights; one that was stepped back to before is less.
        """
        return tf.minimum(rate * self.factor, kept_rate)


@configurable
class Restart:
    """Sets the learning rate back (the paper's second action, after Loshchilov & Hutter 2016).

    Args:
      rate: the rate to go back to; by default the one `fit` began with.
    """

    def __init__(self, rate: float | None = None) -> None:
        if rate is not None and not (rate > 0.0 and math.isfinite(rate)):
            raise ValueError(
                f"Restart got rate={rate}; expected a positive number, or None for the rate that "
                "the training began with."
            )
        self.rate = None if rate is None else float(rate)

    def next_rate(
        self,
        rate: tf.Tensor,
        initial_rate: tf.Tensor,
        progress: tf.Tensor,  # noqa: ARG002
    ) -> tf.Tensor:
        """The initial rate, or the one given."""
        return initial_rate if self.rate is None else tf.fill(tf.shape(rate), self.rate)


@configurable
class Follow:
    """Sets the learning rate to what a schedule says at this point of the training.

    Args:
      schedule: a `Schedule`, for example `Cosine()`.
    """

    def __init__(self, schedule: Schedule) -> None:
        if not callable(schedule):
            raise ValueError(
                f"Follow got schedule={schedule!r}; expected a schedule such as Cosine()."
            )
        self.schedule = schedule

    def next_rate(
        self,
        rate: tf.Tensor,  # noqa: ARG002
        initial_rate: tf.Tensor,
        progress: tf.Tensor,
    ) -> tf.Tensor:
        """The initial rate times the schedule's share."""
        return initial_rate * self.schedule(progress)


def label(action: Action) -> str:
    """How an action is called in logs and figures: `Decay(0.95)`, `Hold()`, `Push(3)`."""
    config: dict[str, object] = getattr(action, "get_config", dict)()
    values = [
        f"{value:g}" if isinstance(value, int | float) else type(value).__name__
        for value in config.values()
        if isinstance(value, int | float) or callable(value)
    ]
    return f"{type(action).__name__}({', '.join(values)})"


def default() -> tuple[Action, ...]:
    """Multiplicative steps both ways, small and large, and none."""
    return (Decay(0.5), Decay(0.8), Hold(), Raise(1.25), Raise(2.0))
