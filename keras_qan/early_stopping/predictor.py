"""CurvePredictor: predicts the ends of unfinished curves from finished ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_qan.early_stopping.curves import (
    CurveError,
    Curves,
    Floats,
    Ints,
    TooFewCurvesError,
    as_curves,
    as_features,
)
from keras_qan.early_stopping.intervals import (
    INTERVAL_RULES,
    IntervalRule,
    Prediction,
    ResidualModel,
)
from keras_qan.early_stopping.regressors import FAMILIES, Regressor, residuals, select_regressor
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check, check_choice, check_integer, check_number

#: A positive feature that spans more than this factor is taken by its logarithm.
_WIDE = 10.0

#: The number of zero residuals of a complete curve: its end meets any confidence.
_NUM_ZEROS = 10_000


class RegressorInputs:
    """The inputs of a regressor, from the first τ values of curves and from features.

    x = (y₁ … y_τ, their first differences, their second differences, features): section 3.1 of
    arXiv:1705.10823. Features that are positive and span more than a factor of ten (numbers of
    weights, learning rates) enter by their logarithm, which the paper does not say; the planned
    length enters where the finished curves differ in it.

    Args:
      features: of the finished curves, [N, F].
      lengths: of the finished curves, [N].
    """

    def __init__(self, features: Floats, lengths: Ints) -> None:
        self._logarithmic = _spans_wide(features)
        self._sees_length = bool(np.ptp(lengths)) if len(lengths) else False

    def assemble(self, values: Floats, tau: int, features: Floats, lengths: Ints) -> Floats:
        """Return the inputs, float64 [N, inputs].

        Args:
          values: curves, [N, at least τ].
          tau: τ, the number of values looked at.
          features: [N, F].
          lengths: planned lengths, [N].
        """
        seen = values[:, :tau]
        parts = [seen, np.diff(seen, 1), np.diff(seen, 2) if tau > 2 else seen[:, :0]]
        positive = np.maximum(features, np.finfo(np.float64).tiny)
        parts.append(np.where(self._logarithmic, np.log(positive), features))
        if self._sees_length:
            parts.append(lengths[:, None].astype(np.float64))
        return np.hstack(parts)


def _spans_wide(features: Floats) -> npt.NDArray[np.bool_]:
    if not features.size:
        return np.zeros(features.shape[1], bool)
    low, high = features.min(axis=0), features.max(axis=0)
    return (low > 0.0) & (high > _WIDE * low)


@configurable
class CurvePredictor:
    """Predicts the last value of learning curves from their first ones.

    One regressor for each observed length τ, of (values, first and second differences, features),
    fitted when first needed: section 3.1 of Baker, Gupta, Raskar & Naik (arXiv:1705.10823). Family
    and setting are chosen for each length by cross-validation; intervals come from the residuals
    of leaving each finished curve out in turn.

    Args:
      families: to choose from: "svr_linear" and "svr_rbf" (ν-SVR), "forest" (random forest),
        "least_squares" (ordinary). Defaults to all.
      rule: turns residuals into intervals: "conformal" (their empirical quantiles, scaled to where
        the prediction lies) or "gaussian" (their standard deviation, as in the paper). Defaults to
        "conformal".
      level: share of the ends that should lie in an interval, in (0, 1). Defaults to 0.9.
      min_curves: finished curves that a regressor needs, at least 2 · `folds`. Defaults to 10.
      folds: of the cross-validation, at least 2. Defaults to 3.
      seed: of the folds and of the forests. Defaults to 0.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> steps = np.arange(1, 11)
      >>> curves = np.array([a * (1 - np.exp(-steps / 3)) for a in np.linspace(0.5, 1.0, 30)])
      >>> predictor = CurvePredictor(families=["least_squares"]).fit(curves)
      >>> float(predictor.predict([curves[7, :3]]).end[0].round(4)), float(curves[7, -1].round(4))
      (0.5985, 0.5985)
    """

    def __init__(
        self,
        families: Sequence[str] = FAMILIES,
        rule: IntervalRule = "conformal",
        level: float = 0.9,
        min_curves: int = 10,
        folds: int = 3,
        seed: int = 0,
    ) -> None:
        known = not isinstance(families, str) and set(families) <= set(FAMILIES)
        expected = f"a sequence of some of {FAMILIES}"
        check(known and len(families) > 0, "families", families, expected)
        check_choice("rule", rule, INTERVAL_RULES)
        check_number("level", level, above=0, below=1, hint="0.9 covers nine ends in ten.")
        check_integer("folds", folds, 2)
        hint = f"Each of the {folds} folds needs 2 curves."
        check_integer("min_curves", min_curves, 2 * folds, hint=hint)
        self.families = tuple(families)
        self.rule = rule
        self.level = level
        self.min_curves = min_curves
        self.folds = folds
        self.seed = seed
        self._curves: Curves | None = None
        self._known: dict[int, tuple[str, Regressor, ResidualModel]] = {}

    @property
    def num_curves(self) -> int:
        """Number of finished curves that it has learned from."""
        return 0 if self._curves is None else len(self._curves)

    def fit(self, curves: Any, features: Any = None, ends: Any = None) -> CurvePredictor:
        """Learn from finished curves.

        Args:
          curves: float[N, T], NaN behind the last value of shorter ones; or a sequence of curves.
          features: float[N, F], of architectures and hyperparameters. Defaults to none.
          ends: float[N], the values to predict. Defaults to each curve's last value.

        Returns:
          Itself.

        Raises:
          TooFewCurvesError: fewer than `min_curves`; its `missing` says how many.
          CurveError: a curve has NaN within, or fewer than two values; or features do not fit.
        """
        finished = as_curves(curves, at_least=2)
        if len(finished) < self.min_curves:
            raise TooFewCurvesError(len(finished), self.min_curves, "to learn from")
        self._features = as_features(features, len(finished))
        self._ends = finished.last if ends is None else _as_ends(ends, len(finished))
        self._inputs = RegressorInputs(self._features, finished.lengths)
        self._curves = finished
        self._known = {}
        return self

    def predict(self, curves: Any, features: Any = None, lengths: Any = None) -> Prediction:
        """Predict the ends of unfinished curves.

        Args:
          curves: float[N, T], NaN where not observed; or a sequence of curves. A curve with all
            planned values ends at its last one, with certainty.
          features: float[N, F], the same as in `fit`. Defaults to none.
          lengths: int[N], planned lengths. Defaults to the longest finished curve's.

        Returns:
          The predicted ends with their intervals.

        Raises:
          TooFewCurvesError: fewer than `min_curves` finished curves are longer than one of these.
          CurveError: a curve has NaN within or no values, or features do not fit.
          RuntimeError: `fit` was not called.
        """
        seen = as_curves(curves)
        known = self._require_fit()
        given = as_features(features, len(seen))
        if given.shape[1] != self._features.shape[1]:
            raise CurveError(
                f"Received {given.shape[1]} features for each curve; expected "
                f"{self._features.shape[1]}, as in `fit`. Pass the same features in both."
            )
        planned = self._planned(lengths, len(seen), known)
        ends = np.empty(len(seen))
        spreads: list[Floats] = [np.zeros(0)] * len(seen)
        is_complete = seen.lengths >= planned
        ends[is_complete] = seen.last[is_complete]
        for row in np.flatnonzero(is_complete):
            spreads[row] = np.zeros(_NUM_ZEROS)
        for tau in np.unique(seen.lengths[~is_complete]):
            rows = np.flatnonzero(~is_complete & (seen.lengths == tau))
            _, regressor, residual_model = self._regressor_at(int(tau))
            inputs = self._inputs.assemble(seen.values[rows], int(tau), given[rows], planned[rows])
            ends[rows] = regressor.predict(inputs)
            for row in rows:
                spreads[row] = residual_model.residuals_at(ends[row], self.rule)
        return Prediction(ends, spreads, seen.lengths, self.level, self.rule)

    def family(self, observed: int) -> str:
        """Return the family chosen for curves with this number of observed values.

        Args:
          observed: number of observed values.
        """
        self._require_fit()
        return self._regressor_at(observed)[0]

    def can_predict(self, observed: int) -> bool:
        """Return True if enough finished curves have more values than that.

        Args:
          observed: number of observed values.
        """
        return self._curves is not None and self._num_longer(observed) >= self.min_curves

    def _regressor_at(self, tau: int) -> tuple[str, Regressor, ResidualModel]:
        if tau not in self._known:
            known = self._require_fit()
            longer = known.lengths > tau
            if not self.can_predict(tau):
                why = f"that are longer than the {tau} values observed"
                raise TooFewCurvesError(self._num_longer(tau), self.min_curves, why)
            inputs = self._inputs.assemble(
                known.values[longer], tau, self._features[longer], known.lengths[longer]
            )
            target = self._ends[longer]
            name, regressor = select_regressor(inputs, target, self.families, self.folds, self.seed)
            left_out = residuals(regressor, inputs, target, self.seed)
            self._known[tau] = name, regressor, ResidualModel(left_out, target - left_out)
        return self._known[tau]

    def _num_longer(self, tau: int) -> int:
        return int(np.sum(self._require_fit().lengths > tau))

    def _planned(self, lengths: Any, count: int, known: Curves) -> Ints:
        if lengths is None:
            return np.full(count, known.lengths.max())
        planned = np.asarray(lengths)
        if planned.shape != (count,) or not np.issubdtype(planned.dtype, np.integer):
            raise CurveError(
                f"Received lengths={lengths!r} for {count} curves; expected as many whole numbers."
            )
        return planned.astype(np.int64)

    def _require_fit(self) -> Curves:
        if self._curves is None:
            raise RuntimeError(
                "Received curves to predict before any that are finished; expected fit() first. "
                "Call fit(curves, features) with finished curves."
            )
        return self._curves


def _as_ends(ends: Any, count: int) -> Floats:
    found = np.asarray(ends, np.float64)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise CurveError(
            f"Received ends of shape {found.shape} for {count} curves; expected as many finite "
            "numbers."
        )
    return found
