"""Tells whether the first steps of a training were far too long."""

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


class FirstSteps:
    """Says whether the first steps of a training were far too long.

    They were where an update is long beside the weights, and the loss either rises at its end or
    has hardly fallen. Of RMSprop and Adagrad nothing is said: their slots begin at zero without a
    correction, so that the first updates are the longest.

    Args:
      model: the compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        long_first = (keras.optimizers.RMSprop, keras.optimizers.Adagrad)
        self._begins_long = any(isinstance(part, long_first) for part in optimizer_parts(model))

    def were_too_long(self, found: SlopeEstimate, log_loss: float) -> bool:
        """Return whether they were.

        Args:
          found: the slope ratio of these steps.
          log_loss: log(their mean loss / first loss).
        """
        return not self._begins_long and bool(were_far_too_long(found, log_loss))


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
