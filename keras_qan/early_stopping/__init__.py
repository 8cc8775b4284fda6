"""Learning curves that say when to stop (Baker, Gupta, Raskar & Naik, arXiv:1705.10823).

Finished trainings teach regressors to predict where an unfinished one ends; a training that is
predicted to end behind the best is stopped. `CurvePredictor` predicts, `replay` shows what stopping
would have saved, `CurveStopping` does it in `fit`, `CurvePruner` in Optuna, `Hyperband` within the
rungs of Hyperband. The names are loaded at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
