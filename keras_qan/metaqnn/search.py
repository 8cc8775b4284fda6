"""MetaQNN: the search."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan.early_stopping import CurvePredictor, CurveStopping
from keras_qan.metaqnn import records
from keras_qan.metaqnn.ensemble import Ensemble, retrained
from keras_qan.metaqnn.q_learning import QLearning, QLearningAgent
from keras_qan.metaqnn.recipe import Recipe, Stopping
from keras_qan.metaqnn.records import Model
from keras_qan.metaqnn.search_data import as_search_data
from keras_qan.metaqnn.space import Space, architecture, text_of
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.metaqnn.trial import Trial, TrialOutcome, run_trial
from keras_qan.metaqnn.warm_start import InheritedWeights, WarmStarter
from keras_qan.storage.lock import Lock
from keras_qan.utils import progress

#: Runs trials: given `run_trial` and a sequence of trials, gives their outcomes in order.
TrialMap = Callable[[Callable[[Trial], TrialOutcome], Sequence[Trial]], Iterable[TrialOutcome]]

#: After so many samples in a row that are known already, nothing new is expected.
_MOST_REPEATS = 200


class MetaQNN:
    """Searches architectures by Q-learning (arXiv:1611.02167).

    Each sampled architecture is trained and rewarded with its best validation accuracy; one that
    was trained before is not trained again, only learned from once more. Everything is kept in the
    directory, one row a model, and a search that was broken off goes on from there.

    Args:
      space: what may be built.
      data: `keras_qan.data.load(...)`, the name of a data set, or ((x, y), (x, y)) to train and
        validate on.
      directory: where the search is kept; gone on from if it holds this search.
      seed: what everything random follows from.
      learning: how the agent explores and learns.
      recipe: how each model is trained, within which time.
      stopping: stops models that are predicted to end behind the best; None for never.
      warm_start: whether a new model starts from its nearest trained relative, grown by net2net.
      engine: runs trials; given a function and trials it gives their outcomes in order, as `map`
        does, which runs them here.
      parallel: how many trials the engine is given at once.

    Raises:
      ImpossibleSpaceError: nothing of the space fits the data.
      ValueError: the labels do not match the classes, or the directory holds another search.
      DirectoryInUseError: another process writes to the directory.

    Example:
      >>> search = MetaQNN(Space.small_images(), "digits", "runs/metaqnn")  # doctest: +SKIP
      >>> search.run(models=60)  # doctest: +SKIP
      >>> search.best(1)[0].architecture  # doctest: +SKIP
      '[C(32,3,1), C(64,3,1), P(2,2), FC(64), SM]'
    """

    def __init__(
        self,
        space: Space,
        data: Any,
        directory: str | os.PathLike[str],
        seed: int = 0,
        learning: QLearning | None = None,
        recipe: Recipe | None = None,
        stopping: Stopping | None = None,
        warm_start: bool = False,
        engine: TrialMap = map,
        parallel: int = 1,
    ) -> None:
        if seed < 0 or parallel < 1:
            raise ValueError(
                f"Received seed={seed} and parallel={parallel}; expected a seed of at least 0 and "
                "at least one trial at once."
            )
        self.task = as_search_data(data)
        self.grammar = StateSpace(space, self.task.input_shape, self.task.num_classes)
        self.directory = Path(directory)
        self.seed = seed
        self.learning = learning or QLearning()
        self.recipe = recipe or Recipe()
        self.stopping = stopping
        self.warm_start = warm_start
        self._engine, self._parallel = engine, parallel
        self.directory.mkdir(parents=True, exist_ok=True)
        weakref.finalize(self, Lock(self.directory).release)
        records.open_directory(self.directory, self._settings())
        self._stopper = self._make_stopper()
        self._nursery = WarmStarter(self.directory / "weights", self.grammar)
        self.agent = QLearningAgent(self.grammar, self.learning)
        self._rows: list[Model] = []
        self._numbers: dict[str, int] = {}
        for row in records.read(self.directory):
            self._learn(row)

    @property
    def models(self) -> list[Model]:
        """All rows, in the order in which they were trained."""
        return list(self._rows)

    @property
    def num_models(self) -> int:
        """How many different models were trained."""
        return sum(row.counts for row in self._rows)

    def run(self, models: int, watch: progress.Progress | None = None) -> list[Model]:
        """Trains until there are so many different models; goes on where it was.

        Args:
          models: how many there are to be in all.
          watch: shows how far it is; by default bars on a terminal, nothing elsewhere.

        Returns:
          All rows.

        Raises:
          ValueError: `models` is below 1.
        """
        if models < 1:
            raise ValueError(f"Received models={models}; expected at least 1.")
        with watch or progress.for_terminal() as bars:
            bars.start("models", self.num_models, models, self.recipe.epochs)
            while self.num_models < models:
                batch = self._proposals(min(self._parallel, models - self.num_models))
                if not batch:
                    warnings.warn(
                        f"The last {_MOST_REPEATS} samples were known already: the search ends "
                        f"with {self.num_models} of {models} models. Explore more, or use a larger "
                        "space.",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                    break
                trials = [self._trial(proposal) for proposal in batch]
                outcomes = self._engine(run_trial, trials)
                for proposal, outcome in zip(batch, outcomes, strict=True):
                    self._finish(proposal, outcome)
                    bars.advance()
        self._write_values()
        return self.models

    def best(self, count: int = 5) -> list[Model]:
        """The rows with the best validation accuracy, best first."""
        scored = [row for row in self._rows if math.isfinite(row.score)]
        return sorted(scored, key=lambda row: (-row.score, row.number))[:count]

    def ensemble(self, count: int = 5, retrain: int = 10, recipe: Recipe | None = None) -> Ensemble:
        """Trains the best models anew and averages the best of them.

        Args:
          count: how many are averaged.
          retrain: how many are trained anew: at least `count`.
          recipe: how; by default as in the search, without stopping.

        Returns:
          The ensemble, chosen by validation accuracy.

        Raises:
          ValueError: there are no models, or a count is out of range.
        """
        if not 1 <= count <= retrain:
            raise ValueError(
                f"Received count={count} and retrain={retrain}; expected 1 ≤ count ≤ retrain."
            )
        rows = self.best(retrain)
        if not rows:
            raise ValueError("Received no finished model; expected some. Call run(models=...).")
        trials = [
            Trial(
                row.architecture,
                self.grammar,
                self.task.train,
                self.task.validation,
                # A rate that was too high in the search would be so again.
                recipe or self.recipe.at_rate(self.recipe.restart_factor**row.restarts),
                self._number_of("final", row.number),
            )
            for row in rows
        ]
        return retrained(trials, count)

    # One model.

    def _proposals(self, count: int) -> list[_Proposal]:
        """Samples so many new architectures; known ones are learned from once more."""
        found: list[_Proposal] = []
        while len(found) < count:
            place = len(found)
            number = len(self._rows) + place
            rng = np.random.default_rng(self._number_of("sample", number))
            learning_rng = np.random.default_rng(self._number_of("replay", number))
            epsilon = self.learning.epsilon.at(self.num_models + place)
            repeats: list[int] = []
            pending = {proposal.architecture for proposal in found}
            for _ in range(_MOST_REPEATS):
                text = text_of(self.agent.sample(epsilon, rng))
                if text in pending:
                    continue
                if text not in self._numbers:
                    found.append(_Proposal(number, text, epsilon, tuple(repeats), learning_rng))
                    break
                known = self._rows[self._numbers[text]]
                if known.counts:
                    repeats.append(known.number)
                    self.agent.remember(known.architecture, known.reward, learning_rng)
            if len(found) == place:
                break  # nothing new is expected
        return found

    def _trial(self, proposal: _Proposal) -> Trial:
        if self.warm_start:
            seed = self._number_of("grow", proposal.number)
            found = self._nursery.inheritance(proposal.architecture, self._rows, seed)
            proposal.inheritance = found
        inherited = proposal.inheritance
        return Trial(
            proposal.architecture,
            self.grammar,
            self.task.train,
            self.task.validation,
            self.recipe,
            self._number_of("train", proposal.number),
            copy.deepcopy(self._stopper),
            self.stopping.reward if self.stopping else "predicted",
            inherited.weights if inherited else None,
            keep_weights=self.warm_start,
        )

    def _finish(self, proposal: _Proposal, outcome: TrialOutcome) -> None:
        if outcome.weights is not None:
            self._nursery.keep(proposal.number, proposal.architecture, outcome.weights)
        inherited = proposal.inheritance
        row = Model(
            number=proposal.number,
            architecture=proposal.architecture,
            epsilon=proposal.epsilon,
            status=outcome.status,
            score=outcome.score,
            reward=outcome.reward,
            curve=outcome.curve,
            predicted=outcome.predicted,
            parameters=self.grammar.after(architecture(proposal.architecture)).parameters,
            learning_rate=outcome.learning_rate,
            restarts=outcome.restarts,
            seconds=outcome.seconds,
            repeats=proposal.repeats,
            relative=inherited.relative if inherited else None,
            share=inherited.share if inherited else 0.0,
        )
        records.append(self.directory, row)
        self._add(row, proposal.learning_rng)

    def _learn(self, row: Model) -> None:
        """Does once more what was done when the row was written."""
        rng = np.random.default_rng(self._number_of("replay", row.number))
        for number in row.repeats:
            known = self._rows[number]
            self.agent.remember(known.architecture, known.reward, rng)
        self._add(row, rng)

    def _add(self, row: Model, rng: np.random.Generator) -> None:
        self._rows.append(row)
        self._numbers[row.architecture] = row.number
        if row.counts:
            self.agent.remember(row.architecture, row.reward, rng)

    # What they are made of.

    def _make_stopper(self) -> CurveStopping | None:
        if self.stopping is None:
            return None
        return CurveStopping(
            self.directory / "curves",
            "val_accuracy",
            self.stopping.confidence,
            self.stopping.keep_best,
            self.stopping.margin,
            predictor=CurvePredictor(["svr_linear", "least_squares"]),
        )

    def _number_of(self, purpose: str, number: int) -> int:
        """A seed of its own for each purpose and model."""
        streams = ("sample", "replay", "train", "grow", "final")
        entropy = [self.seed, streams.index(purpose), number]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)

    def _settings(self) -> dict[str, Any]:
        return {
            "space": dataclasses.asdict(self.grammar.space),
            "data": self.task.as_data(),
            "seed": self.seed,
            "learning": dataclasses.asdict(self.learning),
            "recipe": dataclasses.asdict(self.recipe),
            "stopping": dataclasses.asdict(self.stopping) if self.stopping else None,
            "warm_start": self.warm_start,
        }

    def _write_values(self) -> None:
        text = json.dumps(self.agent.table.as_data(), sort_keys=True)
        records.write_aside(self.directory / records.VALUES, text + "\n")


@dataclasses.dataclass(eq=False)
class _Proposal:
    """An architecture that is to be trained."""

    number: int
    architecture: str
    epsilon: float
    repeats: tuple[int, ...]
    learning_rng: np.random.Generator
    inheritance: InheritedWeights | None = None
