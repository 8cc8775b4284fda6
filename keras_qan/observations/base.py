"""The parts a state is made of, and what they are told of a training."""

from __future__ import annotations

import operator
from typing import NamedTuple, Protocol

import tensorflow as tf

from keras_qan.observations import weight_statistics
from keras_qan.observations.loss_history import LossHistory
from keras_qan.storage.serialization import configurable


class ObservationContext(NamedTuple):
    """What can be known of a training when a decision is due; all tensors are float32.

    Attributes:
      kernels: the watched kernels, each `[..., I, J]`.
      rate: the learning rate, `[]` (the first one where an optimizer has several).
      initial_rate: the learning rate that the user's optimizer came with, `[]`.
      progress: the share t/T of the training's steps that are done, `[]` in [0, 1].
      log_losses: smoothed log(loss / first loss), `[3]`: now, one and two decisions ago.
      pace: decisions in a twentieth of the training, `[]`, at least 1: what makes the slope of
        `log_losses` comparable between trainings with few and with many decisions.
      track: the losses of single intervals and the rates tried so far, `[]` each.
      motion: how the watched kernels moved since the last decision, `[3]`; see
        `dynamics.motion`.
      optimizer: whether it scales its gradients (1 or 0), and log(1 / (1 - momentum)), `[2]`.
      num_steps: T, as far as is known, `[]`.
      interval: steps to the next decision, `[]`.
    """

    kernels: list[tf.Tensor]
    rate: tf.Tensor
    initial_rate: tf.Tensor
    progress: tf.Tensor
    log_losses: tf.Tensor
    pace: tf.Tensor
    track: LossHistory
    motion: tf.Tensor
    optimizer: tf.Tensor
    num_steps: tf.Tensor
    interval: tf.Tensor


class Observation(Protocol):
    """One part of a state."""

    layers: tuple[str | int, ...] | None

    def size(self, num_kernels: int) -> int:
        """How many numbers it gives when `num_kernels` kernels are watched."""
        ...

    def __call__(self, situation: ObservationContext) -> tf.Tensor:
        """The numbers, float32 `[size]`."""
        ...


@configurable
class WeightStatistics:
    """192 statistics of each watched kernel (Fu et al. 2016, equations 5 to 8).

    Args:
      layers: the names of the layers to watch, or their positions among the model's kernels; by
        default the first convolution, or the first kernel where there is none.
    """

    def __init__(self, layers: tuple[str | int, ...] | list[str | int] | None = None) -> None:
        if isinstance(layers, str | int):
            raise ValueError(
                f"WeightStatistics got layers={layers!r}; expected a list. Write [{layers!r}]."
            )
        # NumPy's integers are not JSON's.
        self.layers: tuple[str | int, ...] | None = None
        if layers is not None:
            self.layers = tuple(n if isinstance(n, str) else operator.index(n) for n in layers)
        if self.layers == ():
            raise ValueError(
                "WeightStatistics got an empty list of layers; name at least one, or leave "
                "WeightStatistics out of the observations."
            )

    def size(self, num_kernels: int) -> int:
        """192 for each kernel."""
        return num_kernels * weight_statistics.NUM_FEATURES

    def __call__(self, situation: ObservationContext) -> tf.Tensor:
        """float32 `[192 * L]`, kernel by kernel."""
        return tf.concat(
            [weight_statistics.kernel_features(kernel) for kernel in situation.kernels], axis=0
        )


@configurable
class CurrentLearningRate:
    """The learning rate itself, the paper's one feature beside the weights."""

    layers: tuple[str | int, ...] | None = ()

    def size(self, num_kernels: int) -> int:  # noqa: ARG002 - the protocol's word
        """One."""
        return 1

    def __call__(self, situation: ObservationContext) -> tf.Tensor:
        """float32 `[1]`."""
        return situation.rate[tf.newaxis]


@configurable
class TrainingState:
    """What makes the process closer to Markov than weights alone: rate, time and loss.

    Six numbers: log rate, log(rate / initial rate), progress t/T, smoothed log(loss / first loss),
    its slope and its curvature, the last two for a twentieth of the training.
    """

    layers: tuple[str | int, ...] | None = ()

    def size(self, num_kernels: int) -> int:  # noqa: ARG002 - the protocol's word
        """Six."""
        return 6

    def __call__(self, situation: ObservationContext) -> tf.Tensor:
        """float32 `[6]`."""
        now, before, earlier = tf.unstack(situation.log_losses)
        log_rate = tf.math.log(tf.maximum(situation.rate, 1e-30))
        log_start = tf.math.log(tf.maximum(situation.initial_rate, 1e-30))
        return tf.stack(
            [
                log_rate,
                log_rate - log_start,
                situation.progress,
                now,
                (now - before) * situation.pace,
                (now - 2.0 * before + earlier) * situation.pace,
            ]
        )


def default() -> tuple[Observation, ...]:
    """The default state: the paper's weight statistics and rate, and the training's own state."""
    return (WeightStatistics(), CurrentLearningRate(), TrainingState())
