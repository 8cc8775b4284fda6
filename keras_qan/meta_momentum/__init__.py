"""A pull toward a teacher while a model trains: by weights, by features, or by its answers.

`MetaMomentum` is the callback; a teacher is a model, "previous" for the best student of earlier
trainings, or one of `teachers`; `Pull`, `Features` and `Distillation` are the forms.
"""

# ruff: noqa: E402  (what is needed is said before the imports that need it)

from keras_qan.utils.backend import require_tensorflow

require_tensorflow("keras_qan.meta_momentum")

from keras_qan.meta_momentum.callback import ConstantStrength, LinearFade, MetaMomentum
from keras_qan.meta_momentum.losses import Distillation, Features, Pull
from keras_qan.meta_momentum.teachers import (
    BestStudentTeacher,
    FixedTeacher,
    RandomTeacher,
    Teacher,
)

__all__ = [
    "BestStudentTeacher",
    "ConstantStrength",
    "Distillation",
    "Features",
    "FixedTeacher",
    "LinearFade",
    "MetaMomentum",
    "Pull",
    "RandomTeacher",
    "Teacher",
]
