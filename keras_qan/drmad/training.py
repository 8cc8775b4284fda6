"""Runs of a training with given hyperparameters: from initial weights to a validation loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_qan.drmad.loops import Loops
from keras_qan.drmad.student import Tensors


class DivergedError(ArithmeticError):
    """A training's loss, or the weights it left, are not finite."""


@dataclass(frozen=True, eq=False)
class Moment:
    """A training as it stands before a step.

    Args:
      step: how many steps are done.
      weights: the trained weights.
      velocity: of the momentum.
      state: weights that are not trained.
      travelled: the rates summed up so far, `[W]`.
      train_loss: mean training loss, penalties included, since the moment before.
    """

    step: int
    weights: Tensors
    velocity: Tensors
    state: Tensors
    travelled: tf.Tensor
    train_loss: float


class Runs:
    """Trains a student from its initial weights.

    Args:
      loops: its compiled loops.
      steps: of each training.

    Attributes:
      reached: the step that the last reverse pass came back to: 0, or where it was ended early.
    """

    def __init__(self, loops: Loops, steps: int) -> None:
        self.loops = loops
        self.steps = steps
        self.reached = 0
        self._initial = [tf.constant(w) for w in loops.student.initial_weights]
        self._state = [tf.constant(s) for s in loops.student.initial_state]

    def values(self, raws: Sequence[np.ndarray]) -> Tensors:
        """The hyperparameters' values, from the raw numbers."""
        dtype = self.loops.student.facts.dtype
        return [
            tf.cast(h.transform.value(tf.constant(raw, tf.float64)), dtype)
            for h, raw in zip(self.loops.student.hyperparameters, raws, strict=True)
        ]

    def raw_gradient(self, raws: Sequence[np.ndarray], by_value: Tensors) -> list[np.ndarray]:
        """Derivatives by the raw numbers, from those by the values; float64."""
        found = []
        for h, raw, gradient in zip(
            self.loops.student.hyperparameters, raws, by_value, strict=True
        ):
            point = tf.constant(raw, tf.float64)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(point)
                value = h.transform.value(point)
            slope = tape.gradient(value, point, output_gradients=tf.cast(gradient, tf.float64))
            found.append(slope.numpy())
        return found

    def begin(self, values: Tensors) -> Moment:
        """The initial weights, at rest."""
        weights = self.loops.start(values, self._initial)
        return Moment(
            step=0,
            weights=weights,
            velocity=[tf.zeros_like(w) for w in weights],
            state=self._state,
            travelled=tf.zeros([len(weights)], self.loops.student.facts.dtype),
            train_loss=math.nan,
        )

    def advance(self, values: Tensors, moment: Moment, step: int) -> Moment:
        """Trains on to a step.

        Raises:
          DivergedError: the loss or the weights are not finite.
        """
        weights, velocity, state, travelled, loss = self.loops.forward(
            values,
            moment.weights,
            moment.velocity,
            moment.state,
            moment.travelled,
            tf.constant(moment.step),
            tf.constant(step),
            tf.constant(self.steps),
        )
        mean = float(loss)
        if not math.isfinite(mean) or not all(
            bool(tf.reduce_all(tf.math.is_finite(w))) for w in weights
        ):
            raise DivergedError(f"The training diverged before step {step}.")
        return Moment(step, weights, velocity, state, travelled, mean)

    def through(
        self,
        values: Tensors,
        stops: Sequence[int],
        each: Callable[[Moment], None] | None = None,
    ) -> list[Moment]:
        """Trains from the initial weights, and returns how it stood at each stop, 0 included.

        Raises:
          DivergedError: the loss or the weights are not finite.
        """
        moments = [self.begin(values)]
        for step in stops:
            moments.append(self.advance(values, moments[-1], step))
            if each is not None:
                each(moments[-1])
        return moments

    def validation_loss(self, moment: Moment) -> float:
        """The mean validation loss.

        Raises:
          DivergedError: it is not finite.
        """
        loss = float(self.loops.validate(moment.weights, moment.state))
        if not math.isfinite(loss):
            raise DivergedError(f"The validation loss after step {moment.step} is {loss}.")
        return loss
