"""The training of one stage, and its records."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan.data import Examples
from keras_qan.qan.variables import rate_variables
from keras_qan.rally.growth_rule import GrowthCallback, GrowthRule
from keras_qan.rally.plan import PlannedStage

#: Number of examples in a batch of an evaluation.
EVALUATION_BATCH = 256

# Entries of an evaluation's record that are no metrics.
_NO_METRICS = ("stage", "look", "step", "multiply_adds", "seconds")


@dataclass(frozen=True)
class Totals:
    """Costs of a rally so far.

    Args:
      steps: number of optimizer steps. Defaults to 0.
      multiply_adds: forward and backward, of all training. Defaults to 0.
      seconds: of growing, training and evaluating. Defaults to 0.
    """

    steps: int = 0
    multiply_adds: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class StageRun:
    """Settings of one stage's training.

    Args:
      plan: the stage.
      following: the stage after it, or None.
      before: totals before it.
      started: start of the stage, growth included, on `time.perf_counter`'s clock.
      batch_size: number of examples in a batch.
      seed: seed of the rally.
      learning_rate: rate to begin with; None leaves it as it is.
      final_learning_rate: rate to end with; None for a constant rate.
      rule: ends the stage early; None for never.
      first_epoch: the number of its first epoch, where those of the stages before count. Defaults
        to 0.
    """

    plan: PlannedStage
    following: PlannedStage | None
    before: Totals
    started: float
    batch_size: int
    seed: int
    learning_rate: float | None
    final_learning_rate: float | None
    rule: GrowthRule | None
    first_epoch: int = 0


def evaluate(model: keras.Model, validation: tf.data.Dataset) -> dict[str, float]:
    """Metrics on the validation examples, named as `fit` names them."""
    found = model.evaluate(validation, verbose=0, return_dict=True)
    return {f"val_{name}": value for name, value in numbers_of(found).items()}


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as numbers; one that is a vector gives a number for each entry.

    Example:
      >>> numbers_of({"loss": np.float32(0.5), "f1_score": np.array([0.25, 1.0])})
      {'loss': 0.5, 'f1_score_0': 0.25, 'f1_score_1': 1.0}
    """
    found: dict[str, float] = {}
    for name, value in metrics.items():
        values = np.asarray(keras.ops.convert_to_numpy(value), dtype="float64")
        if values.ndim == 0:
            found[name] = float(values)
        else:
            found |= {f"{name}_{k}": float(one) for k, one in enumerate(values.ravel())}
    return found


class EvaluationCallback(keras.callbacks.Callback):
    """Records every evaluation of a stage with the costs up to it.

    Args:
      run: the stage's settings.
      first: the metrics before the first step.

    Attributes:
      records: of the evaluations.
    """

    def __init__(self, run: StageRun, first: dict[str, float]) -> None:
        super().__init__()
        self._run = run
        self.records: list[dict[str, Any]] = []
        self._record(0, first)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record one."""
        self._record(epoch + 1 - self._run.first_epoch, logs or {})

    def totals(self) -> Totals:
        """Costs up to the last evaluation."""
        last = self.records[-1]
        return Totals(last["step"], last["multiply_adds"], last["seconds"])

    def _record(self, look: int, metrics: dict[str, float]) -> None:
        plan, before = self._run.plan, self._run.before
        steps = look * plan.steps_per_look
        price = self._run.batch_size * plan.cost.training
        self.records.append(
            {
                "stage": plan.number,
                "look": look,
                "step": before.steps + steps,
                "multiply_adds": before.multiply_adds + steps * price,
                "seconds": before.seconds + time.perf_counter() - self._run.started,
                **numbers_of(metrics),
            }
        )


class LinearDecay(keras.callbacks.Callback):
    """Changes the learning rate to another one, linear in a stage's steps.

    Before step t of T, counted from 0, the rate is η₀ + (η_T − η₀) t / T. Steps that Keras runs in
    one call share the rate of the first of them.

    Args:
      final: η_T.
      steps: T, the largest number of steps of the stage.
    """

    def __init__(self, final: float, steps: int) -> None:
        super().__init__()
        self._final, self._steps = final, steps
        self._firsts: list[float] = []
        self._steps_before = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Note the present rate."""
        self._firsts = [float(variable.numpy()) for variable in rate_variables(self.model)]
        self._steps_before = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Count the steps before the epoch."""
        self._steps_before = epoch * int(self.params["steps"])

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Set the rate."""
        progress = (self._steps_before + batch) / self._steps
        for variable, first in zip(rate_variables(self.model), self._firsts, strict=True):
            rate = first + (self._final - first) * progress
            variable.assign(tf.cast(rate, variable.dtype))


