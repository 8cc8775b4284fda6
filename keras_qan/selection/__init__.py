"""Selection of mini-batches while a model trains.

`ClassMix` chooses by class, `LossRank` and `Prune` by loss, `Uniform` not at all. Each gives a
`tf.data.Dataset` of batches, actions for an agent, and a callback for scripted use.
"""

# ruff: noqa: E402  (what is needed is said before the imports that need it)

from keras_qan.utils.backend import require_tensorflow

require_tensorflow("keras_qan.selection")

from keras_qan.selection.actions import Drop, Press, Push, PushHardest, PushRarest, SelectionAction
from keras_qan.selection.base import Selector
from keras_qan.selection.callback import SelectorCallback
from keras_qan.selection.class_mix import ClassMix
from keras_qan.selection.loss_rank import LossRank
from keras_qan.selection.observations import ClassExtremes, SelectionState
from keras_qan.selection.prune import Prune
from keras_qan.selection.push_schedules import Cycle, Draw, PushSchedule
from keras_qan.selection.statistics import GroupFractions, Uniformity, uniformity
from keras_qan.selection.trial import SelectionTrial
from keras_qan.selection.uniform import Uniform

__all__ = [
    "ClassExtremes",
    "ClassMix",
    "Cycle",
    "Draw",
    "Drop",
    "GroupFractions",
    "LossRank",
    "Press",
    "Prune",
    "Push",
    "PushHardest",
    "PushRarest",
    "PushSchedule",
    "SelectionAction",
    "SelectionState",
    "SelectionTrial",
    "Selector",
    "SelectorCallback",
    "Uniform",
    "Uniformity",
    "uniformity",
]
