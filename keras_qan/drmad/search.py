"""Trials of a search for averages: asked for in batches, trained here or by workers.

What is drawn for a trial, and what it is pruned by, follows from its number and from the trials of
batches before its own: not from who trains it, and not from when a search was killed.

Bayesian optimisation for the few averages, then hypergradients for the many.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qan.drmad.building import check_hyperparameters
from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.inner_loop import DivergedError
from keras_qan.drmad.tuner import Tuner
from keras_qan.parallel import Call, Executor, LocalExecutor

_log = logging.getLogger(__name__)


#: Complete trials below which none is pruned.
STARTUP_TRIALS = 4


@dataclass(frozen=True)
class TrialEnd:
    """What a trial came to.

    Attributes:
      state: "complete", "pruned" or "diverged".
      value: the final validation loss of a complete one.
      reports: step and validation loss on the way.
    """

    state: str
    value: float | None = None
    reports: list[tuple[int, float]] = field(default_factory=list)


class _PrunedError(Exception):
    """The trial has fallen behind."""


def search_space(hyperparameters: Sequence[Hyperparameter]) -> dict[str, tuple[int, Any]]:
    """By name, the place of each hyperparameter with an average to look for, and its range."""
    return {
        f"{place} {h.name}": (place, h.search)
        for place, h in enumerate(hyperparameters)
        if h.search is not None
    }


def unconstrained_of(tuner: Tuner, params: dict[str, float]) -> list[np.ndarray]:
    """The raw numbers where all of a hyperparameter's are its average in `params`."""
    raws = tuner.initial_raws()
    for name, (place, _) in search_space(tuner.hyperparameters).items():
        raws[place] = np.full_like(
            raws[place], tuner.hyperparameters[place].transform.raw(params[name])
        )
    return raws


