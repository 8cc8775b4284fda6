"""Searches replayed on a table of trainings: all see the same curves and the same clock."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.common.records import Records, read_rows
from benchmarks.search.report import rises
from benchmarks.search.table import Task, average_seconds
from keras_qan.data import Examples
from keras_qan.early_stopping import CurvePredictor, StopRule
from keras_qan.metaqnn import EpsilonSchedule, MetaQNN, QLearning, Stopping
from keras_qan.metaqnn.search_data import SearchData
from keras_qan.metaqnn.space import Layer, format_architecture
from keras_qan.metaqnn.trial import TrialOutcome
from keras_qan.parallel import Call


class OutOfTime(BaseException):
    """The budget is spent; not an Exception, as KerasTuner takes those for failed trials."""


class Bench:
    """Looks the trainings of a task's table up, and counts the seconds that they took."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._rows = {row["architecture"]: row for row in read_rows(task.path)}
        self.budget = task.models * average_seconds(task)
        self.clock = 0.0
        self.trace: list[tuple[float, float]] = []

    def train(self, text: str) -> Iterator[float]:
        """Yields the validation accuracy after each epoch, and lets the time pass."""
        row = self._rows[text]
        for number, value in enumerate(row["curve"]):
            self._wait(row["seconds_each"] + (row["seconds_first"] if number == 0 else 0.0))
            self.trace.append((self.clock, value))
            yield value

    def _wait(self, seconds: float) -> None:
        self.clock += seconds
        if self.clock > self.budget:
            raise OutOfTime


class TableExecutor:
    """Executor of `MetaQNN` that looks trials up.

    Args:
      bench: looks them up.
      stopping: of trials; None to stop none.
    """

    is_here = False
    workers = 1

    def __init__(self, bench: Bench, stopping: Stopping | None) -> None:
        self._bench, self._stopping = bench, stopping
        self._curves: list[list[float]] = []
        if stopping:
            self._rule = StopRule(stopping.confidence, stopping.keep_best)
        self._predictor = CurvePredictor(["svr_linear", "least_squares"])

    def map(self, calls: list[Call]) -> Iterator[TrialOutcome]:
        """Yields the trials' outcomes, looked up."""
        return (self._train(call.arguments["architecture"]) for call in calls)

    def _train(self, text: str) -> TrialOutcome:
        seen: list[float] = []
        for value in self._bench.train(text):
            seen.append(value)
            end = self._predicted_behind(seen)
            if end is not None:
                observed = self._stopping.reward == "observed"
                worth = max(seen) if observed else min(1.0, max(*seen, end))
                return TrialOutcome("stopped", max(seen), worth, tuple(seen), predicted=end)
        self._curves.append(seen)
        if self._stopping and len(self._curves) >= 10:
            self._predictor.fit(self._curves)
        return TrialOutcome("trained", max(seen), max(seen), tuple(seen))

    def _predicted_behind(self, seen: list[float]) -> float | None:
        epochs = self._bench.task.recipe.epochs
        if self._stopping is None or len(seen) == epochs or len(self._curves) < 10:
            return None
        threshold = self._rule.threshold(curve[-1] for curve in self._curves)
        found = self._predictor.predict([seen])
        return float(found.end[0]) if self._rule.should_stop(found, threshold)[0] else None


@dataclass(frozen=True)
class Searched:
    """MetaQNN itself, until the time is over.

    Args:
      schedule: of ε, by the number of models that there is time for; the paper's unless given.
      stopping: of trials; none unless given.
      learning: further settings of `QLearning`.
    """

    schedule: Callable[[int], EpsilonSchedule] = EpsilonSchedule.scaled
    stopping: Stopping | None = None
    learning: dict[str, float] = field(default_factory=dict)

    def __call__(self, bench: Bench, seed: int) -> None:
        """Searches."""
        task = bench.task
        learning = QLearning(self.schedule(task.models), **self.learning)
        blank = Examples(np.zeros((10, *task.image), np.float32), np.arange(10))
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            search = MetaQNN(
                task.space, SearchData(blank, blank, None, 10, "table"), folder, seed,
                learning, task.recipe, engine=TableExecutor(bench, self.stopping),
            )  # fmt: skip
            search.run(10_000, verbose=0)


def tpe(bench: Bench, seed: int, prunes: bool) -> None:
    """Optuna's TPE, one choice a layer, among what the state space allows there."""
    import optuna

    from keras_qan.early_stopping import CurvePruner

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = bench.task.states()
    known: dict[str, float] = {}
    pruned: set[str] = set()

    def objective(trial: optuna.Trial) -> float:
        state, layers = states.initial_state(), []
        while not state.ends:
            names = [str(layer) for layer in states.legal_actions(state)]
            place = f"{state.depth}: {'|'.join(names)}"
            layers.append(Layer.parse(trial.suggest_categorical(place, names)))
            state = states.next_state(state, layers[-1])
        text = format_architecture(layers)
        if text not in known:  # what was trained is not trained again, as in MetaQNN
            best = 0.0
            for step, value in enumerate(bench.train(text)):
                best = max(best, value)
                trial.report(value, step)
                known[text] = best
                if prunes and trial.should_prune():
                    pruned.add(text)
                    break
        if text in pruned:
            raise optuna.TrialPruned
        return known[text]

    pruner = CurvePruner(0.9, 3, predictor=CurvePredictor(["svr_linear", "least_squares"]))
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=pruner if prunes else optuna.pruners.NopPruner(),
    )
    study.optimize(objective, n_trials=1_000)