def falling_rates(
    first: float, final: float, planned: Sequence[Sequence[int]], done: Sequence[int]
) -> tuple[float, float]:
    """Return the rates that a stage begins and ends with, where one falls through all stages.

    Args:
      first: rate of the first step of all.
      final: rate after the last.
      planned: for each stage up to this one the steps of it and of all after it, as they were
        planned when it began.
      done: steps of the stages before, fewer than planned where a rule ended one early.

    Example:
      >>> falling_rates(1.0, 0.0, planned=[[30, 10], [10]], done=[30])
      (0.25, 0.0)
    """
    rate = first
    for left, steps in zip(planned, done, strict=False):
        rate += (final - rate) / sum(left) * steps
    left = planned[len(done)]
    return rate, rate + (final - rate) * left[0] / sum(left)


def train_stage(
    model: keras.Model,
    run: StageRun,
    examples: Examples,
    validation: tf.data.Dataset,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train one stage.

    Args:
      model: its network.
      run: its settings.
      examples: its subset.
      validation: validation examples, in batches.
      callbacks: other callbacks of `fit`.

    Returns:
      The stage's record and those of its evaluations.

    Raises:
      RuntimeError: the training diverged.
    """
    plan = run.plan
    if run.learning_rate is not None:
        for variable in rate_variables(model):
            variable.assign(tf.cast(run.learning_rate, variable.dtype))
    # This also builds the loss, for which `fit` would take a batch of the training examples.
    first = evaluate(model, validation)
    evaluations = EvaluationCallback(run, first)
    own: list[keras.callbacks.Callback] = [evaluations]
    if run.final_learning_rate is not None:
        own.append(LinearDecay(run.final_learning_rate, plan.steps))
    growth = None
    if run.rule is not None and run.following is not None:
        stages = (plan, run.following)
        growth = GrowthCallback(run.rule, first["val_loss"], stages, run.batch_size)
        own.append(growth)
    stream = int(np.random.SeedSequence([run.seed, plan.number]).generate_state(1)[0] >> 1)
    batches = examples.batches(run.batch_size, seed=stream, drop_remainder=True).repeat()
    with warnings.catch_warnings():
        # A training that diverges is told below, by its stage.
        warnings.filterwarnings("ignore", "The training loss is not finite", RuntimeWarning)
        model.fit(
            batches,
            steps_per_epoch=plan.steps_per_look,
            initial_epoch=run.first_epoch,
            epochs=run.first_epoch + plan.looks,
            validation_data=validation,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, *own],
        )
    last = evaluations.records[-1]
    if not math.isfinite(last.get("loss", math.nan)) or not math.isfinite(last["val_loss"]):
        raise RuntimeError(
            f"Stage {plan.number} diverged: its training loss is {last.get('loss')} and its "
            f"validation loss {last['val_loss']} at step {last['step']}. Lower the learning rate "
            "of build_model, or give the stage one: Stage(..., learning_rate=...)."
        )
    ended_by_rule = growth is not None and growth.has_ended_stage
    return _record(run, evaluations, ended_by_rule), evaluations.records


def _record(run: StageRun, evaluations: EvaluationCallback, ended_by_rule: bool) -> dict[str, Any]:
    """Record of a stage that was trained."""
    plan, totals, last = run.plan, evaluations.totals(), evaluations.records[-1]
    steps = totals.steps - run.before.steps
    return {
        "stage": plan.number,
        "examples": plan.examples,
        "parameters": plan.parameters,
        "widths": dict(plan.widths),
        "deepen": list(plan.deepen),
        "steps": steps,
        "looks": last["look"],
        "ended_by_rule": ended_by_rule,
        "forward_multiply_adds": plan.cost.forward,
        "backward_multiply_adds": plan.cost.backward,
        "multiply_adds": steps * run.batch_size * plan.cost.training,
        "multiply_adds_so_far": totals.multiply_adds,
        "seconds": totals.seconds - run.before.seconds,
        "seconds_so_far": totals.seconds,
        "val_loss_at_start": evaluations.records[0]["val_loss"],
        **{name: value for name, value in last.items() if name not in _NO_METRICS},
    }
