"""How the student is trained in each outer step.

Runs of a training with given hyperparameters: from initial weights to a validation loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan.drmad.functional_model import Tensors
from keras_qan.drmad.loops import Loops


@dataclass(frozen=True)
class Training:
    """The inner training: SGD with momentum, from the same initial weights each time.

    v ← γ v − (1 − γ) g;  w ← w + α v. At a constant rate it is
    `keras.optimizers.SGD(α (1 − γ), momentum=γ)`; a model compiled with Keras's SGD gives its rate
    and momentum in these terms.

    Args:
      epochs: passes over the training data; not used where `steps` is given.
      steps: updates; None for `epochs` passes.
      batch_size: of arrays; a `tf.data.Dataset` brings its own.
      learning_rate: α; None for the compiled SGD's, or 0.1.
      momentum: γ; None for the compiled SGD's, or 0.9.
      loss: None for the compiled one.
      seed: of the order of arrays, of random layers, and for `build_model(seed)`.
    """

    epochs: int = 5
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    momentum: float | None = None
    loss: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("epochs", "steps", "batch_size"):
            value = getattr(self, name)
            if value is None and name == "steps":
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"Training got {name}={value!r}; expected a whole number above 0.")
        if self.learning_rate is not None and not 0.0 < self.learning_rate < math.inf:
            raise ValueError(
                f"Training got learning_rate={self.learning_rate}; expected a positive number."
            )
        if self.momentum is not None and not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"Training got momentum={self.momentum}; expected a number in [0, 1).")
        if self.seed < 0:
            raise ValueError(f"Training got seed={self.seed}; expected at least 0.")

    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        loss = self.loss
        if loss is not None and not isinstance(loss, str):
            loss = getattr(loss, "__name__", type(loss).__name__)
        return asdict(self) | {"loss": loss}


def rate_and_momentum(model: keras.Model, training: Training) -> tuple[float, float]:
    """α and γ that a training starts from: given, or the compiled SGD's, or 0.1 and 0.9."""
    optimizer = getattr(model, "optimizer", None)
    rate, momentum = 0.1, 0.9
    if isinstance(optimizer, keras.optimizers.SGD):
        momentum = float(optimizer.momentum or 0.0)
        config = optimizer.get_config()["learning_rate"]
        if isinstance(config, int | float):
            rate = float(config) / (1.0 - momentum)
    if training.momentum is not None:
        momentum = training.momentum
    if training.learning_rate is not None:
        rate = training.learning_rate
    return rate, momentum


class DivergedError(ArithmeticError):
    """A training's loss, or the weights it left, are not finite."""


@dataclass(frozen=True, eq=False)
class InnerState:
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


class InnerLoop:
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

    def begin(self, values: Tensors) -> InnerState:
        """The initial weights, at rest."""
        weights = self.loops.start(values, self._initial)
        return InnerState(
            step=0,
            weights=weights,
            velocity=[tf.zeros_like(w) for w in weights],
            state=self._state,
            travelled=tf.zeros([len(weights)], self.loops.student.facts.dtype),
            train_loss=math.nan,
        )

    def advance(self, values: Tensors, moment: InnerState, step: int) -> InnerState:
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
        return InnerState(step, weights, velocity, state, travelled, mean)

    def through(
        self,
        values: Tensors,
        stops: Sequence[int],
        each: Callable[[InnerState], None] | None = None,
    ) -> list[InnerState]:
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

    def validation_loss(self, moment: InnerState) -> float:
        """The mean validation loss.

        Raises:
          DivergedError: it is not finite.
        """
        loss = float(self.loops.validate(moment.weights, moment.state))
        if not math.isfinite(loss):
            raise DivergedError(f"The validation loss after step {moment.step} is {loss}.")
        return loss
