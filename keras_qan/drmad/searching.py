"""Bayesian optimisation for the few averages, then hypergradients for the many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qan.drmad.building import checked
from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.training import DivergedError
from keras_qan.drmad.tuner import Tuner

_log = logging.getLogger(__name__)

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
    **options: Any,
) -> Tuner:
    """Finds the average of each hyperparameter with Optuna, then tunes each number by descent.

    In a trial all numbers of a hyperparameter are the same, drawn from its `search` range; weights
    of examples or classes, whose average is a learning rate's, are left as they are. Trials whose
    validation loss falls behind are pruned at quarters of the training. The descent begins at the
    best trial.

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
      sampler: an Optuna sampler; None for its TPE sampler, seeded with the training's seed.
      pruner: an Optuna pruner; None for its median pruner.
      **options: `method`, `training`, `outer`, `strategy`, as for `Tuner`.

    Returns:
      The tuner, searched; its `study` is Optuna's.

    Raises:
      ImportError: Optuna is not installed.
      ValueError: an argument does not fit.
      DivergedError: every trial diverged.
    """
    optuna = _optuna()
    for name, number in (("trials", trials), ("outer_steps", outer_steps)):
        if not isinstance(number, int) or number < (name == "trials"):
            raise ValueError(f"search_then_descend got {name}={number!r}; expected a whole number.")
    sought = {
        f"{place} {h.name}": (place, h.search)
        for place, h in enumerate(checked(hyperparameters))
        if h.search is not None
    }
    if not 0 < len(sought) <= MOST_AVERAGES:
        raise ValueError(
            f"search_then_descend got {len(sought)} hyperparameters with averages to look for; "
            f"expected 1 to {MOST_AVERAGES}, which is what Bayesian optimisation can handle. Use "
            "Tuner alone, or merge some."
        )
    tuner = Tuner(build_model, train, validation, hyperparameters, directory, **options)
    if storage is None and tuner.directory is not None:
        storage = f"sqlite:///{(tuner.directory / 'averages.db').resolve()}"
    study = optuna.create_study(
        storage=storage,
        study_name=study_name,
        load_if_exists=True,
        direction="minimize",
        sampler=sampler,
        pruner=pruner or optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    if sampler is None:
        # Where a study goes on, other numbers than it began with.
        study.sampler = optuna.samplers.TPESampler(seed=tuner.training.seed + len(study.trials))
    over = optuna.trial.TrialState
    ended = (over.COMPLETE, over.PRUNED, over.FAIL)
    done = sum(trial.state in ended for trial in study.trials)
    if done < trials and not tuner.history:
        study.optimize(
            _objective(optuna, tuner, sought), n_trials=trials - done, catch=(DivergedError,)
        )
    tuner.study = study
    if not tuner.history:
        if not any(trial.state == over.COMPLETE for trial in study.trials):
            raise DivergedError(
                f"All {len(study.trials)} trials diverged or were pruned; expected one that "
                "trains. Narrow the search of the learning rate: LearningRate(search=(1e-4, 0.1))."
            )
        tuner.start_from(_raws(tuner, sought, study.best_params))
    return tuner.search(outer_steps)


def _objective(
    optuna: Any, tuner: Tuner, sought: dict[str, tuple[int, Any]]
) -> Callable[[Any], float]:
    stops = sorted({max(1, tuner.steps * quarter // 4) for quarter in (1, 2, 3)})

    def objective(trial: Any) -> float:
        params = {}
        for name, (place, (low, high)) in sought.items():
            transform = tuner.hyperparameters[place].transform
            if transform.name == "log":
                params[name] = trial.suggest_float(name, low, high, log=True)
            else:
                params[name] = trial.suggest_float(name, low, high)

        def each(step: int, loss: float) -> None:
            trial.report(loss, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        return tuner.evaluate(_raws(tuner, sought, params), stops, each)

    return objective


def _raws(
    tuner: Tuner, sought: dict[str, tuple[int, Any]], params: dict[str, float]
) -> list[np.ndarray]:
    raws = tuner.initial_raws()
    for name, (place, _) in sought.items():
        transform = tuner.hyperparameters[place].transform
        raws[place] = np.full_like(raws[place], transform.raw(params[name]))
    return raws


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "search_then_descend looks for averages with Optuna, which is not installed. Install "
            "it with `pip install keras-qan[optuna]`, or use Tuner alone."
        ) from error
    return optuna