def run_trial(
    tuner: Tuner, params: dict[str, float], is_behind: Callable[[list[tuple[int, float]]], bool]
) -> TrialEnd:
    """Trains with these averages; `is_behind` is told the reports so far, at each quarter."""
    stops = sorted({max(1, tuner.steps * quarter // 4) for quarter in (1, 2, 3)})
    reports: list[tuple[int, float]] = []

    def each(step: int, loss: float) -> None:
        reports.append((step, loss))
        if is_behind(reports):
            raise _PrunedError

    try:
        value = tuner.evaluate(unconstrained_of(tuner, params), stops, each)
    except _PrunedError:
        return TrialEnd("pruned", None, reports)
    except DivergedError as error:
        _log.info("A trial diverged: %s", error)
        return TrialEnd("diverged", None, reports)
    return TrialEnd("complete", value, reports)


class Averages:
    """A search for averages in an Optuna study.

    Args:
      optuna: the library.
      study: where trials are kept.
      tuner: what trains here.
      at_once: how many trials are asked for before the first of them is told.
      is_ours: whether nobody else adds trials to the study, so that what is not finished was begun
        by a process that is gone, and is done again.
      seed: of the TPE sampler; None to use the study's own sampler as it is.
      pruner: Optuna's, which is asked here; None for the rule of its `MedianPruner`.
    """

    def __init__(
        self,
        optuna: Any,
        study: Any,
        tuner: Tuner,
        at_once: int,
        is_ours: bool,
        seed: int | None,
        pruner: Any,
    ) -> None:
        self._optuna, self._study, self._tuner = optuna, study, tuner
        self._at_once, self._is_ours, self._seed = at_once, is_ours, seed
        self._pruner = pruner

    def run(self, trials: int, engine: Executor | None = None, source: Call | None = None) -> None:
        """Trains until there are so many trials in all; see `search_then_descend`."""
        engine = engine or LocalExecutor()
        while True:
            first, batch = self._next(trials)
            if not batch:
                return
            asked = [(trial, self._suggested(trial)) for trial in batch]
            ends = self._ends(asked, self.limits(first), engine, source)
            for (trial, _), ended in zip(asked, ends, strict=True):
                self._tell(trial, ended)

    def _ends(
        self,
        asked: list[tuple[Any, dict[str, float]]],
        limits: dict[int, float],
        engine: Executor,
        source: Call | None,
    ) -> Iterator[TrialEnd]:
        if not engine.is_here:
            yield from engine.map([call_for(source, params, limits) for _, params in asked])
            return
        for trial, params in asked:
            judge = self._judge(trial) if self._pruner is not None else is_pruned_by(limits)
            yield run_trial(self._tuner, params, judge)

    def _next(self, trials: int) -> tuple[int, list[Any]]:
        """The next batch: the number of its first trial, and those of it that are not finished."""
        found = self._study.get_trials(deepcopy=False)
        if not self._is_ours:
            left = trials - sum(trial.state.is_finished() for trial in found)
            batch = [self._study.ask() for _ in range(min(self._at_once, left))]
            return (batch[0].number if batch else 0), batch
        open_ = [trial.number for trial in found if not trial.state.is_finished()]
        first = min(open_, default=len(found))
        start = first // self._at_once * self._at_once
        stop = min(start + self._at_once, trials)
        batch = [
            self._optuna.trial.Trial(self._study, trial._trial_id)
            for trial in found[start:stop]
            if not trial.state.is_finished()
        ]
        return start, batch + [self._study.ask() for _ in range(len(found), stop)]

    def _suggested(self, trial: Any) -> dict[str, float]:
        """The averages to try; each drawn from a stream of its own, so that a kill moves none."""
        params = {}
        for number, (name, (place, (low, high))) in enumerate(
            search_space(self._tuner.hyperparameters).items()
        ):
            if self._seed is not None:
                state = np.random.SeedSequence([self._seed, trial.number, number])
                self._study.sampler = self._optuna.samplers.TPESampler(
                    seed=int(state.generate_state(1)[0])
                )
            is_log = self._tuner.hyperparameters[place].transform.name == "log"
            params[name] = trial.suggest_float(name, low, high, log=is_log)
        return params

    def limits(self, first: int) -> dict[int, float]:
        """The median, at each step, of complete trials before that one: Optuna's `MedianPruner`."""
        complete = [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.number < first and trial.state.name == "COMPLETE"
        ]
        if len(complete) < STARTUP_TRIALS:
            return {}
        steps = sorted({step for trial in complete for step in trial.intermediate_values})
        return {
            step: float(
                np.median(
                    [
                        trial.intermediate_values[step]
                        for trial in complete
                        if step in trial.intermediate_values
                    ]
                )
            )
            for step in steps
        }

    def _judge(self, trial: Any) -> Callable[[list[tuple[int, float]]], bool]:
        known = set(self._known(trial))

        def is_behind(reports: list[tuple[int, float]]) -> bool:
            step, loss = reports[-1]
            if step not in known:
                trial.report(loss, step)
            return bool(trial.should_prune())

        return is_behind

    def _known(self, trial: Any) -> dict[int, float]:
        """What the store has of a trial's reports: some, where it was begun before a kill."""
        found = self._study.get_trials(deepcopy=False)[trial.number]
        return dict(found.intermediate_values)

    def _tell(self, trial: Any, ended: TrialEnd) -> None:
        known = self._known(trial)
        for step, loss in ended.reports:
            if step not in known:
                trial.report(loss, step)
        states = self._optuna.trial.TrialState
        if ended.state == "complete":
            self._study.tell(trial, ended.value)
        else:
            self._study.tell(trial, state=states.PRUNED if ended.state == "pruned" else states.FAIL)


def is_pruned_by(limits: dict[int, float]) -> Callable[[list[tuple[int, float]]], bool]:
    """Whether the best validation loss of a trial so far is above the limit at its step."""

    def is_behind(reports: list[tuple[int, float]]) -> bool:
        step = reports[-1][0]
        return step in limits and min(loss for _, loss in reports) > limits[step]

    return is_behind


def call_for(source: Call | None, params: dict[str, float], limits: dict[int, float]) -> Call:
    """A trial as a task for any engine.

    Raises:
      ValueError: nothing says how another process makes the tuner.
    """
    if source is None:
        raise ValueError(
            "search_then_descend got an engine whose workers are other processes, and no source, "
            "so that none could make the tuner; expected for example "
            "source=Call('my_module:make_tuner', {'size': 3}), with a function that returns "
            "drmad.Tuner(...) of the same arguments without a directory. Or leave engine out."
        )
    pairs = [[step, limit] for step, limit in limits.items()]
    return Call(f"{__name__}:run_call", {"source": source, "params": params, "limits": pairs})


#: The last tuner of this process: whoever tries the same one again need not compile anew.
_tuner: tuple[str, Tuner] | None = None


def run_call(source: Call, params: dict[str, float], limits: list[list[float]]) -> TrialEnd:
    """Runs a trial that `call_for` named.

    Raises:
      TypeError: the source gave no tuner.
    """
    global _tuner
    key = hashlib.sha256(pickle.dumps((source.function, source.arguments))).hexdigest()
    if _tuner is None or _tuner[0] != key:
        made = source.perform()
        if not isinstance(made, Tuner):
            raise TypeError(
                f"{source.function} returned a {type(made).__name__}; expected the "
                "keras_qan.drmad.Tuner that it is the source of."
            )
        _tuner = (key, made)
    return run_trial(_tuner[1], params, is_pruned_by({int(step): limit for step, limit in limits}))


#: What Bayesian optimisation can handle, in the words of DrMAD's README.
MOST_AVERAGES = 20


def search_then_descend(
    build_model: Callable[..., keras.Model],
    train: Any,
    validation: Any,
    hyperparameters: Sequence[Hyperparameter],
    directory: str | Path | None = None,
    *,
    trials: int = 20,
    outer_steps: int = 20,
    storage: Any = None,
    study_name: str = "averages",
    sampler: Any = None,
    pruner: Any = None,
    trials_at_once: int = 1,
    engine: Executor | None = None,
    source: Call | None = None,
    **options: Any,
) -> Tuner:
    """Finds the average of each hyperparameter with Optuna, then tunes each number by descent.

    In a trial all numbers of a hyperparameter are the same, drawn from its `search` range; weights
    of examples or classes, whose average is a learning rate's, are left as they are. Trials whose
    validation loss falls behind are pruned at quarters of the training. The descent begins at the
    best trial.

    Trials are asked for in batches of `trials_at_once`, trained by the engine, and told in their
    order; each knows the trials of the batches before its own. So what is found depends on the
    size of a batch, and not on how many workers there are, which of them died, or how often the
    search was killed and gone on with in its directory.

    Args:
      build_model: see `Tuner`.
      train: see `Tuner`.
      validation: see `Tuner`.
      hyperparameters: what to tune; at most 20 have averages to look for.
      directory: where Optuna's study and the descent are kept, and taken up again.
      trials: trainings of the search, in all; pruned and diverged ones count.
      outer_steps: of the descent.
      storage: an Optuna storage or its URL (`"postgresql://…"`); None for `averages.db` (SQLite)
        in the directory, or for memory where there is none.
      study_name: what the study is called there; another for each search that shares a database.
      sampler: an Optuna sampler; None for its TPE sampler, seeded with the training's seed and the
        trial's number.
      pruner: an Optuna pruner, which is asked in this process; None for the rule of its median
        pruner.
      trials_at_once: the size of a batch.
      engine: what trains them; by default this process, one after the other.
      source: how a worker makes the tuner: a function that returns `Tuner(...)` of the same
        arguments without a directory; needed where the engine's workers are other processes.
      **options: `method`, `training`, `outer`, `strategy`, as for `Tuner`.

    Returns:
      The tuner, searched; its `study` is Optuna's.

    Raises:
      ImportError: Optuna is not installed.
      ValueError: an argument does not fit.
      DivergedError: every trial diverged.
      TaskError: a worker's trial raised; the trials before it are kept.
      WorkerDiedError: a trial's worker died again and again.
    """
    optuna = _optuna()
    for name, number in (
        ("trials", trials),
        ("outer_steps", outer_steps),
        ("trials_at_once", trials_at_once),
    ):
        if not isinstance(number, int) or number < (name != "outer_steps"):
            raise ValueError(f"search_then_descend got {name}={number!r}; expected a whole number.")
    if pruner is not None and engine is not None and not engine.is_here:
        raise ValueError(
            f"search_then_descend got pruner={pruner!r} and an engine whose workers are other "
            "processes; expected one of them, as workers prune by the rule of the median pruner "
            "alone. Leave pruner or engine out."
        )
    hyperparameters = check_hyperparameters(hyperparameters)
    sought = search_space(hyperparameters)
    if not 0 < len(sought) <= MOST_AVERAGES:
        raise ValueError(
            f"search_then_descend got {len(sought)} hyperparameters with averages to look for; "
            f"expected 1 to {MOST_AVERAGES}, which is what Bayesian optimisation can handle. Use "
            "Tuner alone, or merge some."
        )
    tuner = Tuner(build_model, train, validation, hyperparameters, directory, **options)
    is_ours = storage is None
    if storage is None and tuner.directory is not None:
        storage = f"sqlite:///{(tuner.directory / 'averages.db').resolve()}"
    study = optuna.create_study(
        storage=storage,
        study_name=study_name,
        load_if_exists=True,
        direction="minimize",
        sampler=sampler,
        pruner=pruner,
    )
    tuner.study = study
    if tuner.history:
        return tuner.search(outer_steps)
    seed = tuner.training.seed if sampler is None else None
    averages = Averages(optuna, study, tuner, trials_at_once, is_ours, seed, pruner)
    averages.run(trials, engine, source)
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise DivergedError(
            f"All {len(study.trials)} trials diverged or were pruned; expected one that "
            "trains. Narrow the search of the learning rate: LearningRate(search=(1e-4, 0.1))."
        )
    best = unconstrained_of(tuner, study.best_params)
    if tuner.val_loss != study.best_value:
        tuner.evaluate(best)  # a worker trained it, or a process that is gone
    tuner.start_from(best)
    return tuner.search(outer_steps)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "search_then_descend looks for averages with Optuna, which is not installed. Install "
            "it with `pip install keras-qan[optuna]`, or use Tuner alone."
        ) from error
    return optuna
