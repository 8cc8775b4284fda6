"""Actions on the learning rate. They say which rate comes next; only the controller assigns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_qan.actions.base import Action
from keras_qan.actions.options import (
    Anneal,
    Option,
    OptionContext,
    RangeTest,
    TriangularCycle,
    WarmUp,
)
from keras_qan.actions.schedules import Schedule, check_schedule
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check_number


class _Scale(Action):
    """The rate times a factor."""

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:  # noqa: ARG002
        """Return factor · rate."""
        return rate * self.factor


@configurable
class Decay(_Scale):
    """Multiply the learning rate by a factor below one.

    Args:
      factor: in (0, 1). Defaults to the paper's 0.95.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, factor: float = 0.95) -> None:
        hint = "To raise the rate use Raise(factor), to keep it use Hold()."
        self.factor = check_number("Decay's factor", factor, above=0, below=1, hint=hint)


@configurable
class Raise(_Scale):
    """Multiply the learning rate by a factor above one.

    Args:
      factor: above 1. Defaults to 1.25.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, factor: float = 1.25) -> None:
        hint = "To lower the rate use Decay(factor), to keep it use Hold()."
        self.factor = check_number("Raise's factor", factor, above=1, hint=hint)


@configurable
class Hold(Action):
    """Leave the learning rate as it is."""

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:  # noqa: ARG002
        """Return the rate itself."""
        return rate


@configurable
class StepBack(_Scale):
    """Roll the training back to where its loss was lowest, and go on from there more slowly.

    Weights and optimizer slots become those of the decision before which the training loss was
    lowest. It is taken without asking where the loss has jumped (`loss_history.has_jumped`) or is
    non-finite. The steps that led astray remain spent.

    Args:
      factor: in (0, 1); the rate becomes `factor` times the present one, or the one that led to
        the lowest loss where that is less. Defaults to 0.3.

    Raises:
      ValueError: an argument is out of range.
    """

    steps_back = True

    def __init__(self, factor: float = 0.3) -> None:
        hint = "A training that is rolled back goes astray again unless its rate is lower."
        self.factor = check_number("StepBack's factor", factor, above=0, below=1, hint=hint)

    def rate_after_step_back(self, rate: Any, kept_rate: Any) -> Any:
        """Return the lower one of factor · rate and the restored weights' own rate."""
        return np.minimum(rate * self.factor, kept_rate)


@configurable
class Restart(Action):
    """Set the learning rate back (the paper's second action, after Loshchilov & Hutter 2016).

    Args:
      rate: the rate to go back to. Defaults to the one `fit` began with.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, rate: float | None = None) -> None:
        hint = "None stands for the rate that the training began with."
        if rate is not None:
            rate = check_number("Restart's rate", rate, above=0, hint=hint)
        self.rate = rate

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:  # noqa: ARG002
        """Return the initial rate, or the one given."""
        return initial_rate if self.rate is None else np.full_like(rate, self.rate)


@configurable
class Follow(Action):
    """Set the learning rate to what a schedule says at this point of the training.

    Args:
      schedule: a `Schedule`, for example `Cosine()`.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, schedule: Schedule) -> None:
        check_schedule("Follow's schedule", schedule)
        self.schedule = schedule

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:  # noqa: ARG002
        """Return the initial rate times the schedule's share."""
        return initial_rate * self.schedule(progress)


def label(action: Action) -> str:
    """Return the name of an action in logs and figures: `Decay(0.95)`, `Hold()`, `Push(3)`.

    Args:
      action: with or without a configuration.
    """
    config: dict[str, object] = getattr(action, "get_config", dict)()
    values = [
        f"{value:g}" if isinstance(value, int | float) else type(value).__name__
        for value in config.values()
        if isinstance(value, int | float) or callable(value)
    ]
    return f"{type(action).__name__}({', '.join(values)})"


def default() -> tuple[Action, ...]:
    """Return multiplicative steps both ways, small and large, and none."""
    return (Decay(0.5), Decay(0.8), Hold(), Raise(1.25), Raise(2.0))


def hierarchical() -> tuple[Action, ...]:
    """Return one option of each kind, and steps both ways and none between them."""
    return (WarmUp(), RangeTest(), TriangularCycle(), Anneal(), Decay(0.5), Hold(), Raise(2.0))


class _Rate(Action):
    """The rate of an option at one decision, as an action of that decision."""

    def __init__(self, rate: Any) -> None:
        self._rate = rate

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:  # noqa: ARG002
        """Return the option's rate."""
        return self._rate


