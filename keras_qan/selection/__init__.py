"""effect → next batches: which examples come next, chosen while a model trains.

`ClassMix` chooses by class, `LossRank` and `Prune` by loss, `Uniform` not at all. Each gives a
`tf.data.Dataset` of batches, actions for an agent, and a callback for scripted use.
"""

from keras_qan.selection.actions import (
    Drop,
    Press,
    Push,
    PushHardest,
    PushRarest,
    SelectionAction,
)
from keras_qan.selection.class_mix import ClassMix
from keras_qan.selection.composition import Shares
from keras_qan.selection.loss_rank import LossRank
from keras_qan.selection.observing import ClassExtremes, SelectionState
from keras_qan.selection.prune import Prune
from keras_qan.selection.scripts import Cycle, Draw, Script
from keras_qan.selection.selector import Selector
from keras_qan.selection.steering import SelectorCallback
from keras_qan.selection.uniform import Uniform
from keras_qan.selection.uniformity import Uniformity, uniformity

__all__ = [
    "ClassExtremes",
    "ClassMix",
    "Cycle",
    "Draw",
    "Drop",
    "LossRank",
    "Press",
    "Prune",
    "Push",
    "PushHardest",
    "PushRarest",
    "Script",
    "SelectionAction",
    "SelectionState",
    "Selector",
    "SelectorCallback",
    "Shares",
    "Uniform",
    "Uniformity",
    "uniformity",
]
