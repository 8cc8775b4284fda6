"""A pull toward a teacher while a model trains: by weights, by features, or by its answers.

`MetaMomentum` is the callback; a teacher is a model, "previous" for the best student of earlier
trainings, or one of `teachers`; `Pull`, `Features` and `Distillation` are the forms.
"""

from keras_qan.meta_momentum.callback import MetaMomentum
from keras_qan.meta_momentum.fading import Constant, Linear
from keras_qan.meta_momentum.forms import Distillation, Features, Pull
from keras_qan.meta_momentum.teachers import Given, Previous, RandomTeacher, Teacher

__all__ = [
    "Constant",
    "Distillation",
    "Features",
    "Given",
    "Linear",
    "MetaMomentum",
    "Previous",
    "Pull",
    "RandomTeacher",
    "Teacher",
]
