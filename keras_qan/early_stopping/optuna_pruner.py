"""CurvePruner: the stopping rule for Optuna's trials."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np

from keras_qan.early_stopping.curves import FeatureTable, plain_feature
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import StopRule
from keras_qan.utils.validation import check_integer

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

    A trial's reported values are its curve, its parameters the features, its objective value the
    end. Works with any sampler, and on stored studies.

    Args:
      confidence: Δ of `StopRule`. Defaults to 0.99.
      keep_best: n, trials that may still end among the best n go on. Defaults to 1.
      margin: in the objective's unit; trials that may end so far behind go on too. Defaults to 0.
      num_steps: values that a whole trial reports. Defaults to the most that one did.
      predictor: Defaults to `CurvePredictor()`.

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
        if num_steps is not None:
            check_integer("num_steps", num_steps, 2, hint="It counts the values of a whole trial.")
        self._num_steps = num_steps
        self._predictor = predictor or CurvePredictor()
        self._learned: list[int] = []
        self._has_warned = False

    def prune(self, study: Any, trial: Any) -> bool:
        """Decide whether to prune a trial, after its last reported value.

        A trial that reported NaN or an infinite value is left alone, and so is one whose parameters
        cannot be compared with those of the others, with one warning.

        Args:
          study: the `optuna.Study`.
          trial: the `optuna.trial.FrozenTrial` that runs.

        Returns:
          Whether the trial will hardly end among the best.

        Raises:
          ValueError: the study has several objectives.
        """
        if len(study.directions) > 1:
            raise ValueError(
                f"Received a study with {len(study.directions)} objectives; expected one. Optuna "
                "prunes with one objective only."
            )
        values = _reported_values(trial)
        if not values or not all(map(math.isfinite, values)):
            return False
        is_max = study.direction == StudyDirection.MAXIMIZE
        rule = dataclasses.replace(self._rule, mode="max" if is_max else "min")
        complete = self._complete_trials(study)
        if len(complete) < rule.curves_needed(self._predictor.rule, self._predictor.min_curves):
            return False
        try:
            return self._is_hopeless(trial, values, complete, rule)
        except (ValueError, ArithmeticError) as error:  # a pruner never ends a study
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"CurvePruner cannot describe trial {trial.number} and lets it go on: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return False

    def _is_hopeless(
        self, trial: Any, values: list[float], complete: list[Any], rule: StopRule
    ) -> bool:
        """Return whether a trial is predicted to end behind the best complete ones."""
        self._refit(complete)
        threshold = rule.threshold(other.value for other in complete)
        planned = self._num_steps or max(len(_reported_values(other)) for other in complete)
        if threshold is None or len(values) >= planned:
            return False
        if not self._predictor.can_predict(len(values)):
            return False
        found = self._predictor.predict(
            [values], self._table.encode([_features(trial.params)]), np.array([planned])
        )
        return bool(rule.should_stop(found, threshold)[0])

    def _complete_trials(self, study: Any) -> list[Any]:
        return [
            other
            for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if len(_reported_values(other)) > 1
            and all(map(math.isfinite, [*_reported_values(other), other.value]))
        ]

    def _refit(self, complete: list[Any]) -> None:
        """Fit anew where there are a tenth more trials, or others, than last time."""
        numbers = [other.number for other in complete]
        known = len(self._learned)
        if known and numbers[:known] == self._learned and len(numbers) < 1.1 * known:
            return
        rows = [_features(other.params) for other in complete]
        self._table = FeatureTable(rows)
        self._predictor.fit(
            [_reported_values(other) for other in complete],
            self._table.encode(rows),
            [other.value for other in complete],
        )
        self._learned = numbers


def _reported_values(trial: Any) -> list[float]:
    return [float(trial.intermediate_values[step]) for step in sorted(trial.intermediate_values)]


def _features(parameters: dict[str, Any]) -> dict[str, Any]:
    """Take Optuna's categories, which may be anything, by their text unless they are numbers."""
    plain = {name: plain_feature(value) for name, value in parameters.items()}
    return {
        name: value if isinstance(value, int | float) and math.isfinite(value) else str(value)
        for name, value in plain.items()
    }
