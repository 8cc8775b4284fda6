"""Trials as tasks of an executor: their parts as plain data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_qan.data import Examples
from keras_qan.early_stopping import CurvePredictor, CurveStopping
from keras_qan.metaqnn.recipe import Recipe
from keras_qan.metaqnn.space import Space
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.metaqnn.trial import Trial, TrialOutcome, run_trial
from keras_qan.parallel import Call, Executor


def run_trials(trials: Sequence[Trial], executor: Executor) -> Iterator[TrialOutcome]:
    """Yield the outcomes of trials in order.

    Where models are stopped by prediction, all workers have to see the search's directory.
    """
    if executor.is_here:  # the trials share one stopper and what it has learned
        return map(run_trial, trials)
    return executor.map([call_for(trial) for trial in trials])


def trials_on(executor: Executor) -> Executor:
    """Return the executor itself, for `MetaQNN(engine=trials_on(executor))` of older code.

    Args:
      executor: of the trials.
    """
    warnings.warn(
        "keras_qan.metaqnn.trials_on goes with the next version: MetaQNN(engine=...) takes an "
        "executor itself.",
        DeprecationWarning,
        stacklevel=2,
    )
    return executor


def call_for(trial: Trial) -> Call:
    """Describe the trial as a task for any executor."""
    state_space, stopper = trial.state_space, trial.stopper
    stopping = None
    if stopper is not None:
        stopping = {
            "history": str(stopper.history.directory.resolve()),
            "monitor": stopper.monitor,
            "confidence": stopper.rule.confidence,
            "keep_best": stopper.rule.keep_best,
            "margin": stopper.rule.margin,
            "mode": stopper.rule.mode,
        }
    return Call(
        f"{__name__}:run_call",
        {
            "architecture": trial.architecture,
            "space": state_space.space,
            "input_shape": list(state_space.input_shape),
            "num_classes": state_space.num_classes,
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
    """Run a trial that `call_for` described."""
    stopper = None
    if stopping is not None:
        predictor = CurvePredictor(["svr_linear", "least_squares"])
        stopper = CurveStopping(**stopping, predictor=predictor)
    return run_trial(
        Trial(
            state_space=StateSpace(space, tuple(input_shape), num_classes),
            train=Examples(*train),
            validation=Examples(*validation),
            recipe=recipe,
            stopper=stopper,
            **rest,
        )
    )
