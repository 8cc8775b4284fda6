"""CurvePruner: the same rule for Optuna's trials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_qan.early_stopping.curves import FeatureTable
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import StopRule

try:
    from optuna.pruners import BasePruner
    from optuna.study import StudyDirection
    from optuna.trial import TrialState
except ImportError as error:
    raise ImportError(
        "CurvePruner needs Optuna, which is not installed. Install it with "
        "`pip install 'keras-qan[optuna]'`."
    ) from error


class CurvePruner(BasePruner):
    """Prunes trials of Optuna that are predicted to end behind the best complete ones.

    What a trial reported, step after step, is its curve; its parameters are the features; what it
    ends at is its objective value. Works with any sampler, and on stored studies.

    Args:
      confidence: how sure it has to be before a trial is pruned; see `CurveStopping`.
      keep_best: n, trials that may still end among the best n go on.
      margin: in the objective's unit; trials that may end so far behind go on too.
      num_steps: how many values a whole trial reports; by default the most that one did.
      predictor: what predicts; by default `CurvePredictor()`.

    Raises:
      ImportError: Optuna is not installed.
      ValueError: an argument is out of range.

    Example:
      >>> import optuna
      >>> study = optuna.create_study(direction="maximize", pruner=CurvePruner(confidence=0.95))
    """

    def __init__(
        self,
        confidence: float = 0.99,
        keep_best: int = 1,
        margin: float = 0.0,
        num_steps: int | None = None,
        predictor: CurvePredictor | None = None,
    ) -> None:
        self._rule = StopRule(confidence, keep_best, margin)
        if num_steps is not None and num_steps < 2:
            raise ValueError(
                f"Received num_steps={num_steps}; expected at least 2 values in a whole trial."
            )
        self._num_steps = num_steps
        self._predictor = predictor or CurvePredictor()
        self._learned: list[int] = []

    def prune(self, study: Any, trial: Any) -> bool:
        """Says whether to prune a trial, after its last reported value.

        A trial that reported NaN or an infinite value is left alone.

        Raises:
          ValueError: the study has several objectives.
        """
        if len(study.directions) > 1:
            raise ValueError(
                f"Received a study with {len(study.directions)} objectives; expected one. Optuna "
                "prunes with one objective only."
            )
        values = _curve(trial)
        if not values or not all(map(math.isfinite, values)):
            return False
        maximises = study.direction == StudyDirection.MAXIMIZE
        rule = StopRule(
            self._rule.confidence,
            self._rule.keep_best,
            self._rule.margin,
            "max" if maximises else "min",
        )
        complete = self._complete(study)
        if len(complete) < rule.curves_needed(self._predictor.rule, self._predictor.min_curves):
            return False
        self._bring_up_to_date(complete)
        to_beat = rule.to_beat(other.value for other in complete)
        planned = self._num_steps or max(len(_curve(other)) for other in complete)
        if to_beat is None or len(values) >= planned:
            return False
        if not self._predictor.can_predict(len(values)):
            return False
        found = self._predictor.predict(
            [values], self._table.encode([_numbers(trial.params)]), np.array([planned])
        )
        return bool(rule.stops(found, to_beat)[0])

    def _complete(self, study: Any) -> list[Any]:
        return [
            other
            for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if len(_curve(other)) > 1 and all(map(math.isfinite, _curve(other)))
        ]

    def _bring_up_to_date(self, complete: list[Any]) -> None:
        """Learns anew where there are a tenth more trials, or others, than last time."""
        numbers = [other.number for other in complete]
        known = len(self._learned)
        if known and numbers[:known] == self._learned and len(numbers) < 1.1 * known:
            return
        rows = [_numbers(other.params) for other in complete]
        self._table = FeatureTable(rows)
        self._predictor.fit(
            [_curve(other) for other in complete],
            self._table.encode(rows),
            [other.value for other in complete],
        )
        self._learned = numbers


def _curve(trial: Any) -> list[float]:
    return [float(trial.intermediate_values[step]) for step in sorted(trial.intermediate_values)]


def _numbers(parameters: dict[str, Any]) -> dict[str, Any]:
    """Optuna's categories may be anything; what is no number is known by its name."""
    return {
        name: value if isinstance(value, int | float) else str(value)
        for name, value in parameters.items()
    }
