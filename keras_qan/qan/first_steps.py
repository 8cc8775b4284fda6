"""Tells whether the first steps of a training were far too long."""

from __future__ import annotations

import keras

from keras_qan.qan.raise_gate import CLEAR
from keras_qan.qan.slope_ratio import SlopeEstimate
from keras_qan.qan.variables import optimizer_parts

#: The length of a training's first updates, relative to the weights, above which the rate may be
#: far too high: at Keras's default rates it is 0.001 to 0.02.
LONG_STEP = 0.03

#: Standard errors below zero at which such steps lead uphill, and log(loss / first loss) above
#: which they have taught next to nothing.
UPHILL, NOTHING_LEARNED = 1.5, -0.15


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
        if self._begins_long or not found.relative_step > LONG_STEP:
            return False
        if found.is_known and found.ratio < -UPHILL * found.error:
            return True
        is_clear = found.is_known and found.ratio > CLEAR * found.error
        return log_loss > NOTHING_LEARNED and not is_clear
