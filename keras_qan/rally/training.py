"""One stage's training, and what is noted of it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan.data import Examples
from keras_qan.qan.model_access import rate_variables
from keras_qan.rally.growth_rule import GrowthCallback, GrowthRule
from keras_qan.rally.plan import PlannedStage

#: Examples in a batch of an evaluation.
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Spent:
    """What was spent before a stage.

    Args:
      steps: optimizer steps.
      multiply_adds: forward and backward, of all training.
      seconds: of growing, training and looking.
    """

    steps: int = 0
    multiply_adds: int = 0
    seconds: float = 0.0


def evaluate(model: keras.Model, validation: tf.data.Dataset) -> dict[str, float]:
    """The metrics on the validation examples, named as `fit` names them."""
    found = model.evaluate(validation, verbose=0, return_dict=True)
    return {f"val_{name}": float(value) for name, value in found.items()}


class EvaluationCallback(keras.callbacks.Callback):
    """Notes every look with what was spent up to it.

    Args:
      plan: the stage.
      before: what was spent before it.
      batch_size: examples in a batch.
      started: when the stage began, on `time.perf_counter`'s clock.
      first: the metrics before the first step.
    """

    def __init__(
        self,
        plan: PlannedStage,
        before: Spent,
        batch_size: int,
        started: float,
        first: dict[str, float],
    ) -> None:
        super().__init__()
        self._plan, self._before, self._started = plan, before, started
        self._price = batch_size * plan.cost.training
        self.records: list[dict[str, Any]] = []
        self._note(0, first)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes one."""
        self._note(epoch + 1, logs or {})

    def spent(self) -> Spent:
        """What was spent up to the last look."""
        last = self.records[-1]
        return Spent(last["step"], last["multiply_adds"], last["seconds"])

    def _note(self, look: int, metrics: dict[str, float]) -> None:
        steps = look * self._plan.steps_per_look
        self.records.append(
            {
                "stage": self._plan.number,
                "look": look,
                "step": self._before.steps + steps,
                "multiply_adds": self._before.multiply_adds + steps * self._price,
                "seconds": self._before.seconds + time.perf_counter() - self._started,
                **{name: float(value) for name, value in metrics.items()},
            }
        )


class LinearDecay(keras.callbacks.Callback):
    """Lets the learning rate go from where it is to another one, linear in a stage's steps.

    Before step t of T, counted from 0, the rate is η₀ + (η_T − η₀) t / T. Steps that Keras runs in
    one call share the rate of the first of them.

    Args:
      final: η_T.
      steps: T, the most that the stage has.
    """

    def __init__(self, final: float, steps: int) -> None:
        super().__init__()
        self._final, self._steps = final, steps
        self._firsts: list[float] = []
        self._epochs_steps = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Notes where the rate is."""
        self._firsts = [float(variable.numpy()) for variable in rate_variables(self.model)]
        self._epochs_steps = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Notes how many steps there were before."""
        self._epochs_steps = epoch * int(self.params["steps"])

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Sets the rate."""
        progress = (self._epochs_steps + batch) / self._steps
        for variable, first in zip(rate_variables(self.model), self._firsts, strict=True):
            rate = first + (self._final - first) * progress
            variable.assign(tf.cast(rate, variable.dtype))


def train_stage(
    model: keras.Model,
    plans: Sequence[PlannedStage],
    examples: Examples,
    validation: tf.data.Dataset,
    batch_size: int,
    seed: int,
    before: Spent,
    started: float,
    rate: float | None,
    final_rate: float | None,
    rule: GrowthRule | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trains one stage.

    Args:
      model: its network.
      plans: the stage, and the next one if there is any.
      examples: its subset.
      validation: in batches.
      batch_size: examples in a batch.
      seed: of the rally.
      before: what was spent before it.
      started: when the stage began, growth included.
      rate: the learning rate to begin with; None to leave it as it is.
      final_rate: the one to end with; None for one that stays.
      rule: when to end it early.
      callbacks: what else takes part in `fit`.

    Returns:
      The stage's record and its looks.

    Raises:
      RuntimeError: the training diverged.
    """
    plan = plans[0]
    if rate is not None:
        for variable in rate_variables(model):
            variable.assign(tf.cast(rate, variable.dtype))
    # This also builds the loss, for which `fit` would take a batch of the training examples.
    first = evaluate(model, validation)
    looks = EvaluationCallback(plan, before, batch_size, started, first)
    own: list[keras.callbacks.Callback] = [looks]
    if final_rate is not None:
        own.append(LinearDecay(final_rate, plan.steps))
    if rule is not None and len(plans) > 1:
        own.append(GrowthCallback(rule, first["val_loss"], plans[:2], batch_size))
    stream = int(np.random.SeedSequence([seed, plan.number]).generate_state(1)[0] >> 1)
    batches = examples.batches(batch_size, seed=stream, drop_remainder=True).repeat()
    with warnings.catch_warnings():
        # A training that diverges is told below, by its stage.
        warnings.filterwarnings("ignore", "The training loss is not finite", RuntimeWarning)
        model.fit(
            batches,
            steps_per_epoch=plan.steps_per_look,
            epochs=plan.looks,
            validation_data=validation,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, *own],
        )
    last = looks.records[-1]
    if not math.isfinite(last.get("loss", math.nan)) or not math.isfinite(last["val_loss"]):
        raise RuntimeError(
            f"Stage {plan.number} diverged: its training loss is {last.get('loss')} and its "
            f"validation loss {last['val_loss']} at step {last['step']}. Lower the learning rate "
            "of build_model, or give the stage one: Stage(..., learning_rate=...)."
        )
    record = _record(plan, before, looks, batch_size, own[-1])
    return record, looks.records


def _record(
    plan: PlannedStage, before: Spent, looks: EvaluationCallback, batch_size: int, ending: Any
) -> dict[str, Any]:
    spent, last = looks.spent(), looks.records[-1]
    steps = spent.steps - before.steps
    metrics = {k: v for k, v in last.items() if k not in _OF_LOOKS}
    return {
        "stage": plan.number,
        "examples": plan.examples,
        "parameters": plan.parameters,
        "widths": dict(plan.widths),
        "deepen": list(plan.deepen),
        "steps": steps,
        "looks": last["look"],
        "ended_by_rule": bool(getattr(ending, "has_ended_stage", False)),
        "forward_multiply_adds": plan.cost.forward,
        "backward_multiply_adds": plan.cost.backward,
        "multiply_adds": steps * batch_size * plan.cost.training,
        "multiply_adds_so_far": spent.multiply_adds,
        "seconds": spent.seconds - before.seconds,
        "seconds_so_far": spent.seconds,
        "val_loss_at_start": looks.records[0]["val_loss"],
        **metrics,
    }


_OF_LOOKS = ("stage", "look", "step", "multiply_adds", "seconds")
