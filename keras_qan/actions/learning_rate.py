"""Actions on the learning rate. They say which rate comes next; only the controller assigns it.

What an agent can choose among, and what a choice does to selection and learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf

from keras_qan.actions.schedules import Schedule
from keras_qan.storage.serialization import configurable


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


class ActionSet:
    """The actions of one callback; its methods are called within a compiled function.

    Args:
      actions: what can be chosen.
      rate_bounds: the lowest and the highest learning rate that is ever assigned.

    Attributes:
      step_back: the index of the first `StepBack`, or None.
    """

    def __init__(self, actions: Sequence[Action], rate_bounds: tuple[float, float]) -> None:
        self._actions = actions
        self._rate_bounds = rate_bounds
        self.step_back = next(
            (n for n, action in enumerate(actions) if isinstance(action, StepBack)), None
        )

    def with_step_back_forced(self, action: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
        """The action, or the step back, if there is one, where the condition holds; int64 `[]`."""
        if self.step_back is None:
            return action
        return tf.where(condition, tf.cast(self.step_back, tf.int64), action)

    def is_step_back(self, action: tf.Tensor) -> tf.Tensor:
        """Whether an action is the step back, bool `[]`."""
        return tf.equal(action, -1 if self.step_back is None else self.step_back)

    def select(self, action: tf.Tensor) -> None:
        """Lets an action that chooses what comes next do so."""
        choosing = [getattr(each, "select", None) for each in self._actions]
        if not any(choosing):
            return

        def branch(select: Callable[[], None] | None) -> Callable[[], tf.Tensor]:
            def run() -> tf.Tensor:
                if select is not None:
                    select()
                return tf.constant(True)

            return run

        tf.switch_case(tf.cast(action, tf.int32), [branch(select) for select in choosing])

    def next_rates(
        self,
        action: tf.Tensor,
        rates: tf.Tensor,
        kept_rates: tf.Tensor,
        initial_rates: tf.Tensor,
        progress: tf.Tensor,
    ) -> tf.Tensor:
        """The learning rates that an action leads to, within the bounds, `[K]`.

        Args:
          action: its index, int64 `[]`.
          rates: the present ones, float32 `[K]`.
          kept_rates: those of the weights that a step back goes to, `[K]`.
          initial_rates: those that the training began with, `[K]`.
          progress: the share of the training's steps that are done, `[]`.
        """
        outcomes = [
            each.rate_after(rates, kept_rates)
            if isinstance(each, StepBack)
            else each.next_rate(rates, initial_rates, progress)
            for each in self._actions
        ]
        outcome = tf.gather(tf.stack(outcomes), action)
        low, high = self._rate_bounds
        # Holding a rate that lies outside the bounds is holding it.
        return tf.where(outcome == rates, rates, tf.clip_by_value(outcome, low, high))
