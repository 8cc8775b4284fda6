"""Hypergradients: thousands of continuous hyperparameters tuned by descent.

`Tuner` trains a Keras model, walks the training backward in memory that does not depend on its
length, and moves every hyperparameter down the validation loss. `search_then_descend` finds the few
averages with Optuna first.
"""

# ruff: noqa: E402  (what is needed is said before the imports that need it)

from typing import TYPE_CHECKING

from keras_qan.utils.backend import require_tensorflow

require_tensorflow("keras_qan.drmad")

from keras_qan.drmad.hyperparameters import (
    L1,
    L2,
    Hyperparameter,
    InitialScale,
    LabelSmoothing,
    LearningRate,
    LossWeights,
    Momentum,
)
from keras_qan.drmad.inner_loop import DivergedError, Training
from keras_qan.drmad.methods import Check, Drmad, Exact, Implicit
from keras_qan.drmad.outer_loop import OuterOptimizer
from keras_qan.drmad.search import search_then_descend
from keras_qan.drmad.tuner import Tuner
from keras_qan.utils.deprecation import moved_names

if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__, {"Outer": "OuterOptimizer"})

__all__ = [
    "L1",
    "L2",
    "Check",
    "DivergedError",
    "Drmad",
    "Exact",
    "Hyperparameter",
    "Implicit",
    "InitialScale",
    "LabelSmoothing",
    "LearningRate",
    "LossWeights",
    "Momentum",
    "OuterOptimizer",
    "Training",
    "Tuner",
    "search_then_descend",
]
