"""One architecture, trained and scored."""

from __future__ import annotations

import dataclasses
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
from keras_qan.metaqnn.space import architecture
from keras_qan.metaqnn.state_space import StateSpace

Status = Literal["trained", "stopped", "out_of_time", "no_better_than_chance", "out_of_memory"]


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """What is needed to train one architecture, in this process or in another.

    Args:
      architecture: as text.
      grammar: of the space, the input and the classes.
      train: examples.
      validation: examples.
      recipe: how to train.
      seed: of weights, dropout and the order of examples.
      stopper: stops what is predicted to end behind; None for never.
      reward: what a stopped trial is worth.
      weights: the initial weights, by path of the variable; None for fresh ones.
      keep_weights: whether the trained weights are wanted back.
    """

    architecture: str
    grammar: StateSpace
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
    """What came of a trial.

    Args:
      status: "trained" to its end, "stopped" by prediction, "out_of_time",
        "no_better_than_chance" at any rate, or "out_of_memory".
      score: the best validation accuracy over epochs; NaN if there is none.
      reward: what the agent learns from; NaN for none.
      curve: validation accuracy after each epoch.
      predicted: the end that a stopped trial was predicted to have; NaN for the others.
      learning_rate: the first rate of the training that counted.
      restarts: how many trainings were given up before.
      seconds: that it took.
      weights: the trained weights by path, where wanted.
    """

    status: Status
    score: float
    reward: float
    curve: tuple[float, ...]
    predicted: float
    learning_rate: float
    restarts: int
    seconds: float
    weights: dict[str, npt.NDArray[Any]] | None = None


def run_trial(trial: Trial) -> TrialOutcome:
    """Trains an architecture by its recipe: the one function that an engine has to call."""
    started = time.perf_counter()
    try:
        return _trained(trial, started)
    except (tf.errors.ResourceExhaustedError, MemoryError):
        seconds = time.perf_counter() - started
        nan = math.nan
        return TrialOutcome("out_of_memory", nan, nan, (), nan, nan, 0, seconds)
    finally:
        keras.backend.clear_session(free_memory=False)


def _trained(trial: Trial, started: float) -> TrialOutcome:
    recipe, chance = trial.recipe, 1.0 / trial.grammar.num_classes
    factor, restarts = 1.0, 0
    while True:
        model = compiled(trial, recipe.at_rate(factor))
        limits = _Limits(recipe, chance, started)
        watchers = [limits] if trial.stopper is None else [limits, trial.stopper]
        curve = fitted(model, trial, recipe, watchers)
        if not limits.is_hopeless:
            break
        if restarts + 1 == recipe.restarts:
            break
        restarts += 1
        factor *= recipe.restart_factor
    score = max(curve, default=chance)
    stopper = trial.stopper
    predicted, status, reward = math.nan, "trained", score
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
        status,  # type: ignore[arg-type]
        score,
        reward,
        curve,
        predicted,
        recipe.stages[0][0] * factor,
        restarts,
        time.perf_counter() - started,
        weights,
    )


def compiled(trial: Trial, recipe: Recipe) -> keras.Model:
    """The trial's network, compiled as the recipe says."""
    model = build(
        trial.grammar,
        architecture(trial.architecture),
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
    falling = keras.optimizers.schedules.PiecewiseConstantDecay(ends, rates) if ends else rates[0]
    optimizer = (
        keras.optimizers.Adam(falling, epsilon=1e-8)
        if recipe.optimizer == "adam"
        else keras.optimizers.SGD(falling, momentum=0.9, nesterov=True)
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def fitted(
    model: keras.Model, trial: Trial, recipe: Recipe, watchers: list[keras.callbacks.Callback]
) -> tuple[float, ...]:
    """Fits a model and returns its validation accuracy after each epoch."""
    batches = trial.train.batches(min(recipe.batch_size, len(trial.train)), seed=trial.seed)
    for augment in _augmentations(trial, recipe):
        batches = batches.map(lambda x, y, change=augment: (change(x, training=True), y))
    history = model.fit(
        batches,
        validation_data=trial.validation.batches(512),
        epochs=recipe.epochs,
        verbose=0,
        callbacks=watchers,
        shuffle=False,
    )
    return tuple(float(value) for value in history.history.get("val_accuracy", ()))


def _augmentations(trial: Trial, recipe: Recipe) -> list[Any]:
    height, width, _ = trial.grammar.input_shape
    found: list[Any] = []
    if recipe.mirror:
        found.append(keras.layers.RandomFlip("horizontal", seed=trial.seed))
    if recipe.shift:
        by = (recipe.shift / height, recipe.shift / width)
        found.append(keras.layers.RandomTranslation(*by, fill_mode="constant", seed=trial.seed))
    return found


class _Limits(keras.callbacks.Callback):
    """Gives up what is no better than chance, and what takes too long."""

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
