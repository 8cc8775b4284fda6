"""Searches replayed on a table of trainings: all see the same curves and the same clock."""

from __future__ import annotations

import contextlib
import itertools
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import table

from benchmarks.common.records import Records, read_rows
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan.data import Examples
from keras_qan.early_stopping import CurvePredictor, StopRule
from keras_qan.metaqnn import EpsilonSchedule, MetaQNN, QLearning
from keras_qan.metaqnn.search_data import SearchData
from keras_qan.metaqnn.space import Layer, format_architecture
from keras_qan.metaqnn.trial import TrialOutcome
from keras_qan.parallel import Call

EPOCHS = table.RECIPE.epochs
#: Models that the budget of time is enough for, on average, when each is trained to its end.
BUDGET_MODELS = 20


class OutOfTime(BaseException):
    """The budget is spent; not an Exception, as KerasTuner takes those for failed trials."""


class Bench:
    """Looks trainings up, and counts the seconds that they took.

    Args:
      rows: the table.
      budget: seconds.
    """

    def __init__(self, rows: list[dict], budget: float) -> None:
        self._rows = {row["architecture"]: row for row in rows}
        self.budget = budget
        self.clock = 0.0
        self.trace: list[tuple[float, float]] = []

    def train(self, text: str) -> Iterator[float]:
        """Yields the validation accuracy after each epoch, and lets the time pass."""
        row = self._rows[text]
        for number, value in enumerate(row["curve"]):
            self._wait(row["seconds_each"] + (row["seconds_first"] if number == 0 else 0.0))
            self.trace.append((self.clock, value))
            yield value

    def best_at(self, share: float) -> float:
        """The least validation error at a share of the budget."""
        seen = [value for at, value in self.trace if at <= share * self.budget]
        return 1.0 - max(seen, default=0.0)

    def _wait(self, seconds: float) -> None:
        self.clock += seconds
        if self.clock > self.budget:
            raise OutOfTime


class TableExecutor:
    """Executor of `MetaQNN` that looks trials up.

    Args:
      bench: looks them up.
      reward: of a stopped trial; None to stop none.
    """

    is_here = False
    workers = 1

    def __init__(self, bench: Bench, reward: str | None) -> None:
        self._bench, self._reward = bench, reward
        self._curves: list[list[float]] = []
        self._rule = StopRule(0.9, 3)
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
                worth = min(1.0, max(*seen, end)) if self._reward == "predicted" else max(seen)
                return TrialOutcome("stopped", max(seen), worth, tuple(seen), predicted=end)
        self._curves.append(seen)
        if self._reward and len(self._curves) >= 10:
            self._predictor.fit(self._curves)
        return TrialOutcome("trained", max(seen), max(seen), tuple(seen))

    def _predicted_behind(self, seen: list[float]) -> float | None:
        if self._reward is None or len(seen) == EPOCHS or len(self._curves) < 10:
            return None
        threshold = self._rule.threshold(curve[-1] for curve in self._curves)
        found = self._predictor.predict([seen])
        return float(found.end[0]) if self._rule.should_stop(found, threshold)[0] else None


def metaqnn(bench: Bench, seed: int, reward: str | None, schedule: EpsilonSchedule) -> None:
    """MetaQNN itself, until the time is over."""
    blank = Examples(np.zeros((10, 8, 8, 1), np.float32), np.arange(10))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        search = MetaQNN(
            table.SPACE, SearchData(blank, blank, None, 10, "table"), folder, seed,
            QLearning(schedule), table.RECIPE, engine=TableExecutor(bench, reward),
        )  # fmt: skip
        search.run(10_000)


def tpe(bench: Bench, seed: int, prunes: bool) -> None:
    """Optuna's TPE, one choice a layer, among what the state space allows there."""
    import optuna

    from keras_qan.early_stopping import CurvePruner

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = table.state_space()
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
    study.optimize(objective, n_trials=300)


