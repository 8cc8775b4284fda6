"""Trials of a search for averages: asked for in batches, trained here or by workers.

What is drawn for a trial, and what it is pruned by, follows from its number and from the trials of
batches before its own: not from who trains it, and not from when a search was killed.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.training import DivergedError
from keras_qan.drmad.tuner import Tuner
from keras_qan.engine import Call, Engine, Local

_log = logging.getLogger(__name__)

#: Complete trials below which none is pruned.
STARTUP_TRIALS = 4


@dataclass(frozen=True)
class Ended:
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


def sought_in(hyperparameters: Sequence[Hyperparameter]) -> dict[str, tuple[int, Any]]:
    """By name, the place of each hyperparameter with an average to look for, and its range."""
    return {
        f"{place} {h.name}": (place, h.search)
        for place, h in enumerate(hyperparameters)
        if h.search is not None
    }


def raws_of(tuner: Tuner, params: dict[str, float]) -> list[np.ndarray]:
    """The raw numbers where all of a hyperparameter's are its average in `params`."""
    raws = tuner.initial_raws()
    for name, (place, _) in sought_in(tuner.hyperparameters).items():
        raws[place] = np.full_like(
            raws[place], tuner.hyperparameters[place].transform.raw(params[name])
        )
    return raws


def run_trial(
    tuner: Tuner, params: dict[str, float], is_behind: Callable[[list[tuple[int, float]]], bool]
) -> Ended:
    """Trains with these averages; `is_behind` is told the reports so far, at each quarter."""
    stops = sorted({max(1, tuner.steps * quarter // 4) for quarter in (1, 2, 3)})
    reports: list[tuple[int, float]] = []

    def each(step: int, loss: float) -> None:
        reports.append((step, loss))
        if is_behind(reports):
            raise _PrunedError

    try:
        value = tuner.evaluate(raws_of(tuner, params), stops, each)
    except _PrunedError:
        return Ended("pruned", None, reports)
    except DivergedError as error:
        _log.info("A trial diverged: %s", error)
        return Ended("diverged", None, reports)
    return Ended("complete", value, reports)


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

    def run(self, trials: int, engine: Engine | None = None, source: Call | None = None) -> None:
        """Trains until there are so many trials in all; see `search_then_descend`."""
        engine = engine or Local()
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
        engine: Engine,
        source: Call | None,
    ) -> Iterator[Ended]:
        if not engine.is_here:
            yield from engine.map([call_for(source, params, limits) for _, params in asked])
            return
        for trial, params in asked:
            judge = self._judge(trial) if self._pruner is not None else behind(limits)
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
            sought_in(self._tuner.hyperparameters).items()
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

    def _tell(self, trial: Any, ended: Ended) -> None:
        known = self._known(trial)
        for step, loss in ended.reports:
            if step not in known:
                trial.report(loss, step)
        states = self._optuna.trial.TrialState
        if ended.state == "complete":
            self._study.tell(trial, ended.value)
        else:
            self._study.tell(trial, state=states.PRUNED if ended.state == "pruned" else states.FAIL)


def behind(limits: dict[int, float]) -> Callable[[list[tuple[int, float]]], bool]:
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


def run_call(source: Call, params: dict[str, float], limits: list[list[float]]) -> Ended:
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
    return run_trial(_tuner[1], params, behind({int(step): limit for step, limit in limits}))
