"""The protocol of observations, and the context that they observe."""

from __future__ import annotations

import abc
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from keras_qan.observations.loss_history import LossHistory
from keras_qan.observations.weight_statistics import NUM_FEATURES, kernel_features
from keras_qan.storage.serialization import configurable

_Self = TypeVar("_Self")


class ObservationContext(NamedTuple):
    """A training at a decision; numbers are floats `[]`, or `[P]` for a population.

    Attributes:
      kernels: the watched kernels, tensors of Keras's backend, each `[..., I, J]`.
      rate: the learning rate (the first one where an optimizer has several).
      initial_rate: the learning rate that the user's optimizer came with.
      progress: the share t/T of the training's steps that are done, in [0, 1].
      log_losses: smoothed log(loss / first loss), `[3]`: now, one and two decisions ago.
      decisions_in_part: decisions in a twentieth of the training, at least 1; makes the slope of
        `log_losses` comparable between trainings with few and with many decisions.
      history: the losses of single intervals and the rates tried so far.
      motion: the motion of the watched kernels since the last decision, `[..., 3]`; see
        `dynamics.motion_numbers`.
      optimizer: whether it scales its gradients (1 or 0), log(1 / (1 - momentum)) of those that do
        not, and whether its updates follow an average of gradients (1 or 0), `[..., 3]`.
      num_steps: T, as far as is known.
      interval: steps to the next decision.
      slope: the estimate of the slope ratio, where an observation needs it; its numbers are arrays
        `[P]` for a population. Defaults to None.
    """

    kernels: Sequence[Any]
    rate: Any
    initial_rate: Any
    progress: Any
    log_losses: Any
    decisions_in_part: Any
    history: LossHistory
    motion: Any
    optimizer: Any
    num_steps: Any
    interval: Any
    slope: Any = None


class Observation(abc.ABC):
    """One part of a state; subclass it for an observation of your own.

    Attributes:
      layers: the names of the layers whose kernels are watched, or their positions among the
        model's kernels; None for the first convolution, or the first kernel where there is none.
        Defaults to (), none.
      needs_motion: whether it reads `ObservationContext.motion`. Defaults to False.
      needs_slope: whether it reads `ObservationContext.slope`, measured since the rate last
        changed. Defaults to False.
      needs_slope_window: whether it reads `ObservationContext.slope`, measured over the last steps
        before a decision, as a population has it. Defaults to False.
      selector: the selector of mini-batches that it observes, if any. Defaults to None.
      needs_selector: whether it can see nothing without a selector. Defaults to False.
    """

    layers: tuple[str | int, ...] | None = ()
    needs_motion: bool = False
    needs_slope: bool = False
    needs_slope_window: bool = False
    selector: Any = None
    needs_selector: bool = False

    @abc.abstractmethod
    def size(self, num_kernels: int) -> int:
        """Return how many numbers it gives when `num_kernels` kernels are watched.

        Args:
          num_kernels: how many are watched.
        """

    @abc.abstractmethod
    def __call__(self, context: ObservationContext) -> Any:
        """Return the numbers, a float array `[size]`."""

    def bound_to(self: _Self, selector: Any) -> _Self:
        """Return the observation bound to a selector; itself where it does not observe one.

        Args:
          selector: of the mini-batches.
        """
        del selector
        return self


@configurable
class WeightStatistics(Observation):
    """192 statistics of each watched kernel (Fu et al. 2016, equations 5 to 8).

    Args:
      layers: the names of the layers to watch, or their positions among the model's kernels.
        Defaults to the first convolution, or the first kernel where there is none.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, layers: tuple[str | int, ...] | list[str | int] | None = None) -> None:
        if isinstance(layers, str | int):
            raise ValueError(
                f"WeightStatistics got layers={layers!r}; expected a list. Write [{layers!r}]."
            )
        # NumPy's integers are not JSON's.
        self.layers = None
        if layers is not None:
            self.layers = tuple(n if isinstance(n, str) else operator.index(n) for n in layers)
        if self.layers == ():
            raise ValueError(
                "WeightStatistics got an empty list of layers; name at least one, or leave "
                "WeightStatistics out of the observations."
            )

    def size(self, num_kernels: int) -> int:
        """Return 192 for each kernel."""
        return num_kernels * NUM_FEATURES

    def __call__(self, context: ObservationContext) -> Any:
        """Return `[192 * L]`, kernel by kernel."""
        return np.concatenate([kernel_features(kernel) for kernel in context.kernels])


@configurable
class CurrentLearningRate(Observation):
    """The learning rate itself, the paper's one feature beside the weights."""

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return 1."""
        return 1

    def __call__(self, context: ObservationContext) -> Any:
        """Return `[1]`."""
        return np.reshape(context.rate, [1])


@configurable
class TrainingState(Observation):
    """Rate, time and loss, which bring the process closer to Markov than weights alone.

    Six numbers: log rate, log(rate / initial rate), progress t/T, smoothed log(loss / first loss),
    its slope and its curvature, the last two for a twentieth of the training.
    """

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return 6."""
        return 6

    def __call__(self, context: ObservationContext) -> Any:
        """Return `[6]`."""
        now, before, earlier = context.log_losses
        log_rate = np.log(np.maximum(context.rate, 1e-30))
        log_start = np.log(np.maximum(context.initial_rate, 1e-30))
        slope = (now - before) * context.decisions_in_part
        curvature = (now - 2.0 * before + earlier) * context.decisions_in_part
        return np.stack([log_rate, log_rate - log_start, context.progress, now, slope, curvature])


def default() -> tuple[Observation, ...]:
    """Return the default state: the paper's statistics and rate, and the training's own state."""
    return (WeightStatistics(), CurrentLearningRate(), TrainingState())