def hyperband(bench: Bench, seed: int) -> None:
    """KerasTuner's Hyperband; a promoted model goes on where it was, as its weights are kept."""
    import keras_tuner

    states = table.state_space()
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
            while len(curve) < int(space.values.get("tuner/epochs", EPOCHS)):
                curve.append(next(training))
            return {"score": max(curve)}

        def load_model(self, trial):
            """Nothing to load."""

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = keras_tuner.oracles.HyperbandOracle(
            keras_tuner.Objective("score", "max"), max_epochs=EPOCHS, factor=3,
            hyperband_iterations=10, seed=seed, hyperparameters=_all_choices(states),
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


ALWAYS = EpsilonSchedule(((1.0, 1),))
PAPER = EpsilonSchedule.scaled(BUDGET_MODELS)
QUICK = EpsilonSchedule(((1.0, 5), (0.5, 3), (0.1, 1)))

ARMS: dict[str, Callable[[Bench, int], None]] = {
    "random": lambda bench, seed: metaqnn(bench, seed, None, ALWAYS),
    "random, stopping": lambda bench, seed: metaqnn(bench, seed, "observed", ALWAYS),
    "MetaQNN": lambda bench, seed: metaqnn(bench, seed, None, PAPER),
    "MetaQNN, stopping, predicted reward": lambda bench, seed: metaqnn(
        bench, seed, "predicted", PAPER
    ),
    "MetaQNN, stopping, observed reward": lambda bench, seed: metaqnn(
        bench, seed, "observed", PAPER
    ),
    "MetaQNN, explores 8 models": lambda bench, seed: metaqnn(bench, seed, None, QUICK),
    "MetaQNN, explores 8 models, stopping": lambda bench, seed: metaqnn(
        bench, seed, "predicted", QUICK
    ),
    "TPE (Optuna)": lambda bench, seed: tpe(bench, seed, False),
    "TPE (Optuna), CurvePruner": lambda bench, seed: tpe(bench, seed, True),
    "Hyperband (KerasTuner)": hyperband,
}


def run(path: Path, out: Path, seeds: int) -> None:
    """Replays every arm with every seed."""
    rows = read_rows(path)
    if not rows:
        raise SystemExit("There is no table: run --part table first.")
    whole = [row["seconds_first"] + EPOCHS * row["seconds_each"] for row in rows]
    budget = BUDGET_MODELS * float(np.mean(whole))
    records = Records(out, "arm", "seed")
    for arm, seed in records.missing(itertools.product(ARMS, range(seeds))):
        bench = Bench(rows, budget)
        with contextlib.suppress(OutOfTime):
            ARMS[arm](bench, seed)
        halves = {"half": bench.best_at(0.5), "full": bench.best_at(1.0)}
        records.add({"arm": arm, "seed": seed} | halves | {"trace": _steps(bench)})


def report(out: Path) -> None:
    """Prints errors at half and at the whole time, and differences from random search."""
    rows = read_rows(out)
    by_arm = {arm: {r["seed"]: r for r in rows if r["arm"] == arm} for arm in ARMS}
    base = by_arm["random"]
    if not base:
        return
    goal = float(np.mean([row["full"] for row in base.values()]))
    print(f"random search's mean error at the whole time: {goal:.4f}\n")
    columns = ("arm", "error at half", "error at the end", "end − random (95 %)", "time to it")
    print(format_header(*columns))
    for arm, found in by_arm.items():
        if not found:
            continue
        half = [100 * row["half"] for row in found.values()]
        full = [100 * row["full"] for row in found.values()]
        paired = [100 * (found[s]["full"] - base[s]["full"]) for s in found if s in base]
        reached = [
            next((at for at, value in row["trace"] if 1 - value <= goal + 1e-12), math.inf)
            for row in found.values()
        ]
        errors = (f"{np.mean(half):.2f} %", f"{np.mean(full):.2f} %")
        print(format_row(arm, *errors, format_mean(paired, "+.2f"), f"{np.median(reached):.2f}"))


def _steps(bench: Bench) -> list[tuple[float, float]]:
    """(share of the budget, accuracy) wherever the best so far rose."""
    best, found = 0.0, []
    for at, value in bench.trace:
        if value > best:
            best = value
            found.append((at / bench.budget, value))
    return found
