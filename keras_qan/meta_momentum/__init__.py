"""A pull toward a teacher while a model trains: by weights, by features, or by its answers.

`MetaMomentum` is the callback; a teacher is a model, "previous" for the best student of earlier
trainings, or a `Teacher`; `Pull`, `Features` and `Distillation` are the forms.
"""

# ruff: noqa: E402  (what is needed is said before the imports that need it)

from typing import TYPE_CHECKING

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
from keras_qan.utils.deprecation import moved_names

if not TYPE_CHECKING:
    __getattr__ = moved_names(
        __name__,
        {
            "Constant": "ConstantStrength",
            "Given": "FixedTeacher",
            "Linear": "LinearFade",
            "Previous": "BestStudentTeacher",
        },
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
