"""MetaQNN: a search of architectures by Q-learning."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import warnings
import weakref
from typing import Any, Literal

import numpy as np

from keras_qan.early_stopping import CurvePredictor, CurveStopping
from keras_qan.metaqnn import records
from keras_qan.metaqnn.ensemble import Ensemble, retrain_best
from keras_qan.metaqnn.q_learning import QLearning, QLearningAgent
from keras_qan.metaqnn.recipe import Recipe, Stopping
from keras_qan.metaqnn.records import ModelRecord
from keras_qan.metaqnn.remote import run_trials
from keras_qan.metaqnn.search_data import as_search_data
from keras_qan.metaqnn.space import Space, format_architecture, parse_architecture
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.metaqnn.trial import Trial, TrialOutcome
from keras_qan.metaqnn.warm_start import InheritedWeights, WarmStarter
from keras_qan.parallel import Executor, LocalExecutor
from keras_qan.storage import event_file, files
from keras_qan.storage.lock import Lock
from keras_qan.utils import progress
from keras_qan.utils.validation import check, check_folder, check_integer

#: The search ends after this many known samples in a row.
_MOST_REPEATS = 200


class MetaQNN:
    """Searches architectures by Q-learning (arXiv:1611.02167).

    Each sampled architecture is trained and rewarded with its best validation accuracy; one that
    was trained before is learned from again, but not trained again. Everything is kept in the
    directory, one row a model, from which an interrupted search resumes.

    Args:
      space: of the architectures.
      data: `keras_qan.data.load(...)`, the name of a data set, or ((x, y), (x, y)) to train and
        validate on.
      directory: of the search; resumed from if it holds this search.
      seed: of everything random. Defaults to 0.
      learning: settings of the agent. Defaults to `QLearning()`.
      recipe: of each model's training. Defaults to `Recipe()`.
      stopping: early stopping of models that are predicted to end behind. Defaults to none.
      warm_start: whether a new model starts from its nearest trained relative, grown by net2net.
        Defaults to False.
      engine: executor that trains the models. Defaults to this process.
      parallel: number of models sampled and trained at once. Defaults to the executor's workers.

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
        *,
        warm_start: bool = False,
        engine: Executor | None = None,
        parallel: int | None = None,
    ) -> None:
        check(isinstance(space, Space), "MetaQNN's space", space, "Space.small_images()")
        for name, value, kind in (
            ("learning", learning, QLearning),
            ("recipe", recipe, Recipe),
            ("stopping", stopping, Stopping),
        ):
            fits = value is None or isinstance(value, kind)
            check(fits, f"MetaQNN's {name}", value, f"{kind.__name__}(), or None")
        self._engine = engine or LocalExecutor()
        self._parallel = self._engine.workers if parallel is None else parallel
        check_integer("parallel", self._parallel, 1, hint="It counts models trained at once.")
        self.seed = check_integer("seed", seed, 0)
        self.task = as_search_data(data)
        self.state_space = StateSpace(space, self.task.input_shape, self.task.num_classes)
        self.directory = check_folder("MetaQNN's directory", directory)
        self.learning = learning or QLearning()
        self.recipe = recipe or Recipe()
        self.stopping = stopping
        self.warm_start = warm_start
        self.directory.mkdir(parents=True, exist_ok=True)
        weakref.finalize(self, Lock(self.directory).release)
        records.open_directory(self.directory, self._settings())
        self._stopper = self._make_stopper()
        self._warm_starter = WarmStarter(self.directory / "weights", self.state_space)
        self.agent = QLearningAgent(self.state_space, self.learning)
        self._rows: list[ModelRecord] = []
        self._numbers: dict[str, int] = {}
        for row in records.read(self.directory):
            self._replay(row)

    @property
    def models(self) -> list[ModelRecord]:
        """All rows, in the order in which they were trained."""
        return list(self._rows)

    @property
    def num_models(self) -> int:
        """Number of different models that were trained."""
        return sum(row.counts for row in self._rows)

    def run(
        self,
        models: int,
        watch: progress.Progress | None = None,
        *,
        verbose: int | Literal["auto"] = 1,
    ) -> list[ModelRecord]:
        """Train until there is a number of different models, those of earlier runs included.

        Args:
          models: the number of models in all.
          watch: shows progress. Defaults to what `verbose` says.
          verbose: as in Keras: 0 for silence, 1 for bars on a terminal and lines elsewhere, with
            each model that is the best so far or was stopped, 2 for a line a model. Defaults to 1.

        Returns:
          All rows.

        Raises:
          ValueError: `models` is below 1, or `verbose` is out of range.
        """
        check_integer("models", models, 1)
        shown = progress.for_verbosity(verbose)
        with watch or shown as bars:
            bars.start("models", self.num_models, models, 0)
            while self.num_models < models:
                batch = self._propose(min(self._parallel, models - self.num_models))
                if not batch:
                    warnings.warn(
                        f"The last {_MOST_REPEATS} samples were known already: the search ends "
                        f"with {self.num_models} of {models} models. Explore more, or use a larger "
                        "space.",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                    break
                trials = [self._make_trial(proposal) for proposal in batch]
                outcomes = run_trials(trials, self._engine)
                for proposal, outcome in zip(batch, outcomes, strict=True):
                    best = self.best(1)
                    row = self._record(proposal, outcome)
                    bars.advance()
                    is_best = not best or row.score > best[0].score
                    bars.say(row.describe(is_best), is_best or row.status != "trained")
        text = json.dumps(self.agent.table.as_data(), sort_keys=True)
        files.replace(self.directory / records.VALUES, text + "\n")
        return self.models

    def best(self, count: int = 5) -> list[ModelRecord]:
        """Return the rows with the best validation accuracy, best first.

        Args:
          count: how many at most. Defaults to 5.
        """
        scored = [row for row in self._rows if math.isfinite(row.score)]
        return sorted(scored, key=lambda row: (-row.score, row.number))[:count]

    def ensemble(
        self,
        count: int = 5,
        retrain: int = 10,
        recipe: Recipe | None = None,
        *,
        verbose: int | Literal["auto"] = 1,
    ) -> Ensemble:
        """Train the best models anew and average the best of them.

        Args:
          count: the number of models averaged. Defaults to 5.
          retrain: the number of models trained anew, at least `count`. Defaults to 10.
          recipe: of the training. Defaults to that of the search, without stopping.
          verbose: as of `run`. Defaults to 1.

        Returns:
          The ensemble, chosen by validation accuracy.

        Raises:
          ValueError: there are no models, or a count is out of range.
        """
        check_integer("retrain", retrain, 1)
        check_integer("count", count, 1, retrain, hint=f"retrain={retrain} models are trained.")
        rows = self.best(retrain)
        if not rows:
            raise ValueError("Received no finished model; expected some. Call run(models=...).")
        trials = [
            Trial(
                architecture=row.architecture,
                state_space=self.state_space,
                train=self.task.train,
                validation=self.task.validation,
                # A rate that was too high in the search would be so again.
                recipe=recipe or self.recipe.scale_rates(self.recipe.restart_factor**row.restarts),
                seed=self._seed_for("final", row.number),
            )
            for row in rows
        ]
        return retrain_best(trials, count, progress.for_verbosity(verbose))

    def _propose(self, count: int) -> list[_Proposal]:
        """Sample new architectures; known ones that come up are learned from again."""
        found: list[_Proposal] = []
        while len(found) < count:
            place = len(found)
            number = len(self._rows) + place
            rng = np.random.default_rng(self._seed_for("sample", number))
            learning_rng = np.random.default_rng(self._seed_for("replay", number))
            epsilon = self.learning.epsilon.epsilon_at(self.num_models + place)
            repeats: list[int] = []
            pending = {proposal.architecture for proposal in found}
            for _ in range(_MOST_REPEATS):
                text = format_architecture(self.agent.sample(epsilon, rng))
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

    def _make_trial(self, proposal: _Proposal) -> Trial:
        if self.warm_start:
            seed = self._seed_for("grow", proposal.number)
            found = self._warm_starter.inherit(proposal.architecture, self._rows, seed)
            proposal.inherited = found
        return Trial(
            architecture=proposal.architecture,
            state_space=self.state_space,
            train=self.task.train,
            validation=self.task.validation,
            recipe=self.recipe,
            seed=self._seed_for("train", proposal.number),
            stopper=copy.deepcopy(self._stopper),
            reward=self.stopping.reward if self.stopping else "predicted",
            weights=proposal.inherited.weights if proposal.inherited else None,
            keep_weights=self.warm_start,
        )

    def _record(self, proposal: _Proposal, outcome: TrialOutcome) -> ModelRecord:
        if outcome.weights is not None:
            self._warm_starter.save(proposal.number, proposal.architecture, outcome.weights)
        inherited = proposal.inherited
        architecture = parse_architecture(proposal.architecture)
        row = ModelRecord(
            number=proposal.number,
            architecture=proposal.architecture,
            epsilon=proposal.epsilon,
            status=outcome.status,
            score=outcome.score,
            reward=outcome.reward,
            curve=outcome.curve,
            predicted=outcome.predicted,
            parameters=self.state_space.state_after(architecture).parameters,
            learning_rate=outcome.learning_rate,
            restarts=outcome.restarts,
            seconds=outcome.seconds,
            repeats=proposal.repeats,
            relative=inherited.relative if inherited else None,
            share=inherited.share if inherited else 0.0,
        )
        records.append(self.directory, row)
        self._add(row, proposal.learning_rng)
        event_file.write_trial(
            self.directory / "tensorboard" / f"model_{row.number}",
            {
                "architecture": row.architecture,
                "layers": len(architecture),
                "parameters": row.parameters,
                "learning_rate": row.learning_rate,
                "epsilon": row.epsilon,
            },
            {"val_accuracy": row.score, "epochs": len(row.curve), "seconds": row.seconds},
        )
        return row

    def _replay(self, row: ModelRecord) -> None:
        """Repeat the learning that was done when the row was written."""
        rng = np.random.default_rng(self._seed_for("replay", row.number))
        for number in row.repeats:
            known = self._rows[number]
            self.agent.remember(known.architecture, known.reward, rng)
        self._add(row, rng)

    def _add(self, row: ModelRecord, rng: np.random.Generator) -> None:
        self._rows.append(row)
        self._numbers[row.architecture] = row.number
        if row.counts:
            self.agent.remember(row.architecture, row.reward, rng)

    def _make_stopper(self) -> CurveStopping | None:
        if self.stopping is None:
            return None
        return CurveStopping(
            self.directory / "curves",
            "val_accuracy",
            self.stopping.confidence,
            self.stopping.keep_best,
            self.stopping.margin,
            mode="max",
            predictor=CurvePredictor(["svr_linear", "least_squares"]),
        )

    def _seed_for(self, purpose: str, number: int) -> int:
        """Derive a seed for a purpose and a model."""
        streams = ("sample", "replay", "train", "grow", "final")
        entropy = [self.seed, streams.index(purpose), number]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)

    def _settings(self) -> dict[str, Any]:
        return {
            "space": dataclasses.asdict(self.state_space.space),
            "data": self.task.as_data(),
            "seed": self.seed,
            "learning": dataclasses.asdict(self.learning),
            "recipe": dataclasses.asdict(self.recipe),
            "stopping": dataclasses.asdict(self.stopping) if self.stopping else None,
            "warm_start": self.warm_start,
        }


@dataclasses.dataclass(eq=False)
class _Proposal:
    """A sampled architecture that is to be trained."""

    number: int
    architecture: str
    epsilon: float
    repeats: tuple[int, ...]
    learning_rng: np.random.Generator
    inherited: InheritedWeights | None = None
