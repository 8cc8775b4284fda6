"""Hyperband whose rungs also stop by prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from keras_qan.early_stopping.curves import CurveError, Feature, FeatureTable
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import Mode, StopRule

Configuration = Mapping[str, Feature]
Sample = Callable[[np.random.Generator], Configuration]
Train = Callable[[Configuration], Iterator[float]]


@dataclass(eq=False)
class HyperbandTrial:
    """One configuration and how far it came.

    Args:
      configuration: what was sampled.
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
    """What a Hyperband found.

    Args:
      contestants: all configurations, in the order in which they were sampled.
      mode: which values are better.
    """

    contestants: list[HyperbandTrial]
    mode: Mode

    @property
    def epochs_spent(self) -> int:
        """How many epochs were trained."""
        return sum(len(one.values) for one in self.contestants)

    @property
    def stopped(self) -> list[int]:
        """Which contestants were stopped by prediction."""
        return [number for number, one in enumerate(self.contestants) if one.stopped]

    @property
    def best(self) -> HyperbandTrial:
        """The contestant with the best value."""
        finite = [one for one in self.contestants if one.values and math.isfinite(one.values[-1])]
        if not finite:
            raise CurveError("Received no contestant with a finite value. Check `train`.")
        choose = max if self.mode == "max" else min
        return choose(finite, key=lambda one: one.best(self.mode))


class Hyperband:
    """Hyperband (Li et al. 2018), with rungs that also stop by prediction.

    Brackets and rungs are Hyperband's. Within a rung that ends at r epochs, curves that went to r
    before teach where a curve will stand at r, and a contestant that will not be among those that
    are promoted is stopped: f-Hyperband, section 4.3 of arXiv:1705.10823. A share of the
    contestants is never stopped, so that what is learned from stays a fair sample.

    Args:
      max_epochs: R, the most epochs that a contestant is given.
      eta: η, one contestant in so many is promoted.
      confidence: how sure it has to be before one is stopped; None for plain Hyperband.
      mode: "max" where larger values are better, "min" for losses.
      always_finish: κ, share of the contestants that are never stopped by prediction.
      predictor: what predicts; by default `CurvePredictor()`.
      seed: of sampling and of the share.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> def train(configuration):
      ...     for epoch in range(9):
      ...         yield configuration["end"] * (1 - 0.5 ** (epoch + 1))
      >>> result = Hyperband(9).run(lambda rng: {"end": rng.uniform()}, train)
      >>> len(result.contestants), result.epochs_spent
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
        if eta < 2 or max_epochs < 1:
            raise ValueError(
                f"Received max_epochs={max_epochs} and eta={eta}; expected at least 1 epoch and "
                "at least 2 contestants for each that is promoted."
            )
        if not 0.0 <= always_finish <= 1.0:
            raise ValueError(
                f"Received always_finish={always_finish}; expected a share from 0 to 1."
            )
        self.max_epochs = max_epochs
        self.eta = eta
        self._rule = StopRule(confidence if confidence is not None else 0.5, mode=mode)
        self._predicts = confidence is not None
        self._always_finish = always_finish
        self._predictor = predictor or CurvePredictor()
        self._seed = seed

    def brackets(self) -> list[list[tuple[int, int]]]:
        """Returns each bracket's rungs: how many contestants, to how many epochs in all.

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
        """Runs all brackets.

        Args:
          sample: gives a configuration, from a NumPy generator.
          train: begins a training: yields the metric after each epoch, and is not asked for more
            once its contestant is out.
          rounds: how many times all brackets are run; later ones learn from earlier ones.

        Returns:
          All contestants and the best.

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
                promoted = bracket[number + 1][0] if number + 1 < len(bracket) else 1
                rung = _Rung(self, epochs, promoted, everyone)
                for one in group:
                    rung.train(one, trainings[id(one)], id(one) in spared)
                group = rung.best(group)
        return HyperbandResult(everyone, self._rule.mode)


class _Rung:
    """Trains contestants up to so many epochs."""

    def __init__(
        self, owner: Hyperband, epochs: int, promoted: int, everyone: list[HyperbandTrial]
    ) -> None:
        self._owner, self._epochs, self._promoted = owner, epochs, promoted
        rule = owner._rule
        self._rule = StopRule(rule.confidence, promoted, 0.0, rule.mode)
        self._ends: list[float] = []
        known = [
            one
            for one in everyone
            if len(one.values) >= epochs and all(map(math.isfinite, one.values))
        ]
        predictor = owner._predictor
        needed = max(
            1, StopRule(rule.confidence).curves_needed(predictor.rule, predictor.min_curves)
        )
        self._predicts = owner._predicts and epochs > 1 and len(known) >= needed
        if self._predicts:
            rows = [one.configuration for one in known]
            self._table = FeatureTable(rows)
            curves = [one.values[:epochs] for one in known]
            predictor.fit(curves, self._table.encode(rows))

    def train(self, one: HyperbandTrial, training: Iterator[float], is_spared: bool) -> None:
        while len(one.values) < self._epochs:
            value = next(training, None)
            if value is None:
                raise ValueError(
                    f"Received a training that ended after {len(one.values)} epochs; expected "
                    f"{self._epochs}. Let `train` yield a value for each of max_epochs="
                    f"{self._owner.max_epochs} epochs."
                )
            one.values.append(float(value))
            if not math.isfinite(one.values[-1]):
                return
            if self._predicts and not is_spared and self._is_hopeless(one):
                one.stopped = True
                return
        self._ends.append(one.values[-1])

    def _is_hopeless(self, one: HyperbandTrial) -> bool:
        to_beat = self._rule.to_beat(self._ends)
        if len(one.values) >= self._epochs or to_beat is None:
            return False
        features = self._table.encode([one.configuration])
        found = self._owner._predictor.predict([one.values], features)
        return bool(self._rule.stops(found, to_beat)[0])

    def best(self, contestants: list[HyperbandTrial]) -> list[HyperbandTrial]:
        whole = [
            one
            for one in contestants
            if not one.stopped and len(one.values) >= self._epochs and math.isfinite(one.values[-1])
        ]
        sign = -1.0 if self._rule.mode == "max" else 1.0
        return sorted(whole, key=lambda one: sign * one.values[-1])[: self._promoted]
