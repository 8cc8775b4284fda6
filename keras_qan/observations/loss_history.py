"""What is remembered of a training's losses and rates from one decision to the next.

All functions work element by element, on one training (`[]`) as on a population of them (`[P]`).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

#: log(loss / first loss) is kept within these bounds: the upper one is also what a loss that is not
#: a number counts as, so that the penalty for divergence is bounded.
LOG_LOSS_BOUNDS = (-25.0, 2.0)

#: ln(rate) of a ceiling that was never met.
NO_CEILING = 20.0


class LossHistory(NamedTuple):
    """Losses and rates so far; all tensors float32 of one shape, logarithms natural.

    Attributes:
      now: log(loss / first loss) of the last interval.
      before: that of the interval before.
      earlier: that of the one before that.
      best: the lowest so far.
      ceiling: the log of the lowest rate that was stepped back from, or `NO_CEILING`.
      step_backs: how often the training was set back.
      last_change: log(rate / rate before) of the last decision.
      was_set_back: 1 where the last decision set the training back, else 0.
      validated: 1 once a validation loss was reported, 0 before.
      validation: log(validation loss / first loss) of the last report; 0 before any.
      validation_before: that of the report before.
      validation_best: the lowest so far.
    """

    now: tf.Tensor
    before: tf.Tensor
    earlier: tf.Tensor
    best: tf.Tensor
    ceiling: tf.Tensor
    step_backs: tf.Tensor
    last_change: tf.Tensor
    was_set_back: tf.Tensor
    validated: tf.Tensor
    validation: tf.Tensor
    validation_before: tf.Tensor
    validation_best: tf.Tensor


def start(shape: tuple[int, ...] = ()) -> LossHistory:
    """A training that has not begun."""
    zeros = tf.zeros(shape)
    return LossHistory(*[zeros] * len(LossHistory._fields))._replace(ceiling=zeros + NO_CEILING)


def relative_log(loss: tf.Tensor, first_loss: tf.Tensor) -> tf.Tensor:
    """log(loss / first loss) within LOG_LOSS_BOUNDS; the upper one for what is no number."""
    low, high = LOG_LOSS_BOUNDS
    ratio = tf.maximum(loss / first_loss, 1e-30)
    log_ratio = tf.clip_by_value(tf.math.log(ratio), low, high)
    return tf.where(tf.math.is_finite(loss), log_ratio, high)


def with_loss(track: LossHistory, log_loss: tf.Tensor) -> LossHistory:
    """The track after an interval of that loss."""
    return track._replace(
        now=log_loss,
        before=track.now,
        earlier=track.before,
        best=tf.minimum(track.best, log_loss),
    )


def with_validation(track: LossHistory, log_loss: tf.Tensor) -> LossHistory:
    """The track after a validation of that loss."""
    is_first = track.validated < 0.5
    return track._replace(
        validated=tf.ones_like(track.validated),
        validation=log_loss,
        validation_before=tf.where(is_first, log_loss, track.validation),
        validation_best=tf.where(is_first, log_loss, tf.minimum(track.validation_best, log_loss)),
    )


def has_jumped(track: LossHistory) -> tf.Tensor:
    """Whether the loss is above the first one and above twice the best one, bool.

    Both are needed: a low loss may double by the noise of its batches, and a first loss may be
    low by luck.
    """
    return (track.now > 0.0) & (track.now > track.best + tf.math.log(2.0))


def is_copy_bad(track: LossHistory) -> tf.Tensor:
    """Whether the loss has jumped again right after a step back, bool.

    A copy is taken after the steps whose mean loss was the lowest, and the last of them may have
    led astray already: then it is no use to step back to it again.
    """
    return has_jumped(track) & (track.was_set_back > 0.5)


def with_copy_of_start(track: LossHistory, condition: tf.Tensor) -> LossHistory:
    """The track of a training whose copy is of its beginning, where the condition holds."""
    return track._replace(best=tf.where(condition, tf.zeros_like(track.best), track.best))


def with_rate(
    track: LossHistory, rate_before: tf.Tensor, rate: tf.Tensor, steps_back: tf.Tensor
) -> LossHistory:
    """The track after a decision.

    Args:
      track: the track before.
      rate_before: the learning rate that the decision found, above 0.
      rate: the one that it left.
      steps_back: whether it set the training back, bool.
    """
    log_before = tf.math.log(tf.maximum(rate_before, 1e-30))
    log_rate = tf.math.log(tf.maximum(rate, 1e-30))
    lowered = tf.minimum(track.ceiling, log_before)
    return track._replace(
        ceiling=tf.where(steps_back, lowered, track.ceiling),
        step_backs=track.step_backs + tf.cast(steps_back, tf.float32),
        last_change=log_rate - log_before,
        # At the lowest loss there is nothing to set back; only the rate falls.
        was_set_back=tf.cast(steps_back & (track.now > track.best), tf.float32),
        # What the loss was before it was set back says nothing of the weights there are now.
        now=tf.where(steps_back, track.best, track.now),
        before=tf.where(steps_back, track.best, track.before),
    )
