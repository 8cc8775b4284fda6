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

from keras_qan.pretraining.tasks import TaskTemplate, draw_task

#: Keras's settings of the optimizers that are reimplemented here.
ADAM_BETA_2 = 0.999
EPSILON = 1e-7
BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3


class BatchedOptimizers(NamedTuple):
    """Settings of each member's optimizer, float32 `[P]` each.

    Attributes:
      adaptive: 1 for Adam and AdamW, 0 for stochastic gradient descent.
      momentum: μ of SGD, or β₁.
      weight_decay: AdamW's.
    """

    adaptive: tf.Tensor
    momentum: tf.Tensor
    weight_decay: tf.Tensor


class BatchedData(NamedTuple):
    """The examples of G tasks: `x[G, N, F]`, `y[G, N]` or `y[G, N, O]`, and for validation."""

    x: tf.Tensor
    y: tf.Tensor
    validation_x: tf.Tensor
    validation_y: tf.Tensor


class BatchedWeights(NamedTuple):
    """A population in training; every tensor has a leading axis `[P]`.

    Attributes:
      trainable: kernels `[P, I, J]`, and biases, scales and shifts `[P, 1, J]`.
      first_slots: momentum, or Adam's first moment.
      second_slots: Adam's second moment.
      moving: moving means and variances of batch normalisation, `[P, 1, J]`.
    """

    trainable: list[tf.Tensor]
    first_slots: list[tf.Tensor]
    second_slots: list[tf.Tensor]
    moving: list[tf.Tensor]


class BatchedNetwork:
    """The network of a template, for a whole population.

    Args:
      template: of the tasks.
    """

    def __init__(self, template: TaskTemplate) -> None:
        self.template = template
        sizes: list[tuple[int, int]] = []
        incoming = template.num_features
        if template.convolutional:
            incoming, side = 1, 8
            for filters in template.hidden:
                sizes.append((9 * incoming, filters))
                incoming, side = filters, (side + 1) // 2
            incoming *= side * side
        else:
            for units in template.hidden:
                sizes.append((incoming, units))
                incoming = units
        sizes.append((incoming, template.num_outputs))
        self.sizes = sizes

    @property
    def num_hidden(self) -> int:
        """Number of hidden layers."""
        return len(self.sizes) - 1

    def initial_weights(
        self, num_tasks: int, members: int, rng: np.random.Generator
    ) -> BatchedWeights:
        """Draw initial weights, the same within a task: He's, or Glorot's for tanh."""
        trainable, moving = [], []
        glorot = self.template.activation == "tanh"
        for number, (incoming, outgoing) in enumerate(self.sizes):
            is_head = number == self.num_hidden
            variance = 2.0 / (incoming + outgoing) if glorot or is_head else 2.0 / incoming
            kernel = rng.normal(size=(num_tasks, incoming, outgoing)) * np.sqrt(variance)
            trainable += [kernel, np.zeros((num_tasks, 1, outgoing))]
            if self.template.batch_norm and not is_head:
                ones, zeros = np.ones((num_tasks, 1, outgoing)), np.zeros((num_tasks, 1, outgoing))
                trainable += [ones, zeros]
                moving += [zeros, ones]

        def for_members(values: list[np.ndarray]) -> list[tf.Tensor]:
            return [tf.constant(np.repeat(v, members, axis=0), tf.float32) for v in values]

        tensors = for_members(trainable)
        slots = [tf.zeros_like(v) for v in tensors]
        return BatchedWeights(tensors, slots, list(slots), for_members(moving))

    def watched_kernels(self, trainable: list[tf.Tensor]) -> list[tf.Tensor]:
        """The first and the last kernel, `[P, N]` each."""
        per_layer = 4 if self.template.batch_norm else 2
        kernels = [trainable[0], trainable[per_layer * self.num_hidden]]
        return [tf.reshape(k, [tf.shape(k)[0], -1]) for k in kernels]

    def __call__(
        self, trainable: list[tf.Tensor], moving: list[tf.Tensor], x: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Outputs `[P, B, O]` for `x[P, B, F]`, and the moving statistics after the batch."""
        template = self.template
        population, batch = x.shape[0], x.shape[1]
        variables, statistics = list(trainable), list(moving)
        updated: list[tf.Tensor] = []
        side = 8
        hidden = x
        for number in range(self.num_hidden):
            kernel, bias = variables.pop(0), variables.pop(0)
            if template.convolutional:
                images = tf.reshape(hidden, [population * batch, side, side, kernel.shape[1] // 9])
                patches = tf.image.extract_patches(
                    images, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"
                )
                side = (side + 1) // 2
                hidden = tf.reshape(patches, [population, batch * side * side, kernel.shape[1]])
            hidden = tf.matmul(hidden, kernel) + bias
            if template.batch_norm:
                scale, shift = variables.pop(0), variables.pop(0)
                mean, variance = statistics.pop(0), statistics.pop(0)
                if training:
                    batch_mean, batch_variance = tf.nn.moments(hidden, axes=[1], keepdims=True)
                    rest = 1.0 - BATCH_NORM_MOMENTUM
                    updated += [
                        mean + rest * (batch_mean - mean),
                        variance + rest * (batch_variance - variance),
                    ]
                    mean, variance = batch_mean, batch_variance
                hidden = (hidden - mean) * tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
                hidden = hidden * scale + shift
            hidden = _ACTIVATIONS[template.activation](hidden)
            if template.convolutional and number == self.num_hidden - 1:
                hidden = tf.reshape(hidden, [population, batch, -1])
        kernel, bias = variables
        return tf.matmul(hidden, kernel) + bias, updated

    def losses(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Compute each member's mean loss, `[P]`: cross-entropy, or squared error."""
        if self.template.is_regression:
            return tf.reduce_mean(tf.square(outputs - y), axis=[1, 2])
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=outputs)
        return tf.reduce_mean(entropy, axis=1)


