"""Many small networks trained side by side, in one compiled loop.

A population is G tasks with S members each. The members of a task start from the same weights and
see the same batches; only their learning rates differ. Weights carry the population as a leading
axis `[P = G·S]`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.pretraining.batched_network import BatchedNetwork, BatchedWeights
from keras_qan.pretraining.batched_slope import SlopeSums, add_step
from keras_qan.pretraining.tasks import TaskTemplate, draw_task

#: Keras's settings of the optimizers that are reimplemented here.
ADAM_BETA_2 = 0.999
RMSPROP_RHO = 0.9
LION_BETA_2 = 0.99
EPSILON = 1e-7


class BatchedOptimizers(NamedTuple):
    """Settings of each member's optimizer, float32 `[P]` each.

    Attributes:
      adaptive: 0 for stochastic gradient descent; 1 for the others, which scale their gradients:
        Adam and AdamW, unless one of the last two is 1.
      momentum: μ of SGD, or β₁.
      weight_decay: AdamW's.
      is_rmsprop: 1 for RMSprop.
      is_lion: 1 for Lion.
    """

    adaptive: tf.Tensor
    momentum: tf.Tensor
    weight_decay: tf.Tensor
    is_rmsprop: tf.Tensor
    is_lion: tf.Tensor


class BatchedData(NamedTuple):
    """The examples of G tasks: `x[G, N, F]`, `y[G, N]` or `y[G, N, O]`, and for validation."""

    x: tf.Tensor
    y: tf.Tensor
    validation_x: tf.Tensor
    validation_y: tf.Tensor


class Population:
    """Tasks of one template with their members, trained together.

    Args:
      template: of the tasks and networks.
      num_tasks: G.
      members: S, members of a task.
    """

    def __init__(self, template: TaskTemplate, num_tasks: int, members: int) -> None:
        self.network = BatchedNetwork(template)
        self.template = template
        self.num_tasks, self.members = num_tasks, members
        self.size = num_tasks * members
        self._advance = tf.function(
            functools.partial(self._advance_graph), autograph=False, jit_compile=True
        )
        self._validate = tf.function(
            functools.partial(self.validation_losses), autograph=False, jit_compile=True
        )

    def draw_tasks(self, seed: int) -> tuple[BatchedData, BatchedWeights]:
        """Draw new tasks and new initial weights."""
        rng = np.random.default_rng(seed)
        drawn = [draw_task(self.template, rng) for _ in range(self.num_tasks)]
        data = BatchedData(
            *(
                tf.constant(np.stack([getattr(pair[part], name) for pair in drawn]))
                for part in (0, 1)
                for name in ("x", "y")
            )
        )
        return data, self.network.initial_weights(self.num_tasks, self.members, rng)

    def advance(
        self,
        data: BatchedData,
        weights: BatchedWeights,
        optimizers: BatchedOptimizers,
        rates: tf.Tensor,
        seed: int,
        begin: int,
        end: int,
        *,
        measured: SlopeSums | None = None,
        measured_from: int = 0,
    ) -> tuple[BatchedWeights, tf.Tensor, tf.Tensor, SlopeSums | None]:
        """Train from step `begin` to step `end` (not included) at constant rates `[P]`.

        Args:
          data: the examples.
          weights: before the first of these steps.
          optimizers: of the members.
          rates: learning rates, `[P]`.
          seed: of the order of the examples and of dropout.
          begin: the first step.
          end: the one after the last.
          measured: of the slope ratio so far. Defaults to None: it is not measured.
          measured_from: the first step that is measured. Defaults to 0.

        Returns:
          The weights after; the loss of the first of these steps, `[P]`; the mean loss of the
          others, `[P]`, which the rates influence (NaN where there are none); what was measured.
        """
        steps = tf.constant([begin, end, measured_from], tf.int32)
        drawn = tf.constant(seed, tf.int32)
        return self._advance(data, weights, optimizers, rates, drawn, steps, measured)

    def _advance_graph(
        self,
        data: BatchedData,
        weights: BatchedWeights,
        optimizers: BatchedOptimizers,
        rates: tf.Tensor,
        seed: tf.Tensor,
        steps: tf.Tensor,
        measured: SlopeSums | None,
    ) -> tuple[BatchedWeights, tf.Tensor, tf.Tensor, SlopeSums | None]:
        carried = (weights,) if measured is None else (weights, measured)

        def body(step: tf.Tensor, *state: Any) -> Any:
            flat, (first, total) = state[:-2], state[-2:]
            now, *sums = tf.nest.pack_sequence_as(carried, flat)
            after, loss, gradient, update = self._step(data, now, optimizers, rates, seed, step)
            counts = tf.cast(step >= steps[2], tf.float32)
            sums = [add_step(each, gradient, update, after.trainable, counts) for each in sums]
            first = tf.where(step == steps[0], loss, first)
            total = total + tf.where(step == steps[0], 0.0, loss)
            return (step + 1, *tf.nest.flatten((after, *sums)), first, total)

        zeros = tf.zeros([self.size])
        result = tf.while_loop(
            lambda step, *_: step < steps[1],
            body,
            (steps[0], *tf.nest.flatten(carried), zeros, zeros),
        )
        count = tf.cast(steps[1] - steps[0] - 1, tf.float32)
        weights, *sums = tf.nest.pack_sequence_as(carried, result[1:-2])
        return weights, result[-2], result[-1] / count, sums[0] if sums else None

    def _step(
        self,
        data: BatchedData,
        weights: BatchedWeights,
        optimizers: BatchedOptimizers,
        rates: tf.Tensor,
        seed: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[BatchedWeights, tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """Return the weights after a step, its loss, gradient and update."""
        shape = [self.num_tasks, self.template.batch_size]
        draws = tf.stack([seed, step])
        chosen = tf.random.stateless_uniform(
            shape, draws, 0, self.template.num_train, dtype=tf.int32
        )
        x, y = (
            tf.repeat(tf.gather(part, chosen, batch_dims=1), self.members, axis=0)
            for part in (data.x, data.y)
        )
        with tf.GradientTape() as tape:
            tape.watch(weights.trainable)
            outputs, moving = self.network(
                weights.trainable, weights.moving, x, draws, self.members
            )
            losses = self.network.losses(outputs, y)
            total = tf.reduce_sum(losses)
        gradient = tape.gradient(total, weights.trainable)
        updated, update = self._update(weights, gradient, optimizers, rates, step)
        return updated._replace(moving=moving), losses, gradient, update

    def _update(
        self,
        weights: BatchedWeights,
        gradients: list[tf.Tensor],
        optimizers: BatchedOptimizers,
        rates: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[BatchedWeights, list[tf.Tensor]]:
        """Keras's SGD with momentum (v ← μv - ηg, w ← w + v), Adam, AdamW, RMSprop and Lion.

        Returns:
          The weights after, and what was added to them beside the decay.
        """
        rate = rates[:, tf.newaxis, tf.newaxis]
        momentum = optimizers.momentum[:, tf.newaxis, tf.newaxis]
        decay = optimizers.weight_decay[:, tf.newaxis, tf.newaxis]
        adaptive, is_rmsprop, is_lion = (
            flag[:, tf.newaxis, tf.newaxis] > 0.0
            for flag in (optimizers.adaptive, optimizers.is_rmsprop, optimizers.is_lion)
        )
        count = tf.cast(step + 1, tf.float32)
        correction = tf.sqrt(1.0 - ADAM_BETA_2**count) / (1.0 - momentum**count)
        correction = tf.where(is_rmsprop, 1.0, correction)
        rho = tf.where(is_rmsprop, RMSPROP_RHO, ADAM_BETA_2)
        kept = tf.where(is_lion, LION_BETA_2, momentum)
        trainable, first_slots, second_slots, updates = [], [], [], []
        for value, first, second, gradient in zip(
            weights.trainable, weights.first_slots, weights.second_slots, gradients, strict=True
        ):
            velocity = momentum * first - rate * gradient
            moment = first + (1.0 - momentum) * (gradient - first)
            square = second + (1.0 - rho) * (tf.square(gradient) - second)
            # RMSprop has its ε below the root.
            inside = tf.where(is_rmsprop, EPSILON, 0.0)
            scale = tf.sqrt(square + inside) + (EPSILON - inside)
            scaled = -rate * correction * moment / scale
            scaled = tf.where(is_lion, -rate * tf.sign(moment), scaled)
            updates.append(tf.where(adaptive, scaled, velocity))
            trainable.append(value * (1.0 - rate * decay) + updates[-1])
            average = first + (1.0 - kept) * (gradient - first)
            first_slots.append(tf.where(adaptive, average, velocity))
            second_slots.append(square)
        after = weights._replace(
            trainable=trainable, first_slots=first_slots, second_slots=second_slots
        )
        return after, updates

    def validate(self, data: BatchedData, weights: BatchedWeights) -> np.ndarray:
        """Compute each member's validation loss, `[P]`."""
        return self._validate(data, weights).numpy()

    def validation_losses(self, data: BatchedData, weights: BatchedWeights) -> tf.Tensor:
        """Compute the losses of `validate` as part of a larger program."""
        x, y = (
            tf.repeat(part, self.members, axis=0) for part in (data.validation_x, data.validation_y)
        )
        outputs, _ = self.network(weights.trainable, weights.moving, x)
        return self.network.losses(outputs, y)
