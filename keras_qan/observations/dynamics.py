"""How a training is going, in numbers that know neither the task's scale nor the model's size."""

from __future__ import annotations

import tensorflow as tf

from keras_qan.observations.base import ObservationContext
from keras_qan.storage.serialization import configurable

#: Numbers in the motion of a kernel.
NUM_MOTIONS = 3


@configurable
class TrainingDynamics:
    """17 numbers: rate, time, losses, what was tried before, and how far the weights move.

    The rate of an optimizer with momentum μ counts as rate / (1 - μ), and whether an optimizer
    scales its gradients (Adam and its kin) is one of the numbers. Losses enter as logarithms of
    ratios, so that neither their unit nor the task's difficulty matters.

    Args:
      layers: the names of the layers whose kernels are watched, or their positions among the
        model's kernels; by default the first and the last.
    """

    def __init__(self, layers: tuple[str | int, ...] | list[str | int] = (0, -1)) -> None:
        self.layers: tuple[str | int, ...] | None = tuple(layers)

    def size(self, num_kernels: int) -> int:  # noqa: ARG002 - the protocol's word
        """17."""
        return 14 + NUM_MOTIONS

    def __call__(self, situation: ObservationContext) -> tf.Tensor:
        """float32 `[..., 17]`."""
        track = situation.track
        log_rate = tf.math.log(tf.maximum(situation.rate, 1e-30))
        numbers = [
            log_rate + situation.optimizer[..., 1],
            situation.optimizer[..., 0],
            situation.progress,
            tf.math.log(1.01 - situation.progress),
            tf.math.log(situation.num_steps),
            tf.math.log(situation.interval / situation.num_steps),
            track.now,
            track.now - track.before,
            track.before - track.earlier,
            track.now - track.best,
            track.best,
            track.last_change,
            tf.clip_by_value(log_rate - track.ceiling, -8.0, 2.0),
            tf.minimum(track.step_backs, 4.0),
        ]
        like = tf.zeros_like(track.now)
        numbers = [number + like for number in numbers]
        return tf.concat([tf.stack(numbers, axis=-1), situation.motion], axis=-1)


@configurable
class Generalisation:
    """4 numbers of the validation losses that `fit` reports: what the training loss cannot tell.

    Whether there was a report yet; and, all zeros before the first: how far the validation loss
    lies above the training loss, above its own lowest, and above the report before. Differences
    are of logarithms and clipped to ±4.
    """

    layers: tuple[str | int, ...] | None = ()

    def size(self, num_kernels: int) -> int:  # noqa: ARG002 - the protocol's word
        """4."""
        return 4

    def __call__(self, situation: ObservationContext) -> tf.Tensor:
        """float32 `[..., 4]`."""
        track = situation.track
        above = [
            track.validated * tf.clip_by_value(track.validation - other, -4.0, 4.0)
            for other in (track.now, track.validation_best, track.validation_before)
        ]
        return tf.stack([track.validated, *above], axis=-1)


def motion(
    kernel: tf.Tensor, before: tf.Tensor, last: tf.Tensor, start: tf.Tensor, steps: tf.Tensor
) -> tf.Tensor:
    """How a kernel moved since the last decision.

    Args:
      kernel: w, float32 `[..., N]`, flattened.
      before: w at the last decision.
      last: how it moved between the two decisions before.
      start: w when the training began.
      steps: n, the steps since the last decision, float32, at least 1.

    Returns:
      float32 `[..., 3]`: log(‖Δw‖ / (‖w‖ √n)), the cosine of Δw and the last Δw, and
      log(‖w - w₀‖ / ‖w₀‖).
    """
    moved = kernel - before
    length, earlier = _norm(moved), _norm(last)
    cosine = tf.reduce_sum(moved * last, axis=-1) / tf.maximum(length * earlier, 1e-20)
    relative = length / (tf.maximum(_norm(kernel), 1e-20) * tf.sqrt(steps))
    from_start = _norm(kernel - start) / tf.maximum(_norm(start), 1e-20)
    logs = [tf.math.log(tf.clip_by_value(x, 1e-8, 1e8)) for x in (relative, from_start)]
    return tf.stack([logs[0], cosine, logs[1]], axis=-1)


def _norm(values: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(values), axis=-1))
