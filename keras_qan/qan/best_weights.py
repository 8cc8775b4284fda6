"""The weights of the best validation loss, kept where they are."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_qan.qan.variables import copy_of, synchronize, value_of
from keras_qan.utils.backend import without_gradients


class BestWeights:
    """Keeps the weights of the lowest validation loss of a `fit`, moving statistics included.

    Args:
      model: the model in training.

    Attributes:
      loss: the lowest validation loss so far; infinite before the first.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._copies: list[Any] = []
        self.loss = math.inf

    def note(self, loss: float) -> None:
        """Keep the present weights where a validation loss is the lowest so far."""
        if not loss < self.loss:
            return
        synchronize(self._model)
        self.loss = loss
        with without_gradients():
            self._copies = [copy_of(value_of(weight)) for weight in self._model.weights]

    def restore(self) -> bool:
        """Assign the weights that were kept; return whether any were."""
        synchronize(self._model)
        for weight, value in zip(self._model.weights, self._copies, strict=False):
            weight.assign(copy_of(value))  # JAX donates what it is given
        return bool(self._copies)
