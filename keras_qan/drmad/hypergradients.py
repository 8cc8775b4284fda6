"""One training and the derivative of its validation loss by the raw numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_qan.drmad.methods import Method
from keras_qan.drmad.training import DivergedError, Moment, Runs


@dataclass(frozen=True, eq=False)
class Hypergradient:
    """What a training and its reverse found.

    Args:
      gradients: float64 arrays by the raw numbers, one for each hyperparameter.
      val_loss: after the training.
      start: the training before its first step.
      end: after its last.
      reached: the step that the reverse pass came back to; above 0 where it was ended early.
    """

    gradients: list[np.ndarray]
    val_loss: float
    start: Moment
    end: Moment
    reached: int


def hypergradient(runs: Runs, raws: list[np.ndarray], method: Method) -> Hypergradient:
    """Trains with these raw numbers and walks the training backward.

    Raises:
      DivergedError: the training or the walk ended in what is not a number.
    """
    values = runs.values(raws)
    moments = runs.through(values, method.stops(runs.steps))
    val_loss = runs.validation_loss(moments[-1])
    found = runs.raw_gradient(raws, method.by_value(runs, values, moments))
    if not all(np.isfinite(gradient).all() for gradient in found):
        raise DivergedError(
            f"The hypergradient by {method.name} is not finite: the reverse pass diverged."
        )
    return Hypergradient(found, val_loss, moments[0], moments[-1], runs.reached)
