"""weights → state: the observations that make up the agent's state.

Subclass `Observation` for one of your own; the ones here come with the package.
"""

from keras_qan.observations.base import (
    CurrentLearningRate,
    Observation,
    ObservationContext,
    TrainingState,
    WeightStatistics,
    default,
)
from keras_qan.observations.dynamics import (
    NUM_MOTIONS,
    Generalisation,
    TrainingDynamics,
    motion_numbers,
)
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
    "motion_numbers",
    "watched_kernels",
]
