"""What `fit` can be given in the place of QAN: schedules, optimizers and callbacks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_qan.qan.variables import synchronize


class Scheduled(keras.callbacks.Callback):
    """Sets the rate before each step, as a schedule has it.

    Args:
      schedule: progress in [0, 1) → share of the compiled rate.
      num_steps: the length of the training.
    """

    def __init__(self, schedule: Callable[[Any], Any], num_steps: int) -> None:
        super().__init__()
        self._shares = [float(schedule(step / num_steps)) for step in range(num_steps)]
        self._step = 0

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Note the initial rate."""
        self._initial = float(self.model.optimizer.learning_rate)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Set the rate."""
        synchronize(self.model)
        self.model.optimizer.learning_rate.assign(self._initial * self._shares[self._step])
        self._step += 1


class WarmedUp:
    """A schedule behind a linear warm-up over the first 2 % of the steps.

    Args:
      schedule: progress → share of the peak rate.
    """

    def __init__(self, schedule: Callable[[Any], Any]) -> None:
        self._schedule = schedule

    def __call__(self, progress: float) -> float:
        """Return the share of the peak rate at `progress`; at 0 a sixteenth."""
        return min((progress + 0.00125) / 0.02, 1.0) * float(self._schedule(progress))


@functools.cache
def hypergradient(kind: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """Return an optimizer whose rate follows its hypergradient.

    α ← α (1 + β cos(g, u)), u the last step's direction: the multiplicative rule of Baydin et al.
    2018 (arXiv:1703.04782), with β = 0.02.
    """

    class Hypergradient(kind):  # type: ignore[misc,valid-type]
        def build(self, variables: list[Any]) -> None:
            super().build(variables)
            (self._last,) = self.add_optimizer_variables(variables, ["last"])

        def apply(self, grads: list[Any], trainable_variables: Any = None) -> None:
            variables = trainable_variables or self._trainable_variables
            grads = [ops.convert_to_tensor(g) for g in grads]
            dot, norm, last_norm = (
                sum(ops.sum(a * b) for a, b in zip(left, right, strict=True))
                for left, right in ((grads, self._last), (grads, grads), (self._last, self._last))
            )
            cosine = dot / ops.maximum(ops.sqrt(norm * last_norm), 1e-30)
            self._learning_rate.assign(self._learning_rate * (1.0 + 0.02 * cosine))
            before = [v + 0.0 for v in variables]
            super().apply(grads, trainable_variables)
            for last, old, new in zip(self._last, before, variables, strict=True):
                last.assign(old - new)

    return Hypergradient


class Prodigy(keras.optimizers.Optimizer):
    """Prodigy (Mishchenko & Defazio 2024, arXiv:2306.06101), Adam's form, without weight decay.

    Args:
      learning_rate: a factor of the distance that is estimated; 1 in the paper.
      first: the first estimate of the distance.
    """

    def __init__(self, learning_rate: float = 1.0, first: float = 1e-6, **more: Any) -> None:
        super().__init__(learning_rate=learning_rate, **more)
        self.first, self.beta_1, self.beta_2 = first, 0.9, 0.999

    def build(self, variables: list[Any]) -> None:
        """Add both moments, the initial weights, their sum and the estimate."""
        super().build(variables)
        names = ["moment", "square", "sum", "initial"]
        added = self.add_optimizer_variables(variables, names)
        self._moments, self._squares, self._sums, self._initial = added
        for initial, variable in zip(self._initial, variables, strict=True):
            initial.assign(variable + 0.0)
        constant = keras.initializers.Constant
        self._distance = self.add_variable((), constant(self.first), name="distance")
        self._numerator = self.add_variable((), constant(0.0), name="numerator")

    def apply(self, grads: list[Any], trainable_variables: Any = None) -> None:
        """Take a step with the estimate so far, then estimate anew."""
        variables = trainable_variables or self._trainable_variables
        grads = [ops.convert_to_tensor(g) for g in grads]
        distance, rate = self._distance + 0.0, self._learning_rate + 0.0
        share, beta_3 = distance / self.first * distance * rate, self.beta_2**0.5
        dot = sum(
            ops.sum(g * (x0 - x)) for g, x0, x in zip(grads, self._initial, variables, strict=True)
        )
        numerator = beta_3 * self._numerator + share * dot
        sums = [beta_3 * s + share * g for s, g in zip(self._sums, grads, strict=True)]
        super().apply(grads, trainable_variables)
        for old, new in zip(self._sums, sums, strict=True):
            old.assign(new)
        self._numerator.assign(numerator)
        norm = sum(ops.sum(ops.abs(s)) for s in sums)
        self._distance.assign(ops.maximum(distance, numerator / ops.maximum(norm, 1e-30)))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step of one variable."""
        place = self._get_variable_index(variable)
        moment, square, distance = self._moments[place], self._squares[place], self._distance
        self.assign(moment, self.beta_1 * moment + (1 - self.beta_1) * distance * gradient)
        self.assign(
            square,
            self.beta_2 * square + (1 - self.beta_2) * ops.square(distance * gradient),
        )
        step = moment / (ops.sqrt(square) + distance * 1e-8)
        self.assign_sub(variable, learning_rate * distance * step)


