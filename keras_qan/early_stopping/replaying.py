"""What stopping would have saved in a search that is over."""

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
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import Mode, StopRule


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """A search as it would have gone.

    Args:
      order: in which the curves came, int64 [N].
      epochs: how many epochs each curve was given, int64 [N].
      stopped: which curves were stopped, in the order in which they came.
      predicted: the end that each stopped curve was predicted to have, NaN elsewhere, [N].
      epochs_full: how many epochs there are without stopping.
      best: the curve with the best end.
    """

    order: Ints
    epochs: Ints
    stopped: Ints
    predicted: Floats
    epochs_full: int
    best: int

    @property
    def epochs_spent(self) -> int:
        """How many epochs there were with stopping, those of the curves learned from included."""
        return int(self.epochs.sum())

    @property
    def speed_up(self) -> float:
        """How many times fewer epochs that is."""
        return self.epochs_full / self.epochs_spent

    @property
    def best_kept(self) -> bool:
        """Whether the best curve was not stopped."""
        return self.best not in set(self.stopped.tolist())


class Judge(Protocol):
    """Decides for curves that are looked at one after the other."""

    def learn(self, rows: Ints) -> None:
        """Is told which curves ran to their end before anything may be stopped."""

    def stops(self, row: int, observed: int, ends: Sequence[float]) -> float | None:
        """Says whether to stop a curve: the end expected of it, or None to go on.

        Args:
          row: of the curve.
          observed: how many of its values may be looked at.
          ends: of the curves that ran to their end, so far.
        """


def replay(
    curves: Any,
    features: Any = None,
    num_train: int = 100,
    *,
    confidence: float = 0.99,
    keep_best: int = 1,
    margin: float = 0.0,
    mode: Mode = "max",
    seed: int = 0,
    predictor: CurvePredictor | None = None,
) -> ReplayResult:
    """Replays a search in random order, and stops what is predicted to end behind.

    The first `num_train` curves run to their end, are learned from and are counted: the protocol of
    arXiv:1705.10823, section 5.

    Args:
      curves: float[N, T], NaN behind the last value of shorter ones; or a sequence of curves.
      features: float[N, F]; None for none.
      num_train: how many curves to learn from.
      confidence: Δ of the rule, in (0, 1).
      keep_best: n of the rule.
      margin: δ of the rule, in the curves' unit.
      mode: "max" where larger ends are better, "min" for losses.
      seed: of the order.
      predictor: what predicts; None for `CurvePredictor(seed=seed)`.

    Returns:
      What was spent, and what was stopped.

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
    return replay_with(_ByPrediction(known, rows, predictor, rule), known, num_train, rule, seed)


def replay_with(
    judge: Judge, curves: Curves, num_train: int, rule: StopRule, seed: int
) -> ReplayResult:
    """Replays a search with any way to decide.

    Args:
      judge: decides.
      curves: the finished curves.
      num_train: how many of them run to their end before anything may be stopped.
      rule: says which end is better.
      seed: of the order.

    Raises:
      TooFewCurvesError: there are not more curves than `num_train`.
      CurveError: `num_train` is below 1.
    """
    if num_train < 1:
        raise CurveError(f"Received num_train={num_train}; expected at least 1.")
    if len(curves) <= num_train:
        why = f"to learn from num_train={num_train} and have one left"
        raise TooFewCurvesError(len(curves), num_train + 1, why)
    order = np.random.default_rng(seed).permutation(len(curves))
    epochs = curves.lengths.copy()
    predicted = np.full(len(curves), np.nan)
    judge.learn(order[:num_train])
    ends = curves.last[order[:num_train]].tolist()
    stopped = []
    for row in order[num_train:]:
        for observed in range(1, int(curves.lengths[row])):
            end = judge.stops(int(row), observed, ends)
            if end is not None:
                epochs[row], predicted[row] = observed, end
                stopped.append(row)
                break
        else:
            ends.append(float(curves.last[row]))
    best = int(np.argmax(curves.last) if rule.mode == "max" else np.argmin(curves.last))
    full = int(curves.lengths.sum())
    return ReplayResult(order, epochs, np.asarray(stopped, np.int64), predicted, full, best)


class _ByPrediction:
    """Stops by `CurvePredictor`, with all predictions of a length made at once."""

    def __init__(
        self, curves: Curves, features: Floats, predictor: CurvePredictor, rule: StopRule
    ) -> None:
        self._curves, self._features = curves, features
        self._predictor, self._rule = predictor, rule

    def learn(self, rows: Ints) -> None:
        self._predictor.fit(self._curves.values[rows], self._features[rows])
        self._of_length: dict[int, tuple[dict[int, int], Any]] = {}

    def stops(self, row: int, observed: int, ends: Sequence[float]) -> float | None:
        to_beat = self._rule.to_beat(ends)
        if to_beat is None or not self._predictor.can_predict(observed):
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
        one = found.only(places[row])
        return float(one.end[0]) if self._rule.stops(one, to_beat)[0] else None
