"""A rule that ends a stage by the learning curve's gain per cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_qan.rally.plan import PlannedStage
from keras_qan.utils.validation import check_integer, check_number


@dataclass(frozen=True)
class GrowthRule:
    """Grow once the loss surely falls less for its cost than growth is expected to bring.

    The gain g is the fall of the validation loss for each multiply-add, by the line of least
    squares through the last `window` evaluations and the one before them, and s its standard error.
    With t and v the training and validation loss of the last evaluation, growth from n to n'
    examples and from p to p' parameters is expected to bring

        e = [max(v − t, 0) · (1 − √(n / n')) + width_gain · v · log₂(p' / p)] / C'

    with C' the cost of one pass over the n' examples with the larger network. The first term says
    that the gap between validation and training falls as 1/√n, the second that a network of twice
    the parameters has a loss lower by the share `width_gain`. Both are rules of thumb, not
    measurements of the task. The stage ends when g + `standard_errors` · s < e, and at the latest
    after its epochs.

    Args:
      width_gain: share of the loss that twice the parameters take off, at least 0. Defaults to
        0.05.
      window: number of evaluations that the gain is taken over, at least 1. Defaults to 4.
      standard_errors: how many of them the gain has to be below, at least 0: a single evaluation
        that is high by chance ends no stage. With a window of 1 none is known, and s is 0. Defaults
        to 1.

    Raises:
      ValueError: one is out of range.
    """

    width_gain: float = 0.05
    window: int = 4
    standard_errors: float = 1.0

    def __post_init__(self) -> None:
        check_number("width_gain", self.width_gain, 0)
        check_integer("window", self.window, 1)
        check_number("standard_errors", self.standard_errors, 0)

    def expected(
        self, loss: float, val_loss: float, examples: tuple[int, int], parameters: tuple[int, int]
    ) -> float:
        """Return the expected fall of the validation loss by growth.

        Args:
          loss: t, the training loss.
          val_loss: v, the validation loss.
          examples: n and n'.
          parameters: p and p'.
        """
        by_data = max(val_loss - loss, 0.0) * (1.0 - math.sqrt(examples[0] / examples[1]))
        doublings = math.log2(parameters[1] / parameters[0])
        return by_data + self.width_gain * val_loss * doublings

    def says_grow(
        self, val_losses: list[float], cost: float, expected: float, price: float
    ) -> bool:
        """Return whether the gain per cost is surely below what growth is expected to bring.

        Args:
          val_losses: at each evaluation of the stage, the one at its beginning first.
          cost: multiply-adds between two evaluations.
          expected: expected fall of the validation loss by growth.
          price: multiply-adds of the pass that this takes.
        """
        if len(val_losses) <= self.window:
            return False
        losses = np.array(val_losses[-1 - self.window :])
        losses -= losses.mean()
        times = np.arange(len(losses)) - self.window / 2
        fall = -(times @ losses) / (times @ times)
        rest = losses + fall * times
        error = math.sqrt(rest @ rest / max(self.window - 1, 1) / (times @ times))
        return bool(fall + self.standard_errors * error < expected / price * cost)


class GrowthCallback(keras.callbacks.Callback):
    """Ends a stage by the rule.

    Args:
      rule: the rule.
      first_loss: the validation loss at the stage's beginning.
      plans: this stage and the next.
      batch_size: number of examples in a batch.

    Attributes:
      has_ended_stage: whether the rule ended the stage.
    """

    def __init__(
        self, rule: GrowthRule, first_loss: float, plans: Sequence[PlannedStage], batch_size: int
    ) -> None:
        super().__init__()
        self._rule = rule
        self._val_losses = [first_loss]
        self._here, self._next = plans
        self._cost = self._here.steps_per_look * batch_size * self._here.cost.training
        self._price = self._next.examples * self._next.cost.training
        self.has_ended_stage = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Ask the rule."""
        logs = logs or {}
        if "val_loss" not in logs or "loss" not in logs:
            return
        self._val_losses.append(float(logs["val_loss"]))
        expected = self._rule.expected(
            float(logs["loss"]),
            float(logs["val_loss"]),
            (self._here.examples, self._next.examples),
            (self._here.parameters, self._next.parameters),
        )
        if self._rule.says_grow(self._val_losses, self._cost, expected, self._price):
            self.has_ended_stage = True
            self.model.stop_training = True
