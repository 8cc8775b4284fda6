"""weights → state: what an agent sees of a training.

An observation is anything with the two methods of `Observation`; `WeightStatistics`,
`LearningRate` and `TrainingState` are the ones that come with the package.
"""

from keras_qan.observations.dynamics import (
    NUM_MOTIONS,
    Generalisation,
    TrainingDynamics,
    motion,
)
from keras_qan.observations.state import (
    LearningRate,
    Observation,
    Situation,
    TrainingState,
    WeightStatistics,
    default,
)
from keras_qan.observations.watching import watched_kernels

__all__ = [
    "NUM_MOTIONS",
    "Generalisation",
    "LearningRate",
    "Observation",
    "Situation",
    "TrainingDynamics",
    "TrainingState",
    "WeightStatistics",
    "default",
    "motion",
    "watched_kernels",
]
