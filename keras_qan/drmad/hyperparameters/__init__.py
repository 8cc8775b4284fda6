"""Hyperparameters that can be tuned, one class for each kind."""

from keras_qan.drmad.hyperparameters.base import Hyperparameter
from keras_qan.drmad.hyperparameters.initialization import InitialScale
from keras_qan.drmad.hyperparameters.labels import LabelSmoothing, LossWeights
from keras_qan.drmad.hyperparameters.optimizer import LearningRate, Momentum
from keras_qan.drmad.hyperparameters.penalties import L1, L2

__all__ = [
    "L1",
    "L2",
    "Hyperparameter",
    "InitialScale",
    "LabelSmoothing",
    "LearningRate",
    "LossWeights",
    "Momentum",
]
