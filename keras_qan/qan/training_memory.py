"""The memory of the last `fit`: do several short ones of a model make one training?"""

from __future__ import annotations

import weakref
from typing import Any

import keras
import numpy as np

from keras_qan.qan.model_access import optimizer_parts, read_number


class TrainingMemory:
    """Recognises a `fit` that goes on where the last one ended, and remembers its rates."""

    def __init__(self) -> None:
        self._optimizer: Any = None
        self._steps = -1.0
        self._rates: np.ndarray | None = None

    def remember(self, model: keras.Model, rates: np.ndarray) -> None:
        """Remember the end of a `fit`.

        Args:
          model: the model that was trained.
          rates: the learning rates to hold, `[K]`.
        """
        self._optimizer = weakref.ref(model.optimizer)
        self._steps, self._rates = _steps_of(model), rates

    def rates_of(self, model: keras.Model) -> np.ndarray | None:
        """Return the remembered rates where the model goes on; None for any other."""
        if self._optimizer is None or self._optimizer() is not model.optimizer:
            return None
        return self._rates if _steps_of(model) == self._steps else None


def _steps_of(model: keras.Model) -> float:
    return sum(read_number(part._iterations) for part in optimizer_parts(model))
