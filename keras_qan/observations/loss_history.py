"""The losses and rates of a training, from one decision to the next: pure functions of arrays.

All of them work element by element, on one training (`[]`) as on a population of them (`[P]`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

#: log(loss / first loss) is kept within these bounds: the upper one is also what a non-finite loss
#: counts as, so that the penalty for divergence is bounded.
LOG_LOSS_BOUNDS = (-25.0, 2.0)

#: ln(rate) of a ceiling that was never met.
NO_CEILING = 20.0


class LossHistory(NamedTuple):
    """Losses and rates so far; floats of one shape, natural logarithms.

    Attributes:
      now: log(loss / first loss) of the last interval.
      before: that of the interval before.
      earlier: that of the one before that.
      best: the lowest so far.
      ceiling: the log of the lowest rate that was stepped back from, or `NO_CEILING`.
      step_backs: the number of roll-backs so far.
      last_change: log(rate / rate before) of the last decision.
      was_set_back: 1 where the last decision rolled the training back, else 0.
      validated: 1 once a validation loss was reported, 0 before.
      validation: log(validation loss / first loss) of the last report; 0 before any.
      validation_before: that of the report before.
      validation_best: the lowest so far.
    """

    now: Any
    before: Any
    earlier: Any
    best: Any
    ceiling: Any
    step_backs: Any
    last_change: Any
    was_set_back: Any
    validated: Any
    validation: Any
    validation_before: Any
    validation_best: Any


def start_history(shape: tuple[int, ...] = ()) -> LossHistory:
    """Return the history of a training that has not begun."""
    zeros = np.zeros(shape)
    return LossHistory(*[zeros] * len(LossHistory._fields))._replace(ceiling=zeros + NO_CEILING)


def relative_log(loss: Any, first_loss: Any) -> Any:
    """Return log(loss / first loss) within LOG_LOSS_BOUNDS; the upper bound where non-finite."""
    loss = np.asarray(loss, np.float64)
    is_finite = np.isfinite(loss)
    ratio = np.maximum(np.where(is_finite, loss, 1.0) / first_loss, 1e-30)
    return np.where(is_finite, np.clip(np.log(ratio), *LOG_LOSS_BOUNDS), LOG_LOSS_BOUNDS[1])


def with_loss(history: LossHistory, log_loss: Any) -> LossHistory:
    """Return the history after an interval of that loss."""
    return history._replace(
        now=log_loss,
        before=history.now,
        earlier=history.before,
        best=np.minimum(history.best, log_loss),
    )


def with_validation(history: LossHistory, log_loss: Any) -> LossHistory:
    """Return the history after a validation of that loss."""
    is_first = np.asarray(history.validated) < 0.5
    best = np.minimum(history.validation_best, log_loss)
    return history._replace(
        validated=np.ones_like(history.validated),
        validation=log_loss,
        validation_before=np.where(is_first, log_loss, history.validation),
        validation_best=np.where(is_first, log_loss, best),
    )


def has_jumped(history: LossHistory) -> Any:
    """Return whether the loss is above the first one and above twice the best one, bool.

    Both are needed: a low loss may double by the noise of its batches, and a first loss may be
    low by luck.
    """
    now = np.asarray(history.now)
    return (now > 0.0) & (now > history.best + math.log(2.0))


def is_copy_bad(history: LossHistory) -> Any:
    """Return whether the loss has jumped again right after a step back, bool.

    A snapshot is taken after the steps whose mean loss was the lowest, and the last of them may
    have led astray already: then it is no use to step back to it again.
    """
    return has_jumped(history) & (np.asarray(history.was_set_back) > 0.5)


def with_copy_of_start(history: LossHistory, condition: Any) -> LossHistory:
    """Return the history with the start as snapshot, where the condition holds."""
    return history._replace(best=np.where(condition, 0.0, history.best))


def from_here(history: LossHistory) -> LossHistory:
    """Return the history of a training whose losses so far are of other data."""
    return history._replace(
        best=history.now, ceiling=np.zeros_like(history.ceiling) + NO_CEILING, was_set_back=0.0
    )


def with_rate(history: LossHistory, rate_before: Any, rate: Any, steps_back: Any) -> LossHistory:
    """Return the history after a decision.

    Args:
      history: the one before.
      rate_before: the learning rate that the decision found, above 0.
      rate: the one that it left.
      steps_back: whether it rolled the training back, bool.
    """
    log_before = np.log(np.maximum(rate_before, 1e-30))
    log_rate = np.log(np.maximum(rate, 1e-30))
    lowered = np.minimum(history.ceiling, log_before)
    steps_back = np.asarray(steps_back)
    return history._replace(
        ceiling=np.where(steps_back, lowered, history.ceiling),
        step_backs=history.step_backs + steps_back,
        last_change=log_rate - log_before,
        # At the lowest loss there is nothing to roll back; only the rate falls.
        was_set_back=1.0 * (steps_back & (np.asarray(history.now) > history.best)),
        # The loss before a roll-back does not belong to the restored weights.
        now=np.where(steps_back, history.best, history.now),
        before=np.where(steps_back, history.best, history.before),
    )
