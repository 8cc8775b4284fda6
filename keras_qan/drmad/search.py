"""Averages by Bayesian optimisation, then every number by descent.

Trials of the search for averages are asked for in batches, and trained here or by workers. A
trial's averages and what it is pruned by follow from its number and from the trials of earlier
batches: not from who trains it, and not from when a search was killed.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_qan.drmad.building import check_hyperparameters
from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.inner_loop import DivergedError
from keras_qan.drmad.tuner import Tuner
from keras_qan.parallel import Call, Executor, LocalExecutor
from keras_qan.storage.event_file import write_trial
from keras_qan.utils.progress import Progress, for_verbosity
from keras_qan.utils.validation import check_integer

_log = logging.getLogger(__name__)

#: Complete trials below which none is pruned.
STARTUP_TRIALS = 4

#: What Bayesian optimisation can handle, in the words of DrMAD's README.
MOST_AVERAGES = 20

#: Step and validation loss at each report of a trial so far.
Reports = list[tuple[int, float]]


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
    verbose: int | Literal["auto"] = 1,
    **options: Any,
) -> Tuner:
    """Find the average of each hyperparameter with Optuna, then tune each number by descent.

    In a trial all numbers of a hyperparameter are the same, drawn from its `search` range; weights
    of examples or classes, whose average is a learning rate's, are left as they are. Trials whose
    validation loss falls behind are pruned at quarters of the training. The descent begins at the
    best trial.

    Trials are asked for in batches of `trials_at_once`, trained by the engine, and told in their
    order; each knows the trials of the batches before its own. So the result depends on the size
    of a batch, and not on the number of workers, on which of them died, or on how often the search
    was killed and resumed from its directory.

    Args:
      build_model: see `Tuner`.
      train: see `Tuner`.
      validation: see `Tuner`.
      hyperparameters: hyperparameters to tune; at most 20 have averages to search for.
      directory: folder to keep Optuna's study and the descent in, and to resume them from.
        Defaults to memory alone.
      trials: number of trainings of the search in all, pruned and diverged ones included. Defaults
        to 20.
      outer_steps: number of outer steps of the descent. Defaults to 20.
      storage: an Optuna storage or its URL (`"postgresql://…"`). Defaults to `averages.db` (SQLite)
        in the directory, or to memory where there is none.
      study_name: name of the study there; another for each search that shares a database. Defaults
        to "averages".
      sampler: an Optuna sampler. Defaults to its TPE sampler, seeded with the training's seed and
        the trial's number.
      pruner: an Optuna pruner, which is asked in this process. Defaults to the rule of its median
        pruner.
      trials_at_once: size of a batch. Defaults to 1.
      engine: executor that trains them. Defaults to this process, one after the other.
      source: call that makes the tuner in a worker: a function that returns `Tuner(...)` of the
        same arguments without a directory. Needed where the engine's workers are other processes.
      verbose: as in Keras: 0 for silence, 1 for bars on a terminal and lines elsewhere, with what
        is decided, 2 for a line a trial and an outer step. Defaults to 1.
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
    progress = for_verbosity(verbose)
    check_integer("trials", trials, 1)
    check_integer("outer_steps", outer_steps, 0)
    check_integer("trials_at_once", trials_at_once, 1)
    if pruner is not None and engine is not None and not engine.is_here:
        raise ValueError(
            f"search_then_descend got pruner={pruner!r} and an engine whose workers are other "
            "processes; expected one of them, as workers prune by the rule of the median pruner "
            "alone. Leave pruner or engine out."
        )
    hyperparameters = check_hyperparameters(hyperparameters)
    num_averages = len(search_space(hyperparameters))
    if not 0 < num_averages <= MOST_AVERAGES:
        raise ValueError(
            f"search_then_descend got {num_averages} hyperparameters with averages to look for; "
            f"expected 1 to {MOST_AVERAGES}, which is what Bayesian optimisation can handle. Use "
            "Tuner alone, or merge some."
        )
    tuner = Tuner(build_model, train, validation, hyperparameters, directory, **options)
    owns_study = storage is None
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
    tuner.set_study(study)
    if tuner.history:
        return tuner.search(outer_steps, verbose=verbose)
    averages = AverageSearch(
        study,
        tuner,
        trials_at_once=trials_at_once,
        owns_study=owns_study,
        seed=tuner.training.seed if sampler is None else None,
        asks_pruner=pruner is not None,
    )
    with progress as bars:
        averages.run(trials, engine, source, bars)
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise DivergedError(
            f"All {len(study.trials)} trials diverged or were pruned; expected one that "
            "trains. Narrow the search of the learning rate: LearningRate(search=(1e-4, 0.1))."
        )
    best = unconstrained_averages(tuner, study.best_params)
    if tuner.val_loss != study.best_value:
        tuner.evaluate(best)  # a worker trained it, or a process that is gone
    tuner.start_from(best)
    return tuner.search(outer_steps, verbose=verbose)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "search_then_descend looks for averages with Optuna, which is not installed. Install "
            "it with `pip install 'keras-qan[optuna]'`, or use Tuner alone."
        ) from error
    return optuna


