"""Compiled functions that TensorFlow's graph rewriter leaves as they are.

The training and its reverse as compiled loops whose memory does not depend on their length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_qan.drmad import neumann
from keras_qan.drmad.functional_model import FunctionalModel, Tensors, dot

_REWRITES = "disable_meta_optimizer"


class CompiledFunctions:
    """A compiled function whose graph TensorFlow's rewriter leaves as it is.

    The rewriter turns sums of large tensors into temporary variables, and in a loop the last,
    dead turn leaves one behind, so that the next call fails with "AlreadyExists"
    (tensorflow#23780, open). These loops were no slower without it.

    Args:
      function: of tensors and lists of tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._compiled = tf.function(function, autograph=False)

    def __call__(self, *arguments: Any) -> Any:
        """Calls it; what was set before is set again after."""
        before = tf.config.optimizer.get_experimental_options().get(_REWRITES, False)
        tf.config.optimizer.set_experimental_options({_REWRITES: True})
        try:
            return self._compiled(*arguments)
        finally:
            tf.config.optimizer.set_experimental_options({_REWRITES: before})


# Below it a velocity cannot be traced back to the one before.
_LEAST_MOMENTUM = 1e-6


class Loops:
    """Compiled loops over a student's steps.

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

    Args:
      student: what is trained.
    """

    def __init__(self, student: FunctionalModel) -> None:
        self.student = student
        self.forward = CompiledFunctions(self._forward)
        self.validate = CompiledFunctions(self._validate)
        self.validation_gradient = CompiledFunctions(self._validation_gradient)
        self.reverse_chord = CompiledFunctions(self._reverse_chord)
        self.reverse_exact = CompiledFunctions(self._reverse_exact)
        self.neumann = CompiledFunctions(functools.partial(neumann.series, student))
        self.start = CompiledFunctions(student.start)

    def _numbers(
        self, values: Tensors, step: tf.Tensor, steps: tf.Tensor
    ) -> tuple[Tensors, tf.Tensor, tf.Tensor]:
        """α of each tensor as a list, the same as one tensor, and γ."""
        last = tf.maximum(steps - 1, 1)
        progress = tf.cast(step, tf.float64) / tf.cast(last, tf.float64)
        progress = tf.cast(progress, self.student.facts.dtype)
        rates = self.student.rates(values, progress)
        return tf.unstack(rates), rates, self.student.gamma(values, progress)

    def _step(
        self,
        step: tf.Tensor,
        steps: tf.Tensor,
        values: Tensors,
        weights: Tensors,
        velocity: Tensors,
        state: Tensors,
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors, Tensors, Tensors]:
        alphas, rates, gamma = self._numbers(values, step, steps)
        loss, gradient, state = self.student.gradient(weights, values, state, step)
        velocity = [gamma * v - (1.0 - gamma) * g for v, g in zip(velocity, gradient, strict=True)]
        weights = [w + a * v for w, a, v in zip(weights, alphas, velocity, strict=True)]
        return loss, rates, weights, velocity, state

    def _forward(
        self,
        values: Tensors,
        weights: Tensors,
        velocity: Tensors,
        state: Tensors,
        travelled: tf.Tensor,
        first: tf.Tensor,
        last: tf.Tensor,
        steps: tf.Tensor,
    ) -> tuple[Tensors, Tensors, Tensors, tf.Tensor, tf.Tensor]:
        """Trains from step `first` to before step `last` of `steps`.

        Returns:
          Weights, velocity, state, the rates summed up so far `[W]`, and the mean training loss,
          which is not finite where the training broke off because its loss was not.
        """
        zero = tf.zeros([], self.student.facts.dtype)

        def goes_on(step: tf.Tensor, total: tf.Tensor, *_: Any) -> tf.Tensor:
            return (step < last) & tf.math.is_finite(total)

        def body(
            step: tf.Tensor, total: tf.Tensor, far: tf.Tensor, w: Tensors, v: Tensors, s: Tensors
        ) -> tuple[Any, ...]:
            loss, rates, w, v, s = self._step(step, steps, values, w, v, s)
            return step + 1, total + loss, far + rates, w, v, s

        _, total, travelled, weights, velocity, state = tf.while_loop(
            goes_on,
            body,
            (first, zero, travelled, weights, velocity, state),
            parallel_iterations=1,
        )
        mean = total / tf.cast(tf.maximum(last - first, 1), total.dtype)
        return weights, velocity, state, travelled, mean

    # Validation.

    def _validate(self, weights: Tensors, state: Tensors) -> tf.Tensor:
        """The mean validation loss."""
        data = self.student.validation

        def body(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            loss = self.student.validation_loss(weights, state, data.batch(number))
            return number + 1, total + loss

        _, total = tf.while_loop(
            lambda number, _: number < data.num_batches,
            body,
            (tf.constant(0), tf.zeros([], self.student.facts.dtype)),
            parallel_iterations=1,
        )
        return total / data.num_examples

    def _validation_gradient(self, weights: Tensors, state: Tensors) -> Tensors:
        """The gradient of the mean validation loss by the weights."""
        data = self.student.validation

        def body(number: tf.Tensor, total: Tensors) -> tuple[tf.Tensor, Tensors]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                loss = self.student.validation_loss(weights, state, data.batch(number))
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

    def _back(
        self,
        step: tf.Tensor,
        steps: tf.Tensor,
        stride: tf.Tensor,
        values: Tensors,
        weights: Tensors,
        before: Tensors | None,
        after: Tensors | None,
        state: Tensors,
        d_weights: Tensors,
        d_velocity: Tensors,
        found: Tensors,
    ) -> tuple[Tensors, Tensors, Tensors]:
        """One step in reverse, which stands for `stride` steps of the training.

        Of the velocities before and after the step one is None: it follows from the other.

        A stride of m takes one step of rate m·α and momentum γ^m where the training took m.
        """
        last = tf.maximum(steps - 1, 1)
        progress = tf.cast(tf.cast(step, tf.float64) / tf.cast(last, tf.float64), stride.dtype)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            rates = stride * self.student.rates(values, progress)
            gamma = self.student.gamma(values, progress) ** stride
        alphas = tf.unstack(rates)
        d_velocity = [dv + a * dw for dv, a, dw in zip(d_velocity, alphas, d_weights, strict=True)]
        vector = [-(1.0 - gamma) * dv for dv in d_velocity]
        gradient, hessian, mixed = self.student.products(weights, values, state, step, vector)
        if before is not None:
            after = [gamma * v - (1.0 - gamma) * g for v, g in zip(before, gradient, strict=True)]
        else:
            assert after is not None
            small = tf.cast(_LEAST_MOMENTUM, gamma.dtype)
            before = [
                (v + (1.0 - gamma) * g) / tf.maximum(gamma, small)
                for v, g in zip(after, gradient, strict=True)
            ]
        d_rates = tf.stack([tf.reduce_sum(dw * v) for dw, v in zip(d_weights, after, strict=True)])
        d_gamma = dot(d_velocity, [v + g for v, g in zip(before, gradient, strict=True)])
        update = tape.gradient(
            [rates, gamma], values, [d_rates, d_gamma], unconnected_gradients="zero"
        )
        found = [
            f + m + tf.convert_to_tensor(u) for f, m, u in zip(found, mixed, update, strict=True)
        ]
        d_weights = [dw + h for dw, h in zip(d_weights, hessian, strict=True)]
        return d_weights, [gamma * dv for dv in d_velocity], found

    def _reverse_chord(
        self,
        values: Tensors,
        ends: tuple[Tensors, Tensors],
        travelled: tuple[tf.Tensor, tf.Tensor],
        state: Tensors,
        d_weights: Tensors,
        d_velocity: Tensors,
        found: Tensors,
        first: tf.Tensor,
        last: tf.Tensor,
        strides: tf.Tensor,
        steps: tf.Tensor,
        limit: tf.Tensor,
    ) -> tuple[Tensors, Tensors, Tensors, tf.Tensor]:
        """Walks a leg backward along the straight line between its ends.

        A weight tensor is as far along the line as its rates, summed up, are along theirs; at a
        constant rate that is β = t / T. The velocity on the line is its length over that sum.

        Args:
          values: of the hyperparameters.
          ends: the weights that the leg began and ended with.
          travelled: the rates summed up there, `[W]` each.
          state: weights that are not trained, as the training left them.
          d_weights: δw at the leg's end.
          d_velocity: δv there.
          found: the derivatives by the values so far.
          first: the first of the leg's steps in reverse, of `strides`.
          last: after its last one.
          strides: how many steps the whole reverse pass takes.
          steps: how many the training took.
          limit: the norm of δw beyond which the pass ends early.

        Returns:
          δw, δv, the derivatives by the values, and the step in reverse that it came to.
        """
        begin, end = ends
        length = travelled[1] - travelled[0]
        velocity = [(b - a) / far for a, b, far in zip(begin, end, tf.unstack(length), strict=True)]
        stride = tf.cast(steps / strides, self.student.facts.dtype)

        def body(
            number: tf.Tensor, far: tf.Tensor, dw: Tensors, dv: Tensors, total: Tensors
        ) -> tuple[Any, ...]:
            number -= 1
            middle = (2 * tf.cast(number, tf.int64) + 1) * tf.cast(steps, tf.int64)
            step = tf.cast(middle // (2 * tf.cast(strides, tf.int64)), tf.int32)
            _, rates, _ = self._numbers(values, step, steps)
            far -= stride * rates
            share = tf.unstack(tf.clip_by_value((far - travelled[0]) / length, 0.0, 1.0))
            here = [
                (1.0 - beta) * a + beta * b for a, b, beta in zip(begin, end, share, strict=True)
            ]
            dw, dv, total = self._back(
                step, steps, stride, values, here, None, velocity, state, dw, dv, total
            )
            return number, far, dw, dv, total

        def goes_on(number: tf.Tensor, _: Any, dw: Tensors, *__: Any) -> tf.Tensor:
            # Written so that what is not a number ends it too.
            return (number > first) & (dot(dw, dw) <= limit * limit)

        reached, _, d_weights, d_velocity, found = tf.while_loop(
            goes_on,
            body,
            (last, travelled[1], d_weights, d_velocity, found),
            parallel_iterations=1,
        )
        return d_weights, d_velocity, found, reached

    def _reverse_exact(
        self,
        values: Tensors,
        weights: Tensors,
        velocity: Tensors,
        state: Tensors,
        d_weights: Tensors,
        d_velocity: Tensors,
        found: Tensors,
        first: tf.Tensor,
        last: tf.Tensor,
        steps: tf.Tensor,
    ) -> tuple[Tensors, Tensors, Tensors]:
        """Trains a segment again, keeping each step, and walks it backward.

        Args:
          values: of the hyperparameters.
          weights: what the segment began with.
          velocity: likewise.
          state: likewise.
          d_weights: δw at its end.
          d_velocity: δv there.
          found: the derivatives by the values so far.
          first: the segment's first step.
          last: after its last step.
          steps: of the whole training.
        """
        size = last - first
        carried = (weights, velocity, state)
        flat = tf.nest.flatten(carried)
        kept = [
            tf.TensorArray(t.dtype, size, element_shape=t.shape, clear_after_read=True)
            for t in flat
        ]

        def keep(step: tf.Tensor, now: Any, arrays: Any) -> tuple[Any, ...]:
            arrays = [
                array.write(step - first, t)
                for array, t in zip(arrays, tf.nest.flatten(now), strict=True)
            ]
            w, v, s = now
            _, _, w, v, s = self._step(step, steps, values, w, v, s)
            return step + 1, (w, v, s), arrays

        _, _, kept = tf.while_loop(
            lambda step, *_: step < last, keep, (first, carried, kept), parallel_iterations=1
        )
        stride = tf.ones([], self.student.facts.dtype)

        def body(step: tf.Tensor, dw: Tensors, dv: Tensors, total: Tensors) -> tuple[Any, ...]:
            step -= 1
            read = [array.read(step - first) for array in kept]
            w, v, s = tf.nest.pack_sequence_as(carried, read)
            dw, dv, total = self._back(step, steps, stride, values, w, v, None, s, dw, dv, total)
            return step, dw, dv, total

        _, d_weights, d_velocity, found = tf.while_loop(
            lambda step, *_: step > first,
            body,
            (last, d_weights, d_velocity, found),
            parallel_iterations=1,
        )
        return d_weights, d_velocity, found
