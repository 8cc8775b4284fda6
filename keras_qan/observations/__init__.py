"""weights → state: the observations that make up the agent's state.

Subclass `Observation` for one of your own; the ones here come with the package.
"""

from typing import TYPE_CHECKING

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
    SlopeDynamics,
    TrainingDynamics,
    motion_numbers,
)
from keras_qan.observations.layers import watched_kernels
from keras_qan.observations.slope import SlopeObservation, SlopeState
from keras_qan.utils.deprecation import moved_names

__all__ = [
    "NUM_MOTIONS",
    "CurrentLearningRate",
    "Generalisation",
    "Observation",
    "ObservationContext",
    "SlopeDynamics",
    "SlopeObservation",
    "SlopeState",
    "TrainingDynamics",
    "TrainingState",
    "WeightStatistics",
    "default",
    "motion_numbers",
    "watched_kernels",
]

if not TYPE_CHECKING:
    __getattr__ = moved_names(
        __name__, {"LearningRate": "CurrentLearningRate", "Situation": "ObservationContext"}
    )
