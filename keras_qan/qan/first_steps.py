"""Tells whether the first steps of a training were far too long, or far too short."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_qan.qan.raise_gate import CLEAR
from keras_qan.qan.slope_ratio import SlopeEstimate
from keras_qan.qan.variables import optimizer_parts

#: The length of a training's first updates, relative to the weights, above which the rate may be
#: far too high: at Keras's default rates it is 0.001 to 0.02.
LONG_STEP = 0.03

#: Standard errors below zero at which such steps lead uphill, and log(loss / first loss) above
#: which they have taught next to nothing.
UPHILL, NOTHING_LEARNED = 1.5, -0.15

#: The factor of the rate of a training that begins again.
BEGIN_AGAIN_FACTOR = 0.1

#: The length of first updates, relative to the weights, that ten thousand steps like them would not
#: teach much by, and the length that they are given instead.
SHORT_STEP, LEAST_STEP = 1e-5, 3e-4


class FirstSteps:
    """Says whether the first steps of a training were far too long, or far too short.

    Too long they were where an update is long beside the weights, and the loss either rises at its
    end or has hardly fallen. Of RMSprop and Adagrad that is not said: their slots begin at zero
    without a correction, so that the first updates are the longest. Too short they were where an
    update is next to nothing beside the weights, and the loss clearly falls at its end.

    Args:
      model: the compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        long_first = (keras.optimizers.RMSprop, keras.optimizers.Adagrad)
        self._begins_long = any(isinstance(part, long_first) for part in optimizer_parts(model))

    def factor(self, found: SlopeEstimate, log_loss: float) -> float:
        """Return the factor of the rate with which the training begins again.

        Args:
          found: the slope ratio of these steps.
          log_loss: log(their mean loss / first loss).

        Returns:
          `BEGIN_AGAIN_FACTOR` where they were far too long, more than 1 where they were far too
          short, else 1.
        """
        if not self._begins_long and were_far_too_long(found, log_loss):
            return BEGIN_AGAIN_FACTOR
        return float(factor_of_short_steps(found))


def were_far_too_long(found: Any, log_loss: Any) -> Any:
    """Return whether steps were far too long, for one training or for each of a population.

    Args:
      found: the slope ratio of these steps; a `SlopeEstimate`, or its fields as arrays `[P]`.
      log_loss: log(their mean loss / first loss), a number or `[P]`.

    Returns:
      A bool, or `[P]`.
    """
    is_uphill = np.logical_and(found.is_known, found.ratio < -UPHILL * found.error)
    is_clear = np.logical_and(found.is_known, found.ratio > CLEAR * found.error)
    taught_nothing = np.logical_and(log_loss > NOTHING_LEARNED, ~is_clear)
    return np.logical_and(found.relative_step > LONG_STEP, is_uphill | taught_nothing)


def factor_of_short_steps(found: Any) -> Any:
    """Return the factor that makes up for steps that were far too short, 1 for others.

    Args:
      found: the slope ratio of these steps; a `SlopeEstimate`, or its fields as arrays `[P]`.

    Returns:
      A number of 1 or more, or `[P]`.
    """
    is_clear = np.logical_and(found.is_known, found.ratio > CLEAR * found.error)
    is_short = np.logical_and(found.relative_step > 0.0, found.relative_step < SHORT_STEP)
    with np.errstate(all="ignore"):
        factor = LEAST_STEP / np.asarray(found.relative_step)
    return np.where(np.logical_and(is_clear, is_short), factor, 1.0)
