"""The Neumann series of the implicit hypergradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_qan.drmad.functional_model import FunctionalModel, Tensors, dot

_POWER_ITERATIONS = 10


def series(
    student: FunctionalModel,
    values: Tensors,
    weights: Tensors,
    state: Tensors,
    gradient: Tensors,
    terms: tf.Tensor,
    batches: tf.Tensor,
    step_size: tf.Tensor,
) -> Tensors:
    """−(∂g/∂λ)ᵀ η Σ_{j<terms} (I − η H)^j ∇L, with g and H means over the first batches.

    Args:
      student: what was trained.
      values: of the hyperparameters.
      weights: where the training ended.
      state: weights that are not trained.
      gradient: ∇L, of the validation loss by the weights.
      terms: of the series, int `[]`.
      batches: how many, int `[]`.
      step_size: η `[]`, or 0 for 1 / the largest curvature.

    Returns:
      The derivatives by the values.
    """

    def product(vector: Tensors) -> tuple[Tensors, Tensors]:
        """H · vector and (∂g/∂λ)ᵀ · vector, means over the batches."""

        def body(step: tf.Tensor, hessian: Tensors, mixed: Tensors) -> tuple[Any, ...]:
            _, h, m = student.products(weights, values, state, step, vector)
            return step + 1, _sum(hessian, h), _sum(mixed, m)

        _, hessian, mixed = tf.while_loop(
            lambda step, *_: step < batches,
            body,
            (
                tf.constant(0),
                [tf.zeros_like(w) for w in weights],
                [tf.zeros_like(v) for v in values],
            ),
            parallel_iterations=1,
        )
        share = 1.0 / tf.cast(batches, student.facts.dtype)
        return [share * h for h in hessian], [share * m for m in mixed]

    def curvature() -> tf.Tensor:
        def body(count: tf.Tensor, vector: Tensors, _: tf.Tensor) -> tuple[Any, ...]:
            size = tf.sqrt(dot(vector, vector)) + 1e-30
            unit = [v / size for v in vector]
            image, _ = product(unit)
            return count + 1, image, tf.sqrt(dot(image, image))

        zero = tf.zeros([], student.facts.dtype)
        *_, size = tf.while_loop(
            lambda count, *_: count < _POWER_ITERATIONS,
            body,
            (tf.constant(0), gradient, zero),
            parallel_iterations=1,
        )
        # Power iteration comes from below; a fifth more keeps the series convergent.
        return 1.2 * size

    step_size = tf.where(step_size > 0.0, step_size, 1.0 / (curvature() + 1e-12))

    def term(count: tf.Tensor, power: Tensors, total: Tensors) -> tuple[Any, ...]:
        image, _ = product(power)
        total = _sum(total, power)
        return count + 1, [p - step_size * h for p, h in zip(power, image, strict=True)], total

    _, _, total = tf.while_loop(
        lambda count, *_: count < terms,
        term,
        (tf.constant(0), gradient, [tf.zeros_like(g) for g in gradient]),
        parallel_iterations=1,
    )
    _, mixed = product([-step_size * t for t in total])
    return mixed


def _sum(left: Tensors, right: Tensors) -> Tensors:
    return [a + b for a, b in zip(left, right, strict=True)]
