"""action → effect: the actions on the learning rate."""

from keras_qan.actions.base import Action
from keras_qan.actions.learning_rate import (
    ActionSet,
    Decay,
    Follow,
    Hold,
    Raise,
    Restart,
    StepBack,
    default,
    hierarchical,
    label,
)
from keras_qan.actions.options import (
    Anneal,
    Option,
    OptionContext,
    RangeTest,
    TriangularCycle,
    WarmUp,
)
from keras_qan.actions.schedules import (
    Cosine,
    LinearFall,
    OneCycle,
    Schedule,
    StepDecay,
    WarmRestarts,
)

__all__ = [
    "Action",
    "ActionSet",
    "Anneal",
    "Cosine",
    "Decay",
    "Follow",
    "Hold",
    "LinearFall",
    "OneCycle",
    "Option",
    "OptionContext",
    "Raise",
    "RangeTest",
    "Restart",
    "Schedule",
    "StepBack",
    "StepDecay",
    "TriangularCycle",
    "WarmRestarts",
    "WarmUp",
    "default",
    "hierarchical",
    "label",
]
