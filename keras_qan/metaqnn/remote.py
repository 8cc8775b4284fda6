"""Trials in other processes: what a trial is made of, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_qan import parallel
from keras_qan.data import Examples
from keras_qan.early_stopping import CurvePredictor, CurveStopping
from keras_qan.metaqnn.recipe import Recipe
from keras_qan.metaqnn.space import Space
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.metaqnn.trial import Trial, TrialOutcome, run_trial


def make_trial_map(
    workers: parallel.Executor,
) -> Callable[[Callable[[Trial], TrialOutcome], Sequence[Trial]], Iterator[TrialOutcome]]:
    """An engine as `MetaQNN(engine=...)` takes it; give it `parallel=workers.workers`.

    Where models are stopped by prediction, all workers have to see the search's directory.

    Args:
      workers: the engine.

    Example:
      >>> with engine.engine_by_name("local", 2) as two:  # doctest: +SKIP
      ...     MetaQNN(space, "digits", "runs/s", engine=trials_on(two), parallel=two.workers)
    """

    def run(
        function: Callable[[Trial], TrialOutcome], trials: Sequence[Trial]
    ) -> Iterator[TrialOutcome]:
        del function  # what workers call is named below
        return workers.map([call_for(trial) for trial in trials])

    return run


def call_for(trial: Trial) -> parallel.Call:
    """The trial as a task for any engine."""
    grammar, stopper = trial.grammar, trial.stopper
    stopping = None
    if stopper is not None:
        stopping = {
            "history": str(stopper.history.directory.resolve()),
            "monitor": stopper.monitor,
            "confidence": stopper.rule.confidence,
            "keep_best": stopper.rule.keep_best,
            "margin": stopper.rule.margin,
        }
    return parallel.Call(
        f"{__name__}:run_call",
        {
            "architecture": trial.architecture,
            "space": grammar.space,
            "input_shape": list(grammar.input_shape),
            "num_classes": grammar.num_classes,
            "train": [trial.train.x, trial.train.y],
            "validation": [trial.validation.x, trial.validation.y],
            "recipe": trial.recipe,
            "seed": trial.seed,
            "stopping": stopping,
            "reward": trial.reward,
            "weights": trial.weights,
            "keep_weights": trial.keep_weights,
        },
    )


def run_call(
    *,
    space: Space,
    input_shape: list[int],
    num_classes: int,
    train: list[np.ndarray],
    validation: list[np.ndarray],
    recipe: Recipe,
    stopping: dict[str, Any] | None,
    **rest: Any,
) -> TrialOutcome:
    """Runs a trial that `call_for` named."""
    stopper = None
    if stopping is not None:
        predictor = CurvePredictor(["svr_linear", "least_squares"])
        stopper = CurveStopping(**stopping, predictor=predictor)
    return run_trial(
        Trial(
            grammar=StateSpace(space, tuple(input_shape), num_classes),
            train=Examples(*train),
            validation=Examples(*validation),
            recipe=recipe,
            stopper=stopper,
            **rest,
        )
    )
