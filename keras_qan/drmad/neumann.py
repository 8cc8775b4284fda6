"""The Neumann series of the implicit hypergradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_qan.drmad.functional_model import FunctionalModel, Tensors, dot

_POWER_ITERATIONS = 10


def series(
    model: FunctionalModel,
    values: Tensors,
    weights: Tensors,
    state: Tensors,
    gradient: Tensors,
    *,
    terms: tf.Tensor,
    batches: tf.Tensor,
    step_size: tf.Tensor,
) -> Tensors:
    """−(∂g/∂λ)ᵀ η Σ_{j<terms} (I − η H)^j ∇L, with g and H means over the first batches.

    Args:
      model: the model that was trained.
      values: the hyperparameters' values.
      weights: the weights that the training ended with.
      state: weights that are not trained.
      gradient: ∇L, of the validation loss by the weights.
      terms: number of terms, int32 `[]`.
      batches: number of batches, int32 `[]`.
      step_size: η `[]`, or 0 for 1 / the largest curvature.

    Returns:
      The derivatives by the values.
    """

    def product(vector: Tensors) -> tuple[Tensors, Tensors]:
        """H · vector and (∂g/∂λ)ᵀ · vector, means over the batches."""

        def body(step: tf.Tensor, hessian: Tensors, mixed: Tensors) -> tuple[Any, ...]:
            _, h, m = model.products(weights, values, state, step, vector)
            return step + 1, _sum(hessian, h), _sum(mixed, m)

        zeros = [[tf.zeros_like(t) for t in tensors] for tensors in (weights, values)]
        _, hessian, mixed = tf.while_loop(
            lambda step, *_: step < batches,
            body,
            (tf.constant(0), *zeros),
            parallel_iterations=1,
        )
        share = 1.0 / tf.cast(batches, model.info.dtype)
        return [share * h for h in hessian], [share * m for m in mixed]

    def curvature() -> tf.Tensor:
        """Largest curvature, by power iteration from ∇L."""

        def body(count: tf.Tensor, vector: Tensors, _: tf.Tensor) -> tuple[Any, ...]:
            size = tf.sqrt(dot(vector, vector)) + 1e-30
            image, _ = product([v / size for v in vector])
            return count + 1, image, tf.sqrt(dot(image, image))

        *_, size = tf.while_loop(
            lambda count, *_: count < _POWER_ITERATIONS,
            body,
            (tf.constant(0), gradient, tf.zeros([], model.info.dtype)),
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
