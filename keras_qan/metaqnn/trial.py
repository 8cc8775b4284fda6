"""Trials: architectures that are trained and scored."""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_qan.data import Examples
from keras_qan.early_stopping import CurveStopping
from keras_qan.metaqnn.build import build
from keras_qan.metaqnn.recipe import Recipe
from keras_qan.metaqnn.space import parse_architecture
from keras_qan.metaqnn.state_space import StateSpace

Status = Literal["trained", "stopped", "out_of_time", "no_better_than_chance", "out_of_memory"]


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Everything needed to train one architecture.

    Args:
      architecture: as text.
      state_space: of the layers, the input and the classes.
      train: examples.
      validation: examples.
      recipe: of the training.
      seed: of weights, dropout and the order of examples.
      stopper: stops a training that is predicted to end behind. Defaults to none.
      reward: of a stopped trial; see `Stopping`. Defaults to "predicted".
      weights: initial weights, by path of the variable. Defaults to fresh ones.
      keep_weights: whether the outcome holds the trained weights. Defaults to False.
    """

    architecture: str
    state_space: StateSpace
    train: Examples
    validation: Examples
    recipe: Recipe
    seed: int
    stopper: CurveStopping | None = None
    reward: Literal["predicted", "observed"] = "predicted"
    weights: dict[str, npt.NDArray[Any]] | None = None
    keep_weights: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class TrialOutcome:
    """Outcome of a trial.

    Args:
      status: "trained" to its end, "stopped" by prediction, "out_of_time",
        "no_better_than_chance" at any rate, or "out_of_memory".
      score: the best validation accuracy over epochs; NaN if there is none.
      reward: that the agent learns from; NaN for none.
      curve: validation accuracy after each epoch. Defaults to none.
      predicted: the predicted end of a stopped trial. Defaults to NaN, for the others.
      learning_rate: the first rate of the training that counted. Defaults to NaN.
      restarts: trainings given up before. Defaults to 0.
      seconds: duration. Defaults to 0.
      weights: the trained weights by path, where asked for. Defaults to none.
    """

    status: Status
    score: float
    reward: float
    curve: tuple[float, ...] = ()
    predicted: float = math.nan
    learning_rate: float = math.nan
    restarts: int = 0
    seconds: float = 0.0
    weights: dict[str, npt.NDArray[Any]] | None = None


def run_trial(trial: Trial) -> TrialOutcome:
    """Train an architecture by its recipe."""
    started = time.perf_counter()
    try:
        return _train(trial, started)
    except (tf.errors.ResourceExhaustedError, MemoryError):
        seconds = time.perf_counter() - started
        return TrialOutcome("out_of_memory", math.nan, math.nan, seconds=seconds)
    finally:
        # Keras's `clear_session` would also set the user's policy and names back.
        gc.collect()


def _train(trial: Trial, started: float) -> TrialOutcome:
    recipe, stopper = trial.recipe, trial.stopper
    chance = 1.0 / trial.state_space.num_classes
    factor, restarts = 1.0, 0
    while True:
        model = compile_model(trial, recipe.scale_rates(factor))
        limits = _Limits(recipe, chance, started)
        curve = fit_model(model, trial, recipe, [limits] if stopper is None else [limits, stopper])
        if not limits.is_hopeless or restarts + 1 == recipe.restarts:
            break
        restarts += 1
        factor *= recipe.restart_factor
    score = reward = max(curve, default=chance)
    predicted, status = math.nan, "trained"
    if limits.is_hopeless:
        status, reward = "no_better_than_chance", chance
    elif limits.is_late:
        status = "out_of_time"
    elif stopper is not None and stopper.stopped_epoch is not None:
        status, predicted = "stopped", stopper.predicted_end
        if trial.reward == "predicted":
            reward = min(1.0, max(score, predicted))
    weights = {v.path: np.asarray(v) for v in model.variables} if trial.keep_weights else None
    return TrialOutcome(
        status=status,  # type: ignore[arg-type]
        score=score,
        reward=reward,
        curve=curve,
        predicted=predicted,
        learning_rate=recipe.stages[0][0] * factor,
        restarts=restarts,
        seconds=time.perf_counter() - started,
        weights=weights,
    )


def compile_model(trial: Trial, recipe: Recipe) -> keras.Model:
    """Build the trial's network and compile it by a recipe."""
    model = build(
        trial.state_space,
        parse_architecture(trial.architecture),
        seed=trial.seed,
        weight_decay=recipe.weight_decay,
        dropout=recipe.dropout,
    )
    for variable in model.variables:
        if trial.weights is not None and variable.path in trial.weights:
            variable.assign(trial.weights[variable.path])
    steps = -(-len(trial.train) // recipe.batch_size)
    ends = np.cumsum([epochs * steps for _, epochs in recipe.stages])[:-1].tolist()
    rates = [rate for rate, _ in recipe.stages]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(ends, rates) if ends else rates[0]
    optimizer = (
        keras.optimizers.Adam(rate, epsilon=1e-8)
        if recipe.optimizer == "adam"
        else keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def fit_model(
    model: keras.Model, trial: Trial, recipe: Recipe, callbacks: list[keras.callbacks.Callback]
) -> tuple[float, ...]:
    """Fit a model and return its validation accuracy after each epoch."""
    batches = trial.train.batches(min(recipe.batch_size, len(trial.train)), seed=trial.seed)
    for augment in _augmentations(trial, recipe):
        batches = batches.map(lambda x, y, change=augment: (change(x, training=True), y))
    history = model.fit(
        batches,
        validation_data=trial.validation.batches(512),
        epochs=recipe.epochs,
        verbose=0,
        callbacks=callbacks,
        shuffle=False,
    )
    return tuple(float(value) for value in history.history.get("val_accuracy", ()))


def _augmentations(trial: Trial, recipe: Recipe) -> list[Any]:
    height, width, _ = trial.state_space.input_shape
    found: list[Any] = []
    if recipe.mirror:
        found.append(keras.layers.RandomFlip("horizontal", seed=trial.seed))
    if recipe.shift:
        share = (recipe.shift / height, recipe.shift / width)
        found.append(keras.layers.RandomTranslation(*share, fill_mode="constant", seed=trial.seed))
    return found


class _Limits(keras.callbacks.Callback):
    """Ends a training that is no better than chance, or that takes too long."""

    def __init__(self, recipe: Recipe, chance: float, started: float) -> None:
        super().__init__()
        self._recipe, self._chance, self._started = recipe, chance, started
        self._best = 0.0
        self.is_hopeless = False
        self.is_late = False

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        limit = self._recipe.max_seconds
        if limit is not None and time.perf_counter() - self._started > limit:
            self.is_late = True
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._best = max(self._best, float((logs or {}).get("val_accuracy", 0.0)))
        # 0.15 for ten classes, as in the paper.
        if epoch + 1 == self._recipe.restart_after and self._best <= 1.5 * self._chance:
            self.is_hopeless = not self.is_late
            self.model.stop_training = True
