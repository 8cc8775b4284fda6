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

    Args:
      patience: of the `EarlyStopping` callback, in epochs.
    """

    def __init__(self, patience: int) -> None:
        self._wait = max(1, round(WAIT * patience))
        self._length = max(1, round(FALL * patience))
        self._best = math.inf
        self._epochs_without = 0
        self._epochs_falling = 0

    def end_epoch(self, loss: float | None) -> float:
        """Return the share of the rate for the next epoch.

        Args:
          loss: the epoch's validation loss, or its training loss where there is none.
        """
        if self._epochs_falling:
            self._epochs_falling += 1
        elif loss is not None:
            self._epochs_without = 0 if loss < self._best else self._epochs_without + 1
            self._best = min(self._best, loss)
            self._epochs_falling = int(self._epochs_without >= self._wait)
        progress = min(self._epochs_falling / (self._length + 1), 1.0)
        return max(float(Cosine()(progress)), 1e-3)


def patience_of(callbacks: list[Any]) -> int | None:
    """Return the patience of the `EarlyStopping` among the callbacks of a `fit`; None without."""
    for callback in callbacks:
        if "EarlyStopping" in class_names(callback):
            return int(callback.patience)
    return None
