"""The inner training: its settings, and its run from initial weights to a validation loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan.drmad.functional_model import Tensors
from keras_qan.drmad.loops import Adam, InnerState, Loops
from keras_qan.utils.validation import check_choice, check_integer, check_number

#: The inner optimizers: Keras's class, and the rate where the model is not compiled with it.
OPTIMIZERS: dict[str, tuple[type[keras.optimizers.Optimizer], float]] = {
    "sgd": (keras.optimizers.SGD, 0.1),
    "adam": (keras.optimizers.Adam, 0.001),
}
_DEFAULT_MOMENTUM = 0.9
_DEFAULT_ADAM = Adam(beta_2=0.999, epsilon=1e-7)


class DivergedError(ArithmeticError):
    """A training's loss, or the weights it left, are not finite."""


@dataclass(frozen=True)
class Training:
    """Settings of the inner training, from the same initial weights each time: SGD or Adam.

    v ← γ v − (1 − γ) g;  w ← w + α v. At a constant rate it is
    `keras.optimizers.SGD(α (1 − γ), momentum=γ)`; a model compiled with Keras's SGD gives its rate
    and momentum in these terms. Adam is `keras.optimizers.Adam(α, beta_1=γ)`; of a model compiled
    with it, `beta_2` and `epsilon` are taken too.

    Args:
      epochs: passes over the training data, where `steps` is not given. Defaults to 5.
      steps: number of updates. Defaults to `epochs` passes.
      batch_size: of arrays; a `tf.data.Dataset` brings its own. Defaults to 32.
      learning_rate: α. Defaults to that of the compiled optimizer, if it is of the kind of
        `optimizer`, or 0.1 (Adam: 0.001).
      momentum: γ, in [0, 1). Defaults to the compiled one's likewise, or 0.9.
      loss: as for `compile`. Defaults to the compiled one.
      seed: of the order of arrays, of random layers, and for `build_model(seed)`. Defaults to 0.
      optimizer: "sgd" or "adam"; Adam needs `method="exact"` (or "implicit"). Defaults to "sgd".

    Raises:
      ValueError: an argument is out of range.
    """

    epochs: int = 5
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    momentum: float | None = None
    loss: Any = None
    seed: int = 0
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        for name, least in (("epochs", 1), ("steps", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None or name != "steps":
                object.__setattr__(self, name, check_integer(name, value, least))
        if self.learning_rate is not None:
            check_number("learning_rate", self.learning_rate, above=0)
        if self.momentum is not None:
            check_number("momentum", self.momentum, 0, below=1)

    def config(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        loss = self.loss
        if loss is not None and not isinstance(loss, str):
            loss = getattr(loss, "__name__", type(loss).__name__)
        settings = asdict(self) | {"loss": loss}
        if self.optimizer == "sgd":
            del settings["optimizer"]  # as searches from before there was another have it
        return settings


def rate_and_momentum(model: keras.Model, training: Training) -> tuple[float, float]:
    """α and γ that a training starts from: given, or the compiled optimizer's, or defaults."""
    kind, rate = OPTIMIZERS[training.optimizer]
    optimizer, momentum = getattr(model, "optimizer", None), _DEFAULT_MOMENTUM
    if isinstance(optimizer, kind):
        is_adam = isinstance(optimizer, keras.optimizers.Adam)
        momentum = float(optimizer.beta_1 if is_adam else optimizer.momentum or 0.0)
        config = optimizer.get_config()["learning_rate"]
        if isinstance(config, int | float):
            rate = float(config) / (1.0 if is_adam else 1.0 - momentum)
    if training.momentum is not None:
        momentum = training.momentum
    if training.learning_rate is not None:
        rate = training.learning_rate
    return rate, momentum


def adam_settings(model: keras.Model, training: Training) -> Adam | None:
    """Return Adam's settings beside α and γ: the compiled ones, or defaults; None for SGD."""
    if training.optimizer != "adam":
        return None
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.Adam):
        return Adam(float(optimizer.beta_2), float(optimizer.epsilon))
    return _DEFAULT_ADAM


class InnerLoop:
    """Trainings of a model from its initial weights.

    Args:
      loops: the model's compiled loops.
      steps: number of steps of each training.
    """

    def __init__(self, loops: Loops, steps: int) -> None:
        self.loops = loops
        self.model = loops.model
        self.steps = steps
        self._initial = [tf.constant(w) for w in self.model.initial_weights]
        self._state = [tf.constant(s) for s in self.model.initial_state]

    def values(self, unconstrained: Sequence[np.ndarray]) -> Tensors:
        """Values of the hyperparameters, in the model's dtype."""
        dtype = self.model.info.dtype
        return [
            tf.cast(h.transform.value(tf.constant(numbers, tf.float64)), dtype)
            for h, numbers in zip(self.model.hyperparameters, unconstrained, strict=True)
        ]

    def unconstrained_gradient(
        self, unconstrained: Sequence[np.ndarray], by_value: Tensors
    ) -> list[np.ndarray]:
        """Derivatives by the unconstrained numbers, from those by the values; float64."""
        found = []
        for h, numbers, gradient in zip(
            self.model.hyperparameters, unconstrained, by_value, strict=True
        ):
            point = tf.constant(numbers, tf.float64)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(point)
                value = h.transform.value(point)
            slope = tape.gradient(value, point, output_gradients=tf.cast(gradient, tf.float64))
            found.append(slope.numpy())
        return found

    def start(self, values: Tensors) -> InnerState:
        """State before the first step: the initial weights, at rest."""
        weights = self.loops.start(values, self._initial)
        dtype = self.model.info.dtype
        return InnerState(
            step=tf.constant(0),
            weights=weights,
            velocity=[tf.zeros_like(w) for w in weights],
            square=[tf.zeros_like(w) for w in weights if self.loops.adam is not None],
            state=self._state,
            rate_sum=tf.zeros([len(weights)], dtype),
            train_loss=tf.constant(math.nan, dtype),
        )

    def advance(self, values: Tensors, begin: InnerState, step: int) -> InnerState:
        """Train on to before a step.

        Raises:
          DivergedError: the loss or the weights are not finite.
        """
        end = self.loops.forward(values, begin, tf.constant(step), tf.constant(self.steps))
        if not math.isfinite(float(end.train_loss)) or not all(
            bool(tf.reduce_all(tf.math.is_finite(w))) for w in end.weights
        ):
            raise DivergedError(f"The training diverged before step {step}.")
        return end

    def snapshots(self, values: Tensors, steps: Sequence[int]) -> list[InnerState]:
        """Train from the initial weights; return the states before step 0 and before `steps`.

        Raises:
          DivergedError: the loss or the weights are not finite.
        """
        found = [self.start(values)]
        for step in steps:
            found.append(self.advance(values, found[-1], step))
        return found

    def validation_loss(self, at: InnerState) -> float:
        """Mean validation loss of a state.

        Raises:
          DivergedError: it is not finite.
        """
        loss = float(self.loops.validate(at.weights, at.state))
        if not math.isfinite(loss):
            raise DivergedError(f"The validation loss after step {int(at.step)} is {loss}.")
        return loss
