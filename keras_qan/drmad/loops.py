"""Compiled loops over the steps of a training, forward and in reverse.

Their memory does not depend on the number of steps, but for `Loops.reverse_exact`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_qan.drmad import neumann
from keras_qan.drmad.functional_model import FunctionalModel, Tensors, dot

_REWRITES = "disable_meta_optimizer"

# Below it a velocity cannot be traced back to the one before.
_LEAST_MOMENTUM = 1e-6


class Adam(NamedTuple):
    """Settings of Adam beside its rate and momentum.

    Args:
      beta_2: decay of the mean squares of the gradient, in [0, 1).
      epsilon: added to their roots.
    """

    beta_2: float
    epsilon: float


class InnerState(NamedTuple):
    """A training as it stands before a step, in tensors.

    Args:
      step: number of steps done, int32 `[]`.
      weights: the trainable weights.
      velocity: of the momentum, one tensor for each weight.
      square: Adam's mean squares of the gradient, likewise; none for SGD.
      state: the weights that are not trained.
      rate_sum: sum of each weight tensor's rates so far, `[W]`.
      train_loss: mean training loss, penalties included, since the state before; `[]`.
    """

    step: tf.Tensor
    weights: Tensors
    velocity: Tensors
    square: Tensors
    state: Tensors
    rate_sum: tf.Tensor
    train_loss: tf.Tensor


class Adjoint(NamedTuple):
    """Derivatives of the validation loss, as they stand before a step in reverse.

    Args:
      weights: δw, by the weights.
      velocity: δv, by the velocity.
      square: by Adam's mean squares; none for SGD.
      values: by the hyperparameters' values, summed over the steps so far.
    """

    weights: Tensors
    velocity: Tensors
    square: Tensors
    values: Tensors


class ReverseSpan(NamedTuple):
    """A part of the reverse pass; int32 `[]` each.

    Args:
      first: its first step in reverse, of `strides`.
      last: one after its last.
      strides: number of steps in reverse of the whole pass.
      steps: number of steps of the training.
    """

    first: tf.Tensor
    last: tf.Tensor
    strides: tf.Tensor
    steps: tf.Tensor


class _Point(NamedTuple):
    """A step to be reversed, of `stride` steps; one of the velocities around it is None."""

    step: tf.Tensor
    steps: tf.Tensor
    stride: tf.Tensor
    weights: Tensors
    state: Tensors
    velocity_before: Tensors | None
    velocity_after: Tensors | None


#: What goes from step to step: weights, velocity, mean squares, and weights that are not trained.
_Carried = tuple[Tensors, Tensors, Tensors, Tensors]


class CompiledFunction:
    """A compiled function whose graph TensorFlow's rewriter leaves as it is.

    The rewriter turns sums of large tensors into temporary variables, and in a loop the last,
    dead turn leaves one behind, so that the next call fails with "AlreadyExists"
    (tensorflow#23780, open). These loops were no slower without it.

    Args:
      function: takes and returns nested structures of tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._compiled = tf.function(function, autograph=False)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it, and restore TensorFlow's option afterwards."""
        before = tf.config.optimizer.get_experimental_options().get(_REWRITES, False)
        tf.config.optimizer.set_experimental_options({_REWRITES: True})
        try:
            return self._compiled(*arguments, **named)
        finally:
            tf.config.optimizer.set_experimental_options({_REWRITES: before})


class Loops:
    """Compiled loops over a functional model's training steps.

    One step of the training, for weights w, velocity v, rate α (of each weight tensor) and
    momentum γ, with g the gradient of the training loss:

        v ← γ v − (1 − γ) g;   w ← w + α v.

    At a constant rate this is `keras.optimizers.SGD(α (1 − γ), momentum=γ)`.

    The step in reverse, for δw and δv, the derivatives of the validation loss by what the step
    left:

        δv ← δv + α δw
        ∂α = ⟨δw, v after⟩,   ∂γ = ⟨δv, v before + g⟩
        δw ← δw − (1 − γ) H δv,   ∂λ = −(1 − γ) (∂g/∂λ)ᵀ δv
        δv ← γ δv

    Maclaurin, Duvenaud & Adams 2015, Algorithm 2, and Fu et al. 2016, section 3, whose α, γ and
    (1 − γ) are kept here where the latter's pseudocode leaves them out.

    With Adam, w ← w + α √(1 − β₂ᵗ) / (1 − γᵗ) · v / (√s + ε) with s ← β₂ s + (1 − β₂) g² at step
    t = 1, 2, …, as `keras.optimizers.Adam(α, beta_1=γ)`; in reverse by automatic differentiation of
    the step.

    Args:
      model: the model to train.
      adam: Adam's own settings. Defaults to none, for SGD.
    """

    def __init__(self, model: FunctionalModel, adam: Adam | None = None) -> None:
        self.model = model
        self.adam = adam
        self.forward = CompiledFunction(self._forward)
        self.validate = CompiledFunction(self._validate)
        self.validation_gradient = CompiledFunction(self._validation_gradient)
        self.reverse_chord = CompiledFunction(self._reverse_chord)
        self.reverse_exact = CompiledFunction(self._reverse_exact)
        self.neumann = CompiledFunction(functools.partial(neumann.series, model))
        self.start = CompiledFunction(model.start)

    # Training.

    def _forward(
        self, values: Tensors, begin: InnerState, last: tf.Tensor, steps: tf.Tensor
    ) -> InnerState:
        """Train from `begin` to before step `last` of `steps`.

        Returns:
          The state there; its loss is not finite where the training stopped at a non-finite one.
        """

        def goes_on(step: tf.Tensor, total: tf.Tensor, *_: Any) -> tf.Tensor:
            return (step < last) & tf.math.is_finite(total)

        def body(step: tf.Tensor, total: tf.Tensor, far: tf.Tensor, now: _Carried) -> Any:
            loss, rates, after = self._train_step(values, step, steps, now)
            return step + 1, total + loss, far + rates, after

        zero = tf.zeros([], self.model.info.dtype)
        _, total, rate_sum, (weights, velocity, square, state) = tf.while_loop(
            goes_on,
            body,
            (begin.step, zero, begin.rate_sum, _carried(begin)),
            parallel_iterations=1,
        )
        mean = total / tf.cast(tf.maximum(last - begin.step, 1), total.dtype)
        return InnerState(last, weights, velocity, square, state, rate_sum, mean)

    def _train_step(
        self,
        values: Tensors,
        step: tf.Tensor,
        steps: tf.Tensor,
        now: _Carried,
    ) -> tuple[tf.Tensor, tf.Tensor, _Carried]:
        """Loss, rates, and what the training carries on after a step."""
        weights, velocity, square, state = now
        progress = self._progress(step, steps)
        rates, gamma = self.model.rates(values, progress), self.model.gamma(values, progress)
        loss, gradient, state = self.model.gradient(weights, values, state, step)
        change, velocity, square = self._update(rates, gamma, step, gradient, velocity, square)
        weights = [w + c for w, c in zip(weights, change, strict=True)]
        return loss, rates, (weights, velocity, square, state)

    def _update(
        self,
        rates: tf.Tensor,
        gamma: tf.Tensor,
        step: tf.Tensor,
        gradient: Tensors,
        velocity: Tensors,
        square: Tensors,
    ) -> tuple[Tensors, Tensors, Tensors]:
        """Change of the weights in a step, and velocity and mean squares after it."""
        velocity = [gamma * v - (1.0 - gamma) * g for v, g in zip(velocity, gradient, strict=True)]
        change = [a * v for a, v in zip(tf.unstack(rates), velocity, strict=True)]
        if self.adam is None:
            return change, velocity, square
        beta, epsilon = self.adam
        square = [
            beta * s + (1.0 - beta) * tf.square(g) for s, g in zip(square, gradient, strict=True)
        ]
        count = tf.cast(step + 1, gamma.dtype)
        scale = tf.sqrt(1.0 - beta**count) / (1.0 - gamma**count)
        change = [scale * c / (_root(s) + epsilon) for c, s in zip(change, square, strict=True)]
        return change, velocity, square

    def _progress(self, step: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        """Progress of the training at a step, `[]` in [0, 1]."""
        last = tf.maximum(steps - 1, 1)
        progress = tf.cast(step, tf.float64) / tf.cast(last, tf.float64)
        return tf.cast(progress, self.model.info.dtype)

    # Validation.

    def _validate(self, weights: Tensors, state: Tensors) -> tf.Tensor:
        """Mean validation loss, `[]`."""
        data = self.model.validation

        def body(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            loss = self.model.validation_loss(weights, state, data.batch(number))
            return number + 1, total + loss

        _, total = tf.while_loop(
            lambda number, _: number < data.num_batches,
            body,
            (tf.constant(0), tf.zeros([], self.model.info.dtype)),
            parallel_iterations=1,
        )
        return total / data.num_examples

    def _validation_gradient(self, weights: Tensors, state: Tensors) -> Tensors:
        """Gradient ∇L of the mean validation loss by the weights."""
        data = self.model.validation

        def body(number: tf.Tensor, total: Tensors) -> tuple[tf.Tensor, Tensors]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                loss = self.model.validation_loss(weights, state, data.batch(number))
            found = tape.gradient(loss, weights, unconnected_gradients="zero")
            return number + 1, [
                t + tf.convert_to_tensor(g) for t, g in zip(total, found, strict=True)
            ]

        _, total = tf.while_loop(
            lambda number, _: number < data.num_batches,
            body,
            (tf.constant(0), [tf.zeros_like(w) for w in weights]),
            parallel_iterations=1,
        )
        return [t / data.num_examples for t in total]

    # In reverse.

    def _reverse_step(self, values: Tensors, point: _Point, adjoint: Adjoint) -> Adjoint:
        """Derivatives before a step, from those after it.

        A stride of m takes one step of rate m·α and momentum γ^m where the training took m.
        """
        progress = self._progress(point.step, point.steps)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            rates = point.stride * self.model.rates(values, progress)
            gamma = self.model.gamma(values, progress) ** point.stride
        d_velocity = [
            dv + a * dw
            for dv, a, dw in zip(adjoint.velocity, tf.unstack(rates), adjoint.weights, strict=True)
        ]
        vector = [-(1.0 - gamma) * dv for dv in d_velocity]
        gradient, hessian, mixed = self.model.products(
            point.weights, values, point.state, point.step, vector
        )
        before, after = _velocities(point, gamma, gradient)
        d_rates = tf.stack(
            [tf.reduce_sum(dw * v) for dw, v in zip(adjoint.weights, after, strict=True)]
        )
        d_gamma = dot(d_velocity, [v + g for v, g in zip(before, gradient, strict=True)])
        update = tape.gradient(
            [rates, gamma], values, [d_rates, d_gamma], unconnected_gradients="zero"
        )
        return Adjoint(
            [dw + h for dw, h in zip(adjoint.weights, hessian, strict=True)],
            [gamma * dv for dv in d_velocity],
            adjoint.square,
            [
                f + m + tf.convert_to_tensor(u)
                for f, m, u in zip(adjoint.values, mixed, update, strict=True)
            ],
        )

    def _reverse_adam_step(
        self, values: Tensors, point: _Point, square: Tensors, adjoint: Adjoint
    ) -> Adjoint:
        """Derivatives before a step of Adam, from those after it."""
        progress = self._progress(point.step, point.steps)
        _, gradient, _ = self.model.gradient(point.weights, values, point.state, point.step)
        assert point.velocity_before is not None
        before: list[Tensors] = [gradient, point.velocity_before, square]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([values, before])
            rates, gamma = self.model.rates(values, progress), self.model.gamma(values, progress)
            after = self._update(rates, gamma, point.step, *before)
        update, (d_gradient, d_velocity, d_square) = tape.gradient(
            after,
            [values, before],
            [adjoint.weights, adjoint.velocity, adjoint.square],
            unconnected_gradients="zero",
        )
        _, hessian, mixed = self.model.products(
            point.weights, values, point.state, point.step, d_gradient
        )
        return Adjoint(
            [dw + h for dw, h in zip(adjoint.weights, hessian, strict=True)],
            d_velocity,
            d_square,
            [
                f + m + tf.convert_to_tensor(u)
                for f, m, u in zip(adjoint.values, mixed, update, strict=True)
            ],
        )

    def _reverse_chord(
        self,
        values: Tensors,
        chord: tuple[InnerState, InnerState],
        state: Tensors,
        adjoint: Adjoint,
        span: ReverseSpan,
        limit: tf.Tensor,
    ) -> tuple[Adjoint, tf.Tensor]:
        """Walk a leg backward along the straight line between its ends.

        A weight tensor is as far along the line as the sum of its rates is along theirs; at a
        constant rate that is β = t / T. The velocity on the line is its length over that sum.

        Args:
          values: the hyperparameters' values.
          chord: the training at the leg's beginning and at its end.
          state: weights that are not trained, as the training left them.
          adjoint: the derivatives at the leg's end.
          span: the leg.
          limit: norm of δw beyond which the pass ends early, `[]`.

        Returns:
          The derivatives at the leg's beginning, and the step in reverse that was reached.
        """
        begin, end = chord
        length = end.rate_sum - begin.rate_sum
        velocity = [
            (b - a) / far
            for a, b, far in zip(begin.weights, end.weights, tf.unstack(length), strict=True)
        ]
        stride = tf.cast(span.steps / span.strides, self.model.info.dtype)

        def body(number: tf.Tensor, far: tf.Tensor, found: Adjoint) -> tuple[Any, ...]:
            number -= 1
            middle = (2 * tf.cast(number, tf.int64) + 1) * tf.cast(span.steps, tf.int64)
            step = tf.cast(middle // (2 * tf.cast(span.strides, tf.int64)), tf.int32)
            far -= stride * self.model.rates(values, self._progress(step, span.steps))
            share = tf.unstack(tf.clip_by_value((far - begin.rate_sum) / length, 0.0, 1.0))
            here = [
                (1.0 - beta) * a + beta * b
                for a, b, beta in zip(begin.weights, end.weights, share, strict=True)
            ]
            point = _Point(step, span.steps, stride, here, state, None, velocity)
            return number, far, self._reverse_step(values, point, found)

        def goes_on(number: tf.Tensor, _: tf.Tensor, found: Adjoint) -> tf.Tensor:
            # Written so that a norm that is not a number ends it too.
            return (number > span.first) & (dot(found.weights, found.weights) <= limit * limit)

        reached, _, adjoint = tf.while_loop(
            goes_on, body, (span.last, end.rate_sum, adjoint), parallel_iterations=1
        )
        return adjoint, reached

    def _reverse_exact(
        self,
        values: Tensors,
        begin: InnerState,
        adjoint: Adjoint,
        last: tf.Tensor,
        steps: tf.Tensor,
    ) -> Adjoint:
        """Train a segment again, keeping each step, and walk it backward.

        Args:
          values: the hyperparameters' values.
          begin: the training at the segment's first step.
          adjoint: the derivatives at the segment's end.
          last: one after the segment's last step, int32 `[]`.
          steps: number of steps of the whole training, int32 `[]`.
        """
        size = last - begin.step
        carried = _carried(begin)
        kept = [
            tf.TensorArray(t.dtype, size, element_shape=t.shape, clear_after_read=True)
            for t in tf.nest.flatten(carried)
        ]

        def keep(step: tf.Tensor, now: Any, arrays: Any) -> tuple[Any, ...]:
            arrays = [
                array.write(step - begin.step, t)
                for array, t in zip(arrays, tf.nest.flatten(now), strict=True)
            ]
            _, _, after = self._train_step(values, step, steps, now)
            return step + 1, after, arrays

        _, _, kept = tf.while_loop(
            lambda step, *_: step < last, keep, (begin.step, carried, kept), parallel_iterations=1
        )
        one = tf.ones([], self.model.info.dtype)

        def body(step: tf.Tensor, found: Adjoint) -> tuple[tf.Tensor, Adjoint]:
            step -= 1
            read = [array.read(step - begin.step) for array in kept]
            weights, velocity, square, state = tf.nest.pack_sequence_as(carried, read)
            point = _Point(step, steps, one, weights, state, velocity, None)
            if self.adam is not None:
                return step, self._reverse_adam_step(values, point, square, found)
            return step, self._reverse_step(values, point, found)

        _, adjoint = tf.while_loop(
            lambda step, _: step > begin.step, body, (last, adjoint), parallel_iterations=1
        )
        return adjoint


def _carried(at: InnerState) -> _Carried:
    return at.weights, at.velocity, at.square, at.state


def _root(square: tf.Tensor) -> tf.Tensor:
    """√s, with the derivative 0 at 0, where no gradient has come yet and the velocity is 0."""
    some = square > 0.0
    return tf.where(some, tf.sqrt(tf.where(some, square, 1.0)), 0.0)


def _velocities(point: _Point, gamma: tf.Tensor, gradient: Tensors) -> tuple[Tensors, Tensors]:
    """Velocities before and after a step: the one that is known, and the one that follows."""
    before, after = point.velocity_before, point.velocity_after
    if before is not None:
        return before, [
            gamma * v - (1.0 - gamma) * g for v, g in zip(before, gradient, strict=True)
        ]
    assert after is not None
    small = tf.cast(_LEAST_MOMENTUM, gamma.dtype)
    return [
        (v + (1.0 - gamma) * g) / tf.maximum(gamma, small)
        for v, g in zip(after, gradient, strict=True)
    ], after