_ACTIVATIONS = {
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "gelu": functools.partial(tf.nn.gelu, approximate=True),
}


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
    ) -> tuple[BatchedWeights, tf.Tensor, tf.Tensor]:
        """Train from step `begin` to step `end` (not included) at constant rates `[P]`.

        Returns:
          The weights after; the loss of the first of these steps, `[P]`; the mean loss of the
          others, `[P]`, which the rates influence (NaN where there are none).
        """
        steps = tf.constant([begin, end], tf.int32)
        return self._advance(data, weights, optimizers, rates, tf.constant(seed, tf.int32), steps)

    def _advance_graph(
        self,
        data: BatchedData,
        weights: BatchedWeights,
        optimizers: BatchedOptimizers,
        rates: tf.Tensor,
        seed: tf.Tensor,
        steps: tf.Tensor,
    ) -> tuple[BatchedWeights, tf.Tensor, tf.Tensor]:
        def body(step: tf.Tensor, *state: Any) -> Any:
            flat, (first, total) = state[:-2], state[-2:]
            now: BatchedWeights = tf.nest.pack_sequence_as(weights, flat)
            after, loss = self._step(data, now, optimizers, rates, seed, step)
            first = tf.where(step == steps[0], loss, first)
            total = total + tf.where(step == steps[0], 0.0, loss)
            return (step + 1, *tf.nest.flatten(after), first, total)

        zeros = tf.zeros([self.size])
        result = tf.while_loop(
            lambda step, *_: step < steps[1],
            body,
            (steps[0], *tf.nest.flatten(weights), zeros, zeros),
        )
        count = tf.cast(steps[1] - steps[0] - 1, tf.float32)
        return tf.nest.pack_sequence_as(weights, result[1:-2]), result[-2], result[-1] / count

    def _step(
        self,
        data: BatchedData,
        weights: BatchedWeights,
        optimizers: BatchedOptimizers,
        rates: tf.Tensor,
        seed: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[BatchedWeights, tf.Tensor]:
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
            outputs, moving = self.network(weights.trainable, weights.moving, x, training=True)
            losses = self.network.losses(outputs, y)
            total = tf.reduce_sum(losses)
        gradients = tape.gradient(total, weights.trainable)
        updated = self._update(weights, gradients, optimizers, rates, step)
        return updated._replace(moving=moving), losses

    def _update(
        self,
        weights: BatchedWeights,
        gradients: list[tf.Tensor],
        optimizers: BatchedOptimizers,
        rates: tf.Tensor,
        step: tf.Tensor,
    ) -> BatchedWeights:
        """Keras's SGD with momentum (v ← μv - ηg, w ← w + v), Adam and AdamW."""
        rate = rates[:, tf.newaxis, tf.newaxis]
        momentum = optimizers.momentum[:, tf.newaxis, tf.newaxis]
        decay = optimizers.weight_decay[:, tf.newaxis, tf.newaxis]
        adaptive = optimizers.adaptive[:, tf.newaxis, tf.newaxis] > 0.0
        count = tf.cast(step + 1, tf.float32)
        correction = tf.sqrt(1.0 - ADAM_BETA_2**count) / (1.0 - momentum**count)
        trainable, first_slots, second_slots = [], [], []
        for value, first, second, gradient in zip(
            weights.trainable, weights.first_slots, weights.second_slots, gradients, strict=True
        ):
            velocity = momentum * first - rate * gradient
            moment = first + (1.0 - momentum) * (gradient - first)
            square = second + (1.0 - ADAM_BETA_2) * (tf.square(gradient) - second)
            adam = -rate * correction * moment / (tf.sqrt(square) + EPSILON)
            decayed = value * (1.0 - rate * decay)
            trainable.append(decayed + tf.where(adaptive, adam, velocity))
            first_slots.append(tf.where(adaptive, moment, velocity))
            second_slots.append(square)
        return weights._replace(
            trainable=trainable, first_slots=first_slots, second_slots=second_slots
        )

    def validate(self, data: BatchedData, weights: BatchedWeights) -> np.ndarray:
        """Compute each member's validation loss, `[P]`."""
        return self._validate(data, weights).numpy()

    def validation_losses(self, data: BatchedData, weights: BatchedWeights) -> tf.Tensor:
        """Compute the losses of `validate` as part of a larger program."""
        x, y = (
            tf.repeat(part, self.members, axis=0) for part in (data.validation_x, data.validation_y)
        )
        outputs, _ = self.network(weights.trainable, weights.moving, x, training=False)
        return self.network.losses(outputs, y)
