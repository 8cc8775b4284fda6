"""Bayesian optimisation for the few averages, then hypergradients for the many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_qan.drmad.building import checked
from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.training import DivergedError
from keras_qan.drmad.trials import Averages, raws_of, sought_in
from keras_qan.drmad.tuner import Tuner
from keras_qan.engine import Call, Engine

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
    engine: Engine | None = None,
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
    hyperparameters = checked(hyperparameters)
    sought = sought_in(hyperparameters)
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
    best = raws_of(tuner, study.best_params)
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
