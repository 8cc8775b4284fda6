"""A deep Q-network that tunes the training of Keras 3 models while they train.

The public names are loaded at first use; importing the package loads neither TF-Agents nor
matplotlib.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from keras_qan.utils.deprecation import moved_names

if TYPE_CHECKING:
    from keras_qan import actions, distribute, drmad, selection
    from keras_qan.actions import Decay, Hold, Raise, Restart, StepBack
    from keras_qan.agents import DQN, Exploration, Learning
    from keras_qan.early_stopping import CurveStopping
    from keras_qan.meta_momentum import MetaMomentum
    from keras_qan.metaqnn import MetaQNN, Space
    from keras_qan.observations import (
        CurrentLearningRate,
        TrainingDynamics,
        TrainingState,
        WeightStatistics,
    )
    from keras_qan.qan.callback import QANCallback
    from keras_qan.qan.policy import Policy
    from keras_qan.qan.rewards import Equation9, LogLossDrop
    from keras_qan.rally import Rally, Stage
    from keras_qan.storage.checkpoint import CheckpointError

__version__ = "0.2.0"

__path__.append(os.path.join(os.path.dirname(__file__), "_moved"))

#: Packages that are public by their own names.
_PACKAGES = ("actions", "distribute", "drmad", "selection")

#: Names that work with Keras on TensorFlow alone.
_NEEDS_TENSORFLOW = (
    "MetaMomentum",
    "MetaQNN",
    "Rally",
    "Space",
    "Stage",
    "distribute",
    "drmad",
    "selection",
)

_HOMES = {
    "QANCallback": "qan.callback",
    "CheckpointError": "storage.checkpoint",
    "Policy": "qan.policy",
    **dict.fromkeys(["Decay", "Hold", "Raise", "Restart", "StepBack"], "actions"),
    **dict.fromkeys(["DQN", "Exploration", "Learning"], "agents"),
    **dict.fromkeys(
        ["CurrentLearningRate", "TrainingDynamics", "TrainingState", "WeightStatistics"],
        "observations",
    ),
    "CurveStopping": "early_stopping",
    "MetaMomentum": "meta_momentum",
    **dict.fromkeys(["MetaQNN", "Space"], "metaqnn"),
    **dict.fromkeys(["Rally", "Stage"], "rally"),
    **dict.fromkeys(["Equation9", "LogLossDrop"], "qan.rewards"),
}

__all__ = [
    "DQN",
    "CheckpointError",
    "CurrentLearningRate",
    "CurveStopping",
    "Decay",
    "Equation9",
    "Exploration",
    "Hold",
    "Learning",
    "LogLossDrop",
    "MetaMomentum",
    "MetaQNN",
    "Policy",
    "QANCallback",
    "Raise",
    "Rally",
    "Restart",
    "Space",
    "Stage",
    "StepBack",
    "TrainingDynamics",
    "TrainingState",
    "WeightStatistics",
    "actions",
    "distribute",
    "drmad",
    "selection",
]


_find_moved = moved_names(__name__, {"LearningRate": "CurrentLearningRate"}, stacklevel=3)


def __getattr__(name: str) -> Any:
    if name not in _HOMES and name not in _PACKAGES:
        return _find_moved(name)
    from keras_qan.utils.backend import require_backend, require_python, require_tensorflow

    require_python()
    require_backend()
    if name in _NEEDS_TENSORFLOW:
        require_tensorflow(f"keras_qan.{name}")
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