class ActionSet:
    """The actions that an agent chooses among, for one training and for a population.

    Args:
      actions: A choices.
      rate_bounds: the lowest and the highest learning rate that is ever assigned.

    Attributes:
      step_back: the index of the first action that steps back, or None.
    """

    def __init__(self, actions: Sequence[Action], rate_bounds: tuple[float, float]) -> None:
        self._actions = tuple(actions)
        self._rate_bounds = rate_bounds
        backs = (number for number, action in enumerate(actions) if action.steps_back)
        self.step_back = next(backs, None)
        self._has_options = any(isinstance(action, Option) for action in self._actions)

    def at(
        self, first: OptionContext, under_way: OptionContext | None = None, number: int = 0
    ) -> ActionSet:
        """Return the set at one decision, at which every option is an action of it.

        Args:
          first: the point of the decision, for options that begin at it.
          under_way: the point that the option under way has come to. Defaults to none.
          number: the index of that option. Defaults to 0.
        """
        if not self._has_options:
            return self
        actions = list(self._actions)
        for place, action in enumerate(actions):
            if isinstance(action, Option):
                point = under_way if under_way is not None and place == number else first
                actions[place] = _Rate(action.rate_at(point))
        return ActionSet(actions, self._rate_bounds)

    @property
    def can_step_back(self) -> bool:
        """True where an action can roll a training back."""
        return self.step_back is not None

    def with_step_back_forced(self, action: Any, condition: Any) -> Any:
        """Return the actions, with the step back, if there is one, where the condition holds.

        Args:
          action: numbers of actions, integers `[...]`.
          condition: where to step back, bool of their shape.
        """
        return action if self.step_back is None else np.where(condition, self.step_back, action)

    def factor(self, action: int, rates: Any, initial_rates: Any, progress: float) -> float:
        """Return the next rate over the present one.

        Args:
          action: the index of an action that is no step back.
          rates: the present rates, `[K]`.
          initial_rates: those that the training began with, `[K]`.
          progress: the share of the training's steps that are done.
        """
        following = self._actions[action].next_rate(rates, initial_rates, progress)
        return float(following[0] / rates[0])

    def best_within(
        self,
        values: Any,
        rates: Any,
        initial_rates: Any,
        progress: float,
        largest: float = 1.0,
    ) -> int | None:
        """Return the index of the action to take in the place of one that is not allowed.

        Args:
          values: the actions' values, `[A]`; not-a-number where they are not known.
          rates: the present rates, `[K]`.
          initial_rates: those that the training began with, `[K]`.
          progress: the share of the training's steps that are done.
          largest: the largest factor of the rate that is allowed. Defaults to 1, no raise.

        Returns:
          Of the actions that are no step back and within that factor, the one of the highest
          value; of unknown values, the one of the largest factor. None where there is none.
        """
        best, best_value = None, -np.inf
        for number, (action, value) in enumerate(zip(self._actions, values, strict=True)):
            if action.steps_back:
                continue
            factor = self.factor(number, rates, initial_rates, progress)
            value = factor if np.isnan(value) else float(value)
            if factor <= largest and value > best_value:
                best, best_value = number, value
        return best

    def least_raise(
        self, rates: Any, initial_rates: Any, progress: float, largest: float
    ) -> int | None:
        """Return the index of the action that raises the rate by the least.

        Args:
          rates: the present rates, `[K]`.
          initial_rates: those that the training began with, `[K]`.
          progress: the share of the training's steps that are done.
          largest: the largest factor of the rate that is allowed.

        Returns:
          The action, or None where none raises it within that factor.
        """
        at = rates, initial_rates, progress
        plain = [number for number, action in enumerate(self._actions) if not action.steps_back]
        factors = {number: self.factor(number, *at) for number in plain}
        raises = [number for number in plain if 1.0 < factors[number] <= largest]
        return min(raises, key=factors.__getitem__, default=None)

    def is_step_back(self, action: Any) -> Any:
        """Return whether actions are the step back, bool of their shape.

        Args:
          action: numbers of actions, integers `[...]`.
        """
        return np.asarray(action) == (-1 if self.step_back is None else self.step_back)

    def select(self, action: int) -> None:
        """Let an action that chooses what comes next do so.

        Args:
          action: its number.
        """
        self._actions[action].select()

    def next_rates(
        self, action: Any, rates: Any, kept_rates: Any, initial_rates: Any, progress: float
    ) -> Any:
        """Return the learning rates that actions lead to, within the bounds.

        Args:
          action: indices, an integer `[]` or `[P]`.
          rates: the present rates, `[K]` of one training or `[P]` of a population.
          kept_rates: those of the weights that a step back restores, of the same shape.
          initial_rates: those that the training began with, of the same shape.
          progress: the share of the training's steps that are done.
        """
        outcomes = [
            each.rate_after_step_back(rates, kept_rates)
            if each.steps_back
            else each.next_rate(rates, initial_rates, progress)
            for each in self._actions
        ]
        stacked = np.stack([np.broadcast_to(outcome, np.shape(rates)) for outcome in outcomes])
        chosen = np.broadcast_to(action, np.shape(rates))[np.newaxis]
        outcome = np.take_along_axis(stacked, chosen, axis=0)[0]
        # A rate outside the bounds that is held stays where it is.
        return np.where(outcome == rates, rates, np.clip(outcome, *self._rate_bounds))
