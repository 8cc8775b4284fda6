"""Hyperband with early stopping by prediction within its rungs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from keras_qan.early_stopping.curves import CurveError, Feature, FeatureTable
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import Mode, StopRule
from keras_qan.utils.validation import check_integer, check_number

Configuration = Mapping[str, Feature]
Sample = Callable[[np.random.Generator], Configuration]
Train = Callable[[Configuration], Iterator[float]]
_Fitted = tuple[CurvePredictor, FeatureTable]


@dataclass(eq=False)
class HyperbandTrial:
    """One configuration and its training so far.

    Args:
      configuration: a sample of the hyperparameters.
      values: the metric after each epoch that it was given.
      stopped: whether it was stopped by prediction.
    """

    configuration: Configuration
    values: list[float] = field(default_factory=list)
    stopped: bool = False

    def best(self, mode: Mode) -> float:
        """Its best value."""
        return max(self.values) if mode == "max" else min(self.values)


@dataclass(frozen=True, eq=False)
class HyperbandResult:
    """All trials of a Hyperband run.

    Args:
      trials: in the order in which they were sampled.
      mode: "max" where larger values are better, "min" for losses.
    """

    trials: list[HyperbandTrial]
    mode: Mode

    @property
    def epochs_spent(self) -> int:
        """Number of epochs trained."""
        return sum(len(one.values) for one in self.trials)

    @property
    def stopped(self) -> list[int]:
        """Numbers of the trials that were stopped by prediction."""
        return [number for number, one in enumerate(self.trials) if one.stopped]

    @property
    def best(self) -> HyperbandTrial:
        """The trial with the best value.

        Raises:
          CurveError: no trial has a finite value.
        """
        finite = [one for one in self.trials if one.values and math.isfinite(one.values[-1])]
        if not finite:
            raise CurveError("Received no trial with a finite value; expected one. Check `train`.")
        choose = max if self.mode == "max" else min
        return choose(finite, key=lambda one: one.best(self.mode))


class Hyperband:
    """Hyperband (Li et al. 2018) with early stopping by prediction.

    Brackets and rungs are Hyperband's. Within a rung that ends at r epochs, curves that went to r
    before predict where a trial will stand at r, and one that will not be promoted is stopped:
    f-Hyperband, section 4.3 of arXiv:1705.10823. A share of the trials is never stopped, so that
    the curves learned from stay a fair sample.

    Args:
      max_epochs: R, the most epochs of a trial.
      eta: η, one trial in η is promoted. Defaults to 3.
      confidence: Δ of `StopRule`; None for plain Hyperband. Defaults to 0.95.
      mode: "max" where larger values are better, "min" for losses. Defaults to "max".
      always_finish: κ, share of the trials that are never stopped by prediction. Defaults to 0.1.
      predictor: Defaults to `CurvePredictor()`.
      seed: of sampling and of the share. Defaults to 0.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> def train(configuration):
      ...     for epoch in range(9):
      ...         yield configuration["end"] * (1 - 0.5 ** (epoch + 1))
      >>> result = Hyperband(9).run(lambda rng: {"end": rng.uniform()}, train)
      >>> len(result.trials), result.epochs_spent
      (17, 69)
    """

    def __init__(
        self,
        max_epochs: int,
        eta: int = 3,
        confidence: float | None = 0.95,
        mode: Mode = "max",
        always_finish: float = 0.1,
        predictor: CurvePredictor | None = None,
        seed: int = 0,
    ) -> None:
        check_integer("max_epochs", max_epochs, 1)
        check_integer("eta", eta, 2, hint="One trial in eta is promoted.")
        check_number("always_finish", always_finish, 0, 1)
        self.max_epochs = max_epochs
        self.eta = eta
        self._rule = StopRule(confidence if confidence is not None else 0.5, mode=mode)
        self._predicts = confidence is not None
        self._always_finish = always_finish
        self._predictor = predictor or CurvePredictor()
        needed = StopRule(self._rule.confidence).curves_needed(
            self._predictor.rule, self._predictor.min_curves
        )
        self._needed = max(1, needed)
        self._seed = seed

    def brackets(self) -> list[list[tuple[int, int]]]:
        """Return each bracket's rungs, as (number of trials, epochs at the end of the rung).

        Example:
          >>> Hyperband(9).brackets()
          [[(9, 1), (3, 3), (1, 9)], [(5, 3), (1, 9)], [(3, 9)]]
        """
        most = 0
        while self.eta ** (most + 1) <= self.max_epochs:
            most += 1
        found = []
        for step in range(most, -1, -1):
            count = -(-(most + 1) * self.eta**step // (step + 1))
            found.append(
                [
                    (count // self.eta**rung, self.max_epochs // self.eta ** (step - rung))
                    for rung in range(step + 1)
                ]
            )
        return found

    def run(self, sample: Sample, train: Train, rounds: int = 1) -> HyperbandResult:
        """Run all brackets.

        Args:
          sample: gives a configuration, from a NumPy generator.
          train: starts a training: yields the metric after each epoch, and is not asked for more
            once its trial is out.
          rounds: repetitions of all brackets; later ones learn from earlier ones. Defaults to 1.

        Returns:
          All trials and the best.

        Raises:
          ValueError: `train` ends before `max_epochs` epochs.
        """
        everyone: list[HyperbandTrial] = []
        rng = np.random.default_rng(self._seed)
        for bracket in self.brackets() * rounds:
            group = [HyperbandTrial(dict(sample(rng))) for _ in range(bracket[0][0])]
            everyone += group
            trainings = {id(one): train(one.configuration) for one in group}
            spared = {id(one) for one in group if rng.random() < self._always_finish}
            for number, (_, epochs) in enumerate(bracket):
                num_promoted = bracket[number + 1][0] if number + 1 < len(bracket) else 1
                rule = StopRule(self._rule.confidence, num_promoted, 0.0, self._rule.mode)
                rung = _Rung(rule, epochs, self._fit_predictor(epochs, everyone))
                for one in group:
                    rung.train(one, trainings[id(one)], id(one) in spared)
                group = rung.promote(group)
        return HyperbandResult(everyone, self._rule.mode)

    def _fit_predictor(self, epochs: int, everyone: list[HyperbandTrial]) -> _Fitted | None:
        """Learn from trials that came to the end of a rung; None if there are too few."""
        known = [
            one
            for one in everyone
            if len(one.values) >= epochs and all(map(math.isfinite, one.values))
        ]
        if not self._predicts or epochs < 2 or len(known) < self._needed:
            return None
        rows = [one.configuration for one in known]
        table = FeatureTable(rows)
        self._predictor.fit([one.values[:epochs] for one in known], table.encode(rows))
        return self._predictor, table


class _Rung:
    """Trains trials up to a number of epochs, and promotes the best."""

    def __init__(self, rule: StopRule, epochs: int, fitted: _Fitted | None) -> None:
        self._rule, self._epochs, self._fitted = rule, epochs, fitted
        self._ends: list[float] = []

    def train(self, one: HyperbandTrial, training: Iterator[float], is_spared: bool) -> None:
        while len(one.values) < self._epochs:
            value = next(training, None)
            if value is None:
                raise ValueError(
                    f"Received a training that ended after {len(one.values)} epochs; expected "
                    f"{self._epochs}. Let `train` yield a value for each of max_epochs epochs."
                )
            one.values.append(float(value))
            if not math.isfinite(one.values[-1]):
                return
            if not is_spared and self._is_hopeless(one):
                one.stopped = True
                return
        self._ends.append(one.values[-1])

    def _is_hopeless(self, one: HyperbandTrial) -> bool:
        threshold = self._rule.threshold(self._ends)
        if self._fitted is None or len(one.values) >= self._epochs or threshold is None:
            return False
        predictor, table = self._fitted
        found = predictor.predict([one.values], table.encode([one.configuration]))
        return bool(self._rule.should_stop(found, threshold)[0])

    def promote(self, trials: list[HyperbandTrial]) -> list[HyperbandTrial]:
        """Return the best trials that went to the end of the rung, best first."""
        whole = [
            one
            for one in trials
            if not one.stopped and len(one.values) >= self._epochs and math.isfinite(one.values[-1])
        ]
        sign = -1.0 if self._rule.mode == "max" else 1.0
        return sorted(whole, key=lambda one: sign * one.values[-1])[: self._rule.keep_best]
