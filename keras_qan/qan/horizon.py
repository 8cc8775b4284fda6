"""The end of a training that stops early: its rate falls by the losses, not by `epochs`."""

from __future__ import annotations

import math
from typing import Any

from keras_qan.actions import Cosine
from keras_qan.qan.conflicts import class_names

#: The share of `EarlyStopping`'s patience without a lower loss after which the fall begins.
WAIT = 0.4

#: The length of the fall, as a share of the patience.
FALL = 0.5


class EarlyEnd:
    """The fall of the rate in a `fit` that `EarlyStopping` will end before its last epoch.

    Its rate does not fall by the calendar of `epochs`, which will not be reached: it falls to zero
    along a cosine over half of the patience, once the loss has not improved for two fifths of it.
    The fall begins from the weights of the lowest validation loss.

    Args:
      patience: of the `EarlyStopping` callback, in epochs.
    """

    def __init__(self, patience: int) -> None:
        self._wait = max(1, round(WAIT * patience))
        self._length = max(1, round(FALL * patience))
        self._best = math.inf
        self._is_validated = False
        self._epochs_without = 0
        self._epochs_falling = 0

    @property
    def falls_from_here(self) -> bool:
        """True right after the epoch with which the fall begins."""
        return self._epochs_falling == 1

    def end_epoch(self, training_loss: float | None, validation_loss: float | None) -> float:
        """Return the share of the rate for the next epoch.

        Args:
          training_loss: the epoch's, which counts while there was no validation.
          validation_loss: the epoch's; None where it was not validated.
        """
        loss = validation_loss
        if validation_loss is not None and not self._is_validated:
            self._is_validated, self._best = True, math.inf
        elif not self._is_validated:
            loss = training_loss
        if self._epochs_falling:
            self._epochs_falling += 1
        else:
            self._epochs_without += 1
            if loss is not None and loss < self._best:
                self._epochs_without, self._best = 0, loss
            self._epochs_falling = int(self._epochs_without >= self._wait)
        progress = min(self._epochs_falling / (self._length + 1), 1.0)
        return max(float(Cosine()(progress)), 1e-3)


def patience_of(callbacks: list[Any]) -> int | None:
    """Return the patience of the `EarlyStopping` among the callbacks of a `fit`; None without."""
    for callback in callbacks:
        if "EarlyStopping" in class_names(callback):
            return int(callback.patience)
    return None