class AveragedAtEnd(keras.callbacks.Callback):
    """Evaluates ScheduleFreeAdamW where its authors do: at x = (y − (1 − β₁) z) / β₁.

    Args:
      batches: inputs over which batch statistics are estimated anew.
    """

    def __init__(self, batches: list[np.ndarray]) -> None:
        super().__init__()
        self._batches = batches

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Assign the averaged weights."""
        optimizer = self.model.optimizer
        beta = optimizer.beta_1
        for y, z in zip(self.model.trainable_variables, optimizer._momentums, strict=True):
            y.assign((y - (1.0 - beta) * z) / beta)
        if any(isinstance(layer, keras.layers.BatchNormalization) for layer in self.model.layers):
            for x in self._batches:
                self.model(x, training=True)


class GeneralizedNewton(keras.callbacks.Callback):
    """GeN (Bu & Xu 2025, arXiv:2407.02772): the rate from a parabola through three losses.

    Each eighth step's move D at the rate η is judged on another batch:
    η* = η/2 · (L(w − D) − L(w + D)) / (L(w + D) − 2 L(w) + L(w − D)), where the loss is convex
    along it. Its running mean, times the cosine's fall over the training, is the rate.

    Args:
      x: inputs.
      y: targets.
      num_steps: the length of the training.
      seed: of the batches.
    """

    EVERY = 8

    def __init__(self, x: np.ndarray, y: np.ndarray, num_steps: int, seed: int) -> None:
        super().__init__()
        self._x, self._y, self._num_steps = x, y, num_steps
        self._rng = np.random.default_rng([seed, 5])
        self._step = 0

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Begin with the compiled rate."""
        self._rate = float(self.model.optimizer.learning_rate)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Set the rate, and note the weights before a step that is judged."""
        synchronize(self.model)
        share = 0.5 * (1.0 + np.cos(np.pi * self._step / self._num_steps))
        self.model.optimizer.learning_rate.assign(self._rate * share)
        self._share = share
        if self._step % self.EVERY == 0:
            self._before = [np.array(v) for v in self.model.trainable_variables]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Judge the step."""
        if self._step % self.EVERY == 0:
            synchronize(self.model)
            variables = self.model.trainable_variables
            now = [np.array(v) for v in variables]
            rows = self._rng.integers(len(self._x), size=256)
            x, y = self._x[rows], self._y[rows]
            back = self._loss(self._before, x, y)
            ahead = [2.0 * new - old for new, old in zip(now, self._before, strict=True)]
            forth, here = self._loss(ahead, x, y), self._loss(now, x, y)
            bend = forth - 2.0 * here + back
            if np.isfinite(bend) and bend > 0.0 and back > forth:
                found = self._rate * self._share / 2.0 * (back - forth) / bend
                self._rate = 0.9 * self._rate + 0.1 * found
        self._step += 1

    def _loss(self, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
        """Assign weights, and return their loss on a batch."""
        for variable, weight in zip(self.model.trainable_variables, weights, strict=True):
            variable.assign(weight)
        return float(self.model.evaluate(x, y, batch_size=len(x), verbose=0))
