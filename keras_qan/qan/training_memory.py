"""The memory of the last `fit` of each model: do several short ones make one training?"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_qan.qan.variables import optimizer_parts, read_number, value_of

#: The end of each optimizer's last `fit`, whichever callback steered it; forgotten with it.
_ENDS: weakref.WeakKeyDictionary[Any, FitEnd] = weakref.WeakKeyDictionary()


class FitEnd(NamedTuple):
    """The end of a `fit`.

    Attributes:
      steps: steps of the optimizer.
      weights: sum and sum of squares of the first trainable weight, by which it is recognised.
      rates_left: the learning rates that the optimizer was left with, `[K]`.
      rates_to_hold: the rates to hold if the training goes on, `[K]`.
    """

    steps: float
    weights: tuple[float, float]
    rates_left: np.ndarray
    rates_to_hold: np.ndarray


def remember_fit(model: keras.Model, rates_left: np.ndarray, rates_to_hold: np.ndarray) -> None:
    """Remember the end of a `fit`.

    Args:
      model: the model that was trained.
      rates_left: the learning rates that its optimizer is left with, `[K]`.
      rates_to_hold: the rates to hold if the training goes on, `[K]`.
    """
    _ENDS[model.optimizer] = FitEnd(_steps_of(model), _mark_of(model), rates_left, rates_to_hold)


def rates_to_go_on_with(model: keras.Model, rates: np.ndarray) -> np.ndarray | None:
    """Return the rates to hold where a model goes on where its last `fit` ended.

    None where it was never steered, or where steps, weights or the rate are others by now: then it
    is another training, or the user has set the rate.

    Args:
      model: the model.
      rates: its present learning rates, `[K]`.
    """
    end = _ENDS.get(model.optimizer)
    if end is None or not np.allclose(end.rates_left, rates, rtol=1e-5):
        return None
    goes_on = _steps_of(model) == end.steps and _mark_of(model) == end.weights
    return end.rates_to_hold if goes_on else None


def _steps_of(model: keras.Model) -> float:
    return sum(read_number(part._iterations) for part in optimizer_parts(model))


def _mark_of(model: keras.Model) -> tuple[float, float]:
    if not model.trainable_variables:
        return 0.0, 0.0
    values = np.asarray(keras.ops.convert_to_numpy(value_of(model.trainable_variables[0])), float)
    return float(values.sum()), float((values**2).sum())