def hyperband(bench: Bench, seed: int) -> None:
    """KerasTuner's Hyperband; a promoted model goes on where it was, as its weights are kept."""
    import keras_tuner

    states = bench.task.states()
    trained: dict[str, Iterator[float]] = {}
    curves: dict[str, list[float]] = {}

    class Replayed(keras_tuner.engine.base_tuner.BaseTuner):
        """Looks trials up."""

        def run_trial(self, trial, *_, **__):
            """Trains to the rung's epochs."""
            space = trial.hyperparameters
            state, layers = states.initial_state(), []
            while not state.ends:
                names = [str(layer) for layer in states.legal_actions(state)]
                place = f"{state.depth}: {'|'.join(names)}"
                layers.append(Layer.parse(space.Choice(place, names)))
                state = states.next_state(state, layers[-1])
            text = format_architecture(layers)
            training = trained.setdefault(text, bench.train(text))
            curve = curves.setdefault(text, [])
            while len(curve) < int(space.values.get("tuner/epochs", bench.task.recipe.epochs)):
                curve.append(next(training))
            return {"score": max(curve)}

        def load_model(self, trial):
            """Nothing to load."""

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = keras_tuner.oracles.HyperbandOracle(
            keras_tuner.Objective("score", "max"), max_epochs=bench.task.recipe.epochs, factor=3,
            hyperband_iterations=100, seed=seed, hyperparameters=_all_choices(states),
        )  # fmt: skip
        tuner = Replayed(oracle, None, directory=folder, overwrite=True)
        tuner.search(verbose=0)


def _all_choices(states):
    """KerasTuner's oracle wants to know every choice beforehand."""
    import keras_tuner

    space = keras_tuner.HyperParameters()
    waiting = [states.initial_state()]
    while waiting:
        state = waiting.pop()
        layers = states.legal_actions(state)
        if layers:
            names = [str(layer) for layer in layers]
            space.Choice(f"{state.depth}: {'|'.join(names)}", names)
        waiting += [states.next_state(state, layer) for layer in layers]
    return space


def at_random(models: int) -> EpsilonSchedule:
    """Exploration alone."""
    del models
    return EpsilonSchedule(((1.0, 1),))


def brief(models: int) -> EpsilonSchedule:
    """Three twentieths of the models at random, then ε is 0.2."""
    return EpsilonSchedule(((1.0, 3 * models // 20), (0.2, 1)))


#: Found on digits, on other seeds (see RESULTS.md).
HIGH_START = {"learning_rate": 0.3, "initial": 0.97}
PREDICTED, OBSERVED = Stopping(0.9, 3), Stopping(0.9, 3, reward="observed")

ARMS: dict[str, Callable[[Bench, int], None]] = {
    "random": Searched(at_random),
    "random, stopping": Searched(at_random, OBSERVED),
    "MetaQNN": Searched(),
    "MetaQNN, stopping, predicted reward": Searched(stopping=PREDICTED),
    "MetaQNN, stopping, observed reward": Searched(stopping=OBSERVED),
    "MetaQNN, brief exploration, α 0.1, Q₀ 0.9": Searched(
        brief, learning={"learning_rate": 0.1, "initial": 0.9}
    ),
    "MetaQNN, brief exploration, α 0.3, Q₀ 0.97": Searched(brief, learning=HIGH_START),
    "MetaQNN, brief exploration, α 0.3, Q₀ 0.97, stopping": Searched(brief, OBSERVED, HIGH_START),
    "TPE (Optuna)": lambda bench, seed: tpe(bench, seed, False),
    "TPE (Optuna), CurvePruner": lambda bench, seed: tpe(bench, seed, True),
    "Hyperband (KerasTuner)": hyperband,
}


def run(task: Task, out: Path, seeds: int) -> None:
    """Replays every arm with every seed."""
    if not task.path.exists():
        raise SystemExit("There is no table: run --part=table first.")
    records = Records(out, "arm", "seed")
    keys = ((arm, seed) for seed in range(seeds) for arm in ARMS)
    for arm, seed in records.missing(keys):
        bench = Bench(task)
        with contextlib.suppress(OutOfTime):
            ARMS[arm](bench, seed)
        spent = min(1.0, bench.clock / bench.budget)
        trace = [(at / bench.budget, value) for at, value in bench.trace]
        records.add({"arm": arm, "seed": seed, "spent": spent, "trace": rises(trace)})
