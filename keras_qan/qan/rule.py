"""The rule of a decision, as pure functions of arrays: for one training and for a population.

A decision is told the losses, and says which rate follows, and whether weights are rolled back.
`Controller` applies it to one model, `pretraining.batched_control` to a population of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_qan.actions import Action, ActionSet, Option, OptionContext, Schedule
from keras_qan.observations import loss_history
from keras_qan.observations.loss_history import LossHistory

#: The share of the peak rate below which a schedule never falls: the next decision divides by it.
SMALLEST_SHARE = 1e-6


class Decision(NamedTuple):
    """One decision, as it is logged.

    Attributes:
      action: the chosen action's index.
      rate: the learning rate that was assigned (the first optimizer's).
      rate_found: the learning rate before.
      reward: the reward of the last decision; not-a-number at the first.
      loss: the mean training loss since the decision before; not-a-number at the first.
      epsilon: the probability of a random action.
      td_loss: the agent's loss; not-a-number where it learned nothing.
      q_values: the estimated value of each action, `[A]`.
      has_stepped_back: whether earlier weights were restored. Defaults to False.
      has_begun_again: whether the training begins again, since the first steps were far too long,
        which are then taken back, or far too short. Defaults to False.
      slope: the slope ratio and its standard error; None where it is not measured.
      option_decision: its number among the decisions of the option that is under way, from 1; None
        where the action is no option.
    """

    action: int
    rate: float
    rate_found: float
    reward: float
    loss: float
    epsilon: float
    td_loss: float
    q_values: list[float]
    has_stepped_back: bool = False
    has_begun_again: bool = False
    slope: tuple[float, float] | None = None
    option_decision: int | None = None


class DecisionContext(NamedTuple):
    """The point of a training at which a decision is taken.

    Attributes:
      progress: the share of the training's steps that are done, in [0, 1].
      num_decisions: the number of decisions in the episode, as far as is known.
      num_steps: the number of steps in the training, as far as is known.
      interval: steps to the next decision.
      taken: steps since the last decision.
    """

    progress: float
    num_decisions: int
    num_steps: int
    interval: int
    taken: int


class RateState(NamedTuple):
    """The rates and losses that a decision starts from; `[K]` rates of one training, or `[P]`.

    Attributes:
      rates: the present learning rates, before a schedule's share.
      kept_rates: those that led to the snapshot.
      initial_rates: those that the training began with.
      history: the losses so far, `[]` or `[P]`.
    """

    rates: Any
    kept_rates: Any
    initial_rates: Any
    history: LossHistory


class Limits(NamedTuple):
    """The limits of a decision.

    Attributes:
      may_step_back: whether a step back is allowed, bool `[]` or `[P]`. Defaults to True.
      must_step_back: whether it is taken in the place of any other action, as where the loss has
        jumped. Defaults to False.
      instead: the action that takes the place of a step back that is not allowed, of one
        training. Defaults to None.
      may_raise: whether the rate may rise. Defaults to True.
      may_lower: whether the rate may fall but by a step back. Defaults to True.
      highest_rate: the rates up to which it may rise all the same, `[K]`. Defaults to 0.
      largest_rate: the highest rates of all, to which higher ones fall, `[K]`. Defaults to none.
      lowest_rate: the lowest rates that a step back leads to, `[K]`. Defaults to 0.
      lowest_decayed: the lowest rates that other actions lead to, `[K]`. Defaults to 0.
    """

    may_step_back: Any = True
    must_step_back: bool = False
    instead: int | None = None
    may_raise: bool = True
    may_lower: bool = True
    highest_rate: Any = 0.0
    largest_rate: Any = np.inf
    lowest_rate: Any = 0.0
    lowest_decayed: Any = 0.0


NO_LIMITS = Limits()


class Effect(NamedTuple):
    """The consequences of an action; booleans are `[]`, or `[P]` for a population.

    Attributes:
      action: the action that is taken: the step back where the loss has jumped.
      state: rates and losses after it.
      forgets: whether the snapshot is bad, and its weights are those of the training's start.
      keeps: whether the present weights are the best so far and become the snapshot.
      restores: whether the snapshot is restored.
    """

    action: Any
    state: RateState
    forgets: Any
    keeps: Any
    restores: Any


def apply_action(
    actions: ActionSet, action: Any, state: RateState, progress: float, limits: Limits = NO_LIMITS
) -> Effect:
    """Return the effect of an action.

    Where the loss has jumped, the step back is taken in its place, if the set has one. A step back
    that is not allowed gives way to `limits.instead`, or else holds the rate.

    Args:
      actions: the actions to choose from.
      action: the agent's choice, an integer `[]` or `[P]`.
      state: the rates and losses before the decision.
      progress: the share of the training's steps that are done.
      limits: the limits of the decision. Defaults to none.
    """
    rates, kept_rates, initial_rates, history = state
    jumped = loss_history.has_jumped(history) | limits.must_step_back
    jumped &= limits.may_step_back
    action = actions.with_step_back_forced(action, jumped)
    if limits.instead is not None:
        action = np.asarray(limits.instead)
    is_refused = actions.is_step_back(action) & ~np.asarray(limits.may_step_back)
    steps_back = actions.is_step_back(action) & limits.may_step_back
    led_here = np.where(history.now <= history.best, rates, kept_rates)
    chosen = actions.next_rates(action, rates, led_here, initial_rates, progress)
    chosen = np.where(is_refused, rates, chosen)
    lowest = np.where(steps_back, limits.lowest_rate, limits.lowest_decayed)
    chosen = np.maximum(chosen, np.minimum(lowest, rates))
    if not limits.may_raise:
        chosen = np.minimum(chosen, np.maximum(rates, limits.highest_rate))
    if not limits.may_lower:
        chosen = np.where(steps_back, chosen, np.maximum(chosen, rates))
    chosen = np.minimum(chosen, limits.largest_rate)
    if not actions.can_step_back:
        no = np.zeros(np.shape(history.now), bool)
        after = loss_history.with_rate(history, _first(rates, history), _first(chosen, history), no)
        return Effect(action, RateState(chosen, kept_rates, initial_rates, after), no, no, no)
    forgets = loss_history.is_copy_bad(history) & limits.may_step_back
    history = loss_history.with_copy_of_start(history, forgets)
    keeps = history.now <= history.best
    after = loss_history.with_rate(
        history, _first(rates, history), _first(chosen, history), steps_back
    )
    kept_rates = np.where(steps_back, chosen, led_here)
    state = RateState(chosen, kept_rates, initial_rates, after)
    return Effect(action, state, forgets, keeps, steps_back & ~keeps)


def _first(rates: Any, history: LossHistory) -> Any:
    """Return the rate that the history follows: the first of one training, all of a population."""
    return rates if np.ndim(history.now) else rates[0]


def option_context(state: RateState, context: DecisionContext) -> OptionContext:
    """Return a decision as the first one of an option.

    Args:
      state: the rates and losses before it, of one training or of a population of one.
      context: the point of the training.
    """
    history = state.history
    numbers = (history.now, history.before, history.last_change)
    now, before, last_change = (float(np.ravel(number)[0]) for number in numbers)
    return OptionContext(
        rate=state.rates,
        start_rate=state.rates,
        initial_rate=state.initial_rates,
        progress=context.progress,
        start_progress=context.progress,
        interval=context.interval / context.num_steps,
        log_loss=now,
        log_loss_before=before,
        last_change=last_change,
    )


def option_under_way(
    action: Action, start: OptionContext, state: RateState, context: DecisionContext
) -> OptionContext | None:
    """Return the point that an option has come to, or None where it is over.

    An action that is no option is over at the next decision, and so is an option where the loss has
    jumped.

    Args:
      action: what was chosen last.
      start: the point at which it was, with the decisions taken since.
      state: the rates and losses before the decision that is due.
      context: the point of the training.
    """
    if not isinstance(action, Option) or np.any(loss_history.has_jumped(state.history)):
        return None
    reached = option_context(state, context).since(start)
    return None if action.is_over(reached) else reached


def schedule_share(schedule: Schedule | None, context: DecisionContext) -> float:
    """Return a schedule's share at the middle of the interval that follows.

    A training that is shorter than the interval has that of its own middle.
    """
    if schedule is None:
        return 1.0
    middle = context.progress + 0.5 * min(context.interval / context.num_steps, 1.0)
    return max(float(schedule(min(middle, 1.0))), SMALLEST_SHARE)
