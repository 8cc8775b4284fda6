"""weights → state: what an agent sees of a training.

An observation is anything with the two methods of `Observation`; `WeightStatistics`,
`LearningRate` and `TrainingState` are the ones that come with the package.
"""

from keras_qan.observations.base import (
    CurrentLearningRate,
    Observation,
    ObservationContext,
    TrainingState,
    WeightStatistics,
    default,
)
from keras_qan.observations.dynamics import NUM_MOTIONS, Generalisation, TrainingDynamics, motion
from keras_qan.observations.layers import watched_kernels

__all__ = [
    "NUM_MOTIONS",
    "CurrentLearningRate",
    "Generalisation",
    "Observation",
    "ObservationContext",
    "TrainingDynamics",
    "TrainingState",
    "WeightStatistics",
    "default",
    "motion",
    "watched_kernels",
]
