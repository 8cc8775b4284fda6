"""Early stopping by learning-curve prediction (Baker, Gupta, Raskar & Naik, arXiv:1705.10823).

Regressors learn from finished trainings where an unfinished one will end; a training that is
predicted to end behind the best is stopped. `CurvePredictor` predicts, `replay` shows what stopping
would have saved, `CurveStopping` stops in `fit`, `CurvePruner` in Optuna, `Hyperband` within its
rungs. The names are loaded at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_qan.utils.deprecation import moved_names

if TYPE_CHECKING:
    from keras_qan.early_stopping.callback import CurveStopping
    from keras_qan.early_stopping.curves import CurveError, TooFewCurvesError
    from keras_qan.early_stopping.history import CurveHistory, FinishedCurve
    from keras_qan.early_stopping.hyperband import Hyperband, HyperbandResult
    from keras_qan.early_stopping.intervals import Prediction
    from keras_qan.early_stopping.optuna_pruner import CurvePruner
    from keras_qan.early_stopping.predictor import CurvePredictor
    from keras_qan.early_stopping.replaying import ReplayResult, replay
    from keras_qan.early_stopping.rule import StopRule

_HOMES = {
    "CurveStopping": "callback",
    **dict.fromkeys(["CurveError", "TooFewCurvesError"], "curves"),
    **dict.fromkeys(["CurveHistory", "FinishedCurve"], "history"),
    **dict.fromkeys(["Hyperband", "HyperbandResult"], "hyperband"),
    "Prediction": "intervals",
    "CurvePredictor": "predictor",
    "CurvePruner": "optuna_pruner",
    **dict.fromkeys(["ReplayResult", "replay"], "replaying"),
    "StopRule": "rule",
}

__all__ = [
    "CurveError",
    "CurveHistory",
    "CurvePredictor",
    "CurvePruner",
    "CurveStopping",
    "FinishedCurve",
    "Hyperband",
    "HyperbandResult",
    "Prediction",
    "ReplayResult",
    "StopRule",
    "TooFewCurvesError",
    "replay",
]

_find_moved = moved_names(__name__, {"Replay": f"{__name__}.replaying:ReplayResult"})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        return _find_moved(name)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
