"""Many small networks side by side, as batched products."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.pretraining import batched_sequences
from keras_qan.pretraining.tasks import TaskTemplate

#: Keras's setting of the layer that is reimplemented here.
BATCH_NORM_MOMENTUM = 0.99


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


#: Numbers in [0, 1) that dropout's masks are cut from: to draw them anew took most of a step.
_UNIFORM = np.random.default_rng(0).random(1 << 20).astype(np.float32)


class BatchedNetwork:
    """The network of a template, for a whole population.

    Args:
      template: of the tasks.
    """

    def __init__(self, template: TaskTemplate) -> None:
        self.template = template
        self._is_over_sequences = template.kind in batched_sequences.KINDS
        self.sizes: list[tuple[int, int]] = []
        if not self._is_over_sequences:
            self._size_layers()

    def _size_layers(self) -> None:
        template, sizes = self.template, self.sizes
        incoming = template.num_features
        if template.kind == "convolutions":
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

    @property
    def num_hidden(self) -> int:
        """Number of hidden layers."""
        return len(self.sizes) - 1

    def initial_weights(
        self, num_tasks: int, members: int, rng: np.random.Generator
    ) -> BatchedWeights:
        """Draw initial weights, the same within a task: He's, or Glorot's for tanh."""
        trainable, moving = [], []
        if self._is_over_sequences:
            found = batched_sequences.parameters(self.template)
            trainable = [each.draw(num_tasks, rng) for each in found]
        norm = self.template.norm
        glorot = self.template.activation == "tanh"
        for number, (incoming, outgoing) in enumerate(self.sizes):
            is_head = number == self.num_hidden
            variance = 2.0 / (incoming + outgoing) if glorot or is_head else 2.0 / incoming
            kernel = rng.normal(size=(num_tasks, incoming, outgoing)) * np.sqrt(variance)
            trainable += [kernel, np.zeros((num_tasks, 1, outgoing))]
            ones, zeros = np.ones((num_tasks, 1, outgoing)), np.zeros((num_tasks, 1, outgoing))
            if norm and not is_head:
                trainable += [ones, zeros]
            if norm == "batch" and not is_head:
                moving += [zeros, ones]

        def for_members(values: list[np.ndarray]) -> list[tf.Tensor]:
            return [tf.constant(np.repeat(v, members, axis=0), tf.float32) for v in values]

        tensors = for_members(trainable)
        slots = [tf.zeros_like(v) for v in tensors]
        return BatchedWeights(tensors, slots, list(slots), for_members(moving))

    def watched_kernels(self, trainable: list[tf.Tensor]) -> list[tf.Tensor]:
        """The first and the last kernel, `[P, N]` each."""
        kernels = [trainable[0], trainable[-2]]
        return [tf.reshape(k, [tf.shape(k)[0], -1]) for k in kernels]

    def __call__(
        self,
        trainable: list[tf.Tensor],
        moving: list[tf.Tensor],
        x: tf.Tensor,
        draws: tf.Tensor | None = None,
        members: int = 1,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return outputs and the moving statistics after the batch.

        Args:
          trainable: weights.
          moving: moving statistics.
          x: inputs `[P, B, F]`.
          draws: int32 `[2]`, what dropout's masks follow from. Defaults to None: inference.
          members: of a task, which have the same masks. Defaults to 1.

        Returns:
          Outputs `[P, B, O]`, `[P, B · T, O]` of sequences, and the statistics.
        """
        if self._is_over_sequences:
            return batched_sequences.outputs(self.template, trainable, x), []
        template = self.template
        population, batch = x.shape[0], x.shape[1]
        variables, statistics = list(trainable), list(moving)
        updated: list[tf.Tensor] = []
        side = 8
        hidden = x
        for number in range(self.num_hidden):
            kernel, bias = variables.pop(0), variables.pop(0)
            if template.kind == "convolutions":
                images = tf.reshape(hidden, [population * batch, side, side, kernel.shape[1] // 9])
                patches = tf.image.extract_patches(
                    images, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"
                )
                side = (side + 1) // 2
                hidden = tf.reshape(patches, [population, batch * side * side, kernel.shape[1]])
            hidden = tf.matmul(hidden, kernel) + bias
            if template.norm:
                mean, variance = tf.nn.moments(
                    hidden, axes=[1 if template.norm == "batch" else 2], keepdims=True
                )
                if template.norm == "batch":
                    before = statistics.pop(0), statistics.pop(0)
                    if draws is not None:
                        rest = 1.0 - BATCH_NORM_MOMENTUM
                        found = zip(before, (mean, variance), strict=True)
                        updated += [old + rest * (new - old) for old, new in found]
                    else:
                        mean, variance = before
                hidden = (hidden - mean) * tf.math.rsqrt(variance + batched_sequences.NORM_EPSILON)
                hidden = hidden * variables.pop(0) + variables.pop(0)
            hidden = _ACTIVATIONS[template.activation](hidden)
            if template.dropout and draws is not None:
                hidden *= self._mask(hidden.shape, draws + number, members)
            if template.kind == "convolutions" and number == self.num_hidden - 1:
                hidden = tf.reshape(hidden, [population, batch, -1])
        kernel, bias = variables
        return tf.matmul(hidden, kernel) + bias, updated

    def _mask(self, shape: tf.TensorShape, draws: tf.Tensor, members: int) -> tf.Tensor:
        """Return a dropout mask, the same for all members of a task, with a mean of 1."""
        population, *rest = shape
        size = population // members * int(np.prod(rest))
        last = len(_UNIFORM) - size
        begin = tf.random.stateless_uniform([1], draws, minval=0, maxval=last, dtype=tf.int32)
        uniform = tf.reshape(tf.slice(_UNIFORM, begin, [size]), [-1, *rest])
        kept = tf.cast(uniform >= self.template.dropout, tf.float32)
        return tf.repeat(kept / (1.0 - self.template.dropout), members, axis=0)

    def losses(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Compute each member's mean loss, `[P]`: cross-entropy, or squared error."""
        if self.template.is_regression:
            return tf.reduce_mean(tf.square(outputs - y), axis=[1, 2])
        labels = tf.reshape(y, outputs.shape[:2])
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=outputs)
        return tf.reduce_mean(entropy, axis=1)


_ACTIVATIONS = {
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "gelu": functools.partial(tf.nn.gelu, approximate=True),
}
