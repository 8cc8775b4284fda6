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
    label,
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
    "Cosine",
    "Decay",
    "Follow",
    "Hold",
    "LinearFall",
    "OneCycle",
    "Raise",
    "Restart",
    "Schedule",
    "StepBack",
    "StepDecay",
    "WarmRestarts",
    "default",
    "label",
]
