"""Replays of finished searches: the epochs that stopping would have saved."""

# Not `replay`: as a submodule it would hide the package's function of that name.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from keras_qan.early_stopping.curves import (
    CurveError,
    Curves,
    Floats,
    Ints,
    TooFewCurvesError,
    as_curves,
    as_features,
)
from keras_qan.early_stopping.intervals import Prediction
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import Mode, StopRule


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """A search as it would have gone with stopping.

    Args:
      order: in which the curves came, int64 [N].
      epochs: epochs that each curve was given, int64 [N].
      stopped: rows of the stopped curves, in the order in which they came.
      predicted: the predicted end of each stopped curve, NaN elsewhere, [N].
      epochs_full: epochs without stopping.
      best: row of the curve with the best end.
    """

    order: Ints
    epochs: Ints
    stopped: Ints
    predicted: Floats
    epochs_full: int
    best: int

    @property
    def epochs_spent(self) -> int:
        """Epochs with stopping, those of the curves learned from included."""
        return int(self.epochs.sum())

    @property
    def speed_up(self) -> float:
        """Epochs without stopping over epochs with it."""
        return self.epochs_full / self.epochs_spent

    @property
    def best_kept(self) -> bool:
        """True if the best curve was not stopped."""
        return self.best not in set(self.stopped.tolist())


class StoppingMethod(Protocol):
    """A stopping method, asked about one curve after the other."""

    def fit(self, rows: Ints) -> None:
        """Learn from the curves of these rows, which ran to their end."""

    def stop_at(self, row: int, observed: int, ends: Sequence[float]) -> float | None:
        """Return the end expected of a curve that is to be stopped, None to train on.

        Args:
          row: of the curve.
          observed: the number of its values that may be looked at.
          ends: of the curves that ran to their end so far.
        """


def replay(
    curves: Any,
    features: Any = None,
    num_train: int = 100,
    confidence: float = 0.99,
    keep_best: int = 1,
    *,
    margin: float = 0.0,
    mode: Mode = "max",
    seed: int = 0,
    predictor: CurvePredictor | None = None,
) -> ReplayResult:
    """Run a finished search once more, in random order, with stopping.

    The first curves run to their end and are learned from; each of the others is predicted after
    every epoch and stopped by `StopRule`. Curves that run to their end raise the threshold.

    Args:
      curves: finished curves, float[N, T], NaN behind the last value; or a sequence of curves.
      features: float[N, F]. Defaults to none.
      num_train: curves to learn from. Defaults to 100.
      confidence: Δ of the rule. Defaults to 0.99.
      keep_best: n of the rule. Defaults to 1.
      margin: δ of the rule, in the curves' unit. Defaults to 0.
      mode: "max" where larger ends are better, "min" for losses. Defaults to "max".
      seed: of the order. Defaults to 0.
      predictor: Defaults to `CurvePredictor(seed=seed)`.

    Returns:
      What was stopped, and what that saved and lost.

    Raises:
      TooFewCurvesError: there are fewer curves than are to be learned from, or these are too few
        for the confidence.
      CurveError: a curve has NaN within, or fewer than two values; or features do not fit.
      ValueError: another argument is out of range.
    """
    rule = StopRule(confidence, keep_best, margin, mode)
    known = as_curves(curves, at_least=2)
    rows = as_features(features, len(known))
    predictor = predictor or CurvePredictor(seed=seed)
    needed = rule.curves_needed(predictor.rule, predictor.min_curves)
    if num_train < needed:
        why = f"for confidence={confidence}, keep_best={keep_best} and rule={predictor.rule!r}"
        raise TooFewCurvesError(num_train, needed, why)
    stopper = _PredictionStopper(known, rows, predictor, rule)
    return replay_with(stopper, known, num_train, rule, seed)


def replay_with(
    stopper: StoppingMethod, curves: Curves, num_train: int, rule: StopRule, seed: int
) -> ReplayResult:
    """Replay a search with any stopping method.

    Args:
      stopper: decides.
      curves: the finished curves.
      num_train: the number that run to their end before anything may be stopped.
      rule: says which end is better.
      seed: of the order.

    Raises:
      TooFewCurvesError: there are not more curves than `num_train`.
      CurveError: `num_train` is below 1.
    """
    if num_train < 1:
        raise CurveError(f"num_train is {num_train}; expected at least 1.")
    if len(curves) <= num_train:
        why = f"to learn from num_train={num_train} and have one left"
        raise TooFewCurvesError(len(curves), num_train + 1, why)
    order = np.random.default_rng(seed).permutation(len(curves))
    epochs = curves.lengths.copy()
    predicted = np.full(len(curves), np.nan)
    stopper.fit(order[:num_train])
    ends = curves.last[order[:num_train]].tolist()
    stopped = []
    for row in order[num_train:]:
        for observed in range(1, int(curves.lengths[row])):
            end = stopper.stop_at(int(row), observed, ends)
            if end is not None:
                epochs[row], predicted[row] = observed, end
                stopped.append(row)
                break
        else:
            ends.append(float(curves.last[row]))
    best = int(np.argmax(curves.last) if rule.mode == "max" else np.argmin(curves.last))
    full = int(curves.lengths.sum())
    return ReplayResult(order, epochs, np.asarray(stopped, np.int64), predicted, full, best)


class _PredictionStopper:
    """Stops by `CurvePredictor`; all predictions of one length are made at once."""

    def __init__(
        self, curves: Curves, features: Floats, predictor: CurvePredictor, rule: StopRule
    ) -> None:
        self._curves, self._features = curves, features
        self._predictor, self._rule = predictor, rule

    def fit(self, rows: Ints) -> None:
        self._predictor.fit(self._curves.values[rows], self._features[rows])
        self._of_length: dict[int, tuple[dict[int, int], Prediction]] = {}

    def stop_at(self, row: int, observed: int, ends: Sequence[float]) -> float | None:
        threshold = self._rule.threshold(ends)
        if threshold is None or not self._predictor.can_predict(observed):
            return None
        if observed not in self._of_length:
            longer = np.flatnonzero(self._curves.lengths > observed)
            found = self._predictor.predict(
                self._curves.values[longer, :observed],
                self._features[longer],
                self._curves.lengths[longer],
            )
            self._of_length[observed] = {int(r): i for i, r in enumerate(longer)}, found
        places, found = self._of_length[observed]
        one = found.select(places[row])
        return float(one.end[0]) if self._rule.should_stop(one, threshold)[0] else None