# A trial.


@dataclass(frozen=True)
class TrialResult:
    """The end of a trial.

    Attributes:
      state: "complete", "pruned" or "diverged".
      value: the final validation loss of a complete one.
      reports: step and validation loss on the way.
    """

    state: str
    value: float | None = None
    reports: Reports = field(default_factory=list)


class _PrunedError(Exception):
    """The trial has fallen behind."""


def search_space(hyperparameters: Sequence[Hyperparameter]) -> dict[str, tuple[int, Any]]:
    """Place and range of each hyperparameter with an average to search for, by name."""
    return {
        f"{place} {h.name}": (place, h.search)
        for place, h in enumerate(hyperparameters)
        if h.search is not None
    }


def unconstrained_averages(tuner: Tuner, params: dict[str, float]) -> list[np.ndarray]:
    """Unconstrained numbers where all of a hyperparameter's are its average in `params`."""
    found = tuner.initial_unconstrained()
    for name, (place, _) in search_space(tuner.hyperparameters).items():
        average = tuner.hyperparameters[place].transform.unconstrained(params[name])
        found[place] = np.full_like(found[place], average)
    return found


def run_trial(
    tuner: Tuner, params: dict[str, float], should_prune: Callable[[Reports], bool]
) -> TrialResult:
    """Train with these averages; `should_prune` judges the reports so far, at each quarter."""
    steps = sorted({max(1, tuner.steps * quarter // 4) for quarter in (1, 2, 3)})
    reports: Reports = []

    def report(step: int, loss: float) -> None:
        reports.append((step, loss))
        if should_prune(reports):
            raise _PrunedError

    try:
        value = tuner.evaluate(unconstrained_averages(tuner, params), steps, report)
    except _PrunedError:
        return TrialResult("pruned", None, reports)
    except DivergedError as error:
        _log.info("A trial diverged: %s", error)
        return TrialResult("diverged", None, reports)
    return TrialResult("complete", value, reports)


def prunes_above(limits: dict[int, float]) -> Callable[[Reports], bool]:
    """Judge that prunes a trial whose best loss so far is above the limit at its step."""

    def should_prune(reports: Reports) -> bool:
        step = reports[-1][0]
        return step in limits and min(loss for _, loss in reports) > limits[step]

    return should_prune


# All trials.


class AverageSearch:
    """A search for averages in an Optuna study.

    Args:
      study: the study that trials are kept in.
      tuner: the tuner that trains in this process.
      trials_at_once: number of trials that are asked for before the first of them is told.
      owns_study: whether nobody else adds trials to the study, so that an unfinished one was begun
        by a process that is gone, and is done again.
      seed: of the TPE sampler; None for the study's own sampler as it is.
      asks_pruner: whether the study's pruner is asked. Defaults to the rule of its `MedianPruner`.
    """

    def __init__(
        self,
        study: Any,
        tuner: Tuner,
        *,
        trials_at_once: int,
        owns_study: bool,
        seed: int | None,
        asks_pruner: bool = False,
    ) -> None:
        self._optuna = _optuna()
        self._study, self._tuner, self._seed = study, tuner, seed
        self._at_once, self._owns_study, self._asks_pruner = trials_at_once, owns_study, asks_pruner

    def run(
        self,
        trials: int,
        engine: Executor | None = None,
        source: Call | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Train until there are so many trials in all; see `search_then_descend`."""
        engine, bars = engine or LocalExecutor(), progress or Progress()
        finished = [t for t in self._study.get_trials(deepcopy=False) if t.state.is_finished()]
        bars.start("trials", len(finished), trials, 0)
        while True:
            first, batch = self._next(trials)
            if not batch:
                return
            asked = [(trial, self._suggest(trial)) for trial in batch]
            results = self._results(asked, self.limits(first), engine, source)
            for (trial, _), result in zip(asked, results, strict=True):
                self._tell(trial, result)
                bars.advance()
                loss = "" if result.value is None else f", validation loss {result.value:.4g}"
                bars.say(f"trial {trial.number}: {result.state}{loss}", result.state != "complete")

    def _results(
        self,
        asked: list[tuple[Any, dict[str, float]]],
        limits: dict[int, float],
        engine: Executor,
        source: Call | None,
    ) -> Iterator[TrialResult]:
        if not engine.is_here:
            yield from engine.map([trial_call(source, params, limits) for _, params in asked])
            return
        for trial, params in asked:
            judge = self._ask_pruner(trial) if self._asks_pruner else prunes_above(limits)
            yield run_trial(self._tuner, params, judge)

    def _next(self, trials: int) -> tuple[int, list[Any]]:
        """Number of the next batch's first trial, and its trials that are not finished."""
        found = self._study.get_trials(deepcopy=False)
        if not self._owns_study:
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

    def _suggest(self, trial: Any) -> dict[str, float]:
        """Draw the averages to try, each from a stream of its own, so that a kill moves none."""
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
        """Median, at each step, of complete trials before that one: Optuna's `MedianPruner`."""
        complete = [
            trial.intermediate_values
            for trial in self._study.get_trials(deepcopy=False)
            if trial.number < first and trial.state.name == "COMPLETE"
        ]
        if len(complete) < STARTUP_TRIALS:
            return {}
        steps = sorted({step for values in complete for step in values})
        return {
            step: float(np.median([values[step] for values in complete if step in values]))
            for step in steps
        }

    def _ask_pruner(self, trial: Any) -> Callable[[Reports], bool]:
        known = self._known(trial)

        def should_prune(reports: Reports) -> bool:
            step, loss = reports[-1]
            if step not in known:
                trial.report(loss, step)
            return bool(trial.should_prune())

        return should_prune

    def _known(self, trial: Any) -> dict[int, float]:
        """Reports of a trial that the storage has: some, where it was begun before a kill."""
        found = self._study.get_trials(deepcopy=False)[trial.number]
        return dict(found.intermediate_values)

    def _tell(self, trial: Any, result: TrialResult) -> None:
        known = self._known(trial)
        for step, loss in result.reports:
            if step not in known:
                trial.report(loss, step)
        states = self._optuna.trial.TrialState
        if result.state == "complete":
            self._study.tell(trial, result.value)
            if self._tuner.directory is not None:
                folder = self._tuner.directory / "tensorboard" / f"trial_{trial.number}"
                assert result.value is not None
                write_trial(folder, trial.params, {"val_loss": result.value})
        else:
            state = states.PRUNED if result.state == "pruned" else states.FAIL
            self._study.tell(trial, state=state)


# A trial in a worker.

#: The last tuner of this process: another trial of the same one need not compile anew.
_tuner: tuple[str, Tuner] | None = None


def trial_call(source: Call | None, params: dict[str, float], limits: dict[int, float]) -> Call:
    """Return a trial as a call for any engine.

    Raises:
      ValueError: there is no source.
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


def run_call(source: Call, params: dict[str, float], limits: list[list[float]]) -> TrialResult:
    """Run the trial of a `trial_call`.

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
    return run_trial(_tuner[1], params, prunes_above({int(step): limit for step, limit in limits}))
