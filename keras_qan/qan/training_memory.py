"""The memory of each model's last `fit`: is it one training with the next, or was it broken off?"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_qan.qan.variables import (
    are_same_rates,
    assign_rates,
    optimizer_parts,
    rate_variables,
    read_number,
    read_rates,
    value_of,
)

#: The end of each optimizer's last `fit`, whichever callback steered it; forgotten with it.
_ENDS: weakref.WeakKeyDictionary[Any, FitEnd] = weakref.WeakKeyDictionary()

#: The learning rates, `[K]`, that each optimizer's running `fit` began with, and those that it
#: assigned last. They are left here where it is broken off: Keras has no hook for that.
_RUNNING: weakref.WeakKeyDictionary[Any, tuple[np.ndarray, np.ndarray]] = (
    weakref.WeakKeyDictionary()
)

#: Optimizers of trainings whose loss is not positive: they are not steered, and that was told.
LEFT_ALONE: weakref.WeakSet[Any] = weakref.WeakSet()


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
    if end is None or not are_same_rates(end.rates_left, rates):
        return None
    goes_on = _steps_of(model) == end.steps and _mark_of(model) == end.weights
    return end.rates_to_hold if goes_on else None


def note_rates(model: keras.Model, assigned: np.ndarray, began: np.ndarray | None = None) -> None:
    """Note the rates of a running `fit`, in case it is broken off.

    Args:
      model: the model.
      assigned: the learning rates that were assigned, `[K]`.
      began: those that the `fit` began with, `[K]`. Defaults to those that are known; without any,
        nothing is noted.
    """
    began = _RUNNING.get(model.optimizer, (None,))[0] if began is None else began
    if began is not None:
        _RUNNING[model.optimizer] = began, assigned


def forget_rates(model: keras.Model) -> None:
    """Forget the rates of a `fit` that is over."""
    _RUNNING.pop(model.optimizer, None)


def rates_to_begin_with(model: keras.Model) -> np.ndarray:
    """Return a model's learning rates, `[K]`, after those before a broken `fit` were put back.

    They are not put back where somebody has set the rate since.
    """
    variables = rate_variables(model)
    rates = read_rates(variables)
    began, assigned = _RUNNING.pop(model.optimizer, (rates, rates))
    if not are_same_rates(assigned, rates):
        return rates
    assign_rates(variables, began)
    return began


def _steps_of(model: keras.Model) -> float:
    return sum(read_number(part._iterations) for part in optimizer_parts(model))


def _mark_of(model: keras.Model) -> tuple[float, float]:
    if not model.trainable_variables:
        return 0.0, 0.0
    values = np.asarray(keras.ops.convert_to_numpy(value_of(model.trainable_variables[0])), float)
    return float(values.sum()), float((values**2).sum())
