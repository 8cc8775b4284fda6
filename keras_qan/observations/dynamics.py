"""The course of a training, in numbers that know neither the task's scale nor the model's size."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_qan.observations.base import Observation, ObservationContext
from keras_qan.storage.serialization import configurable

#: Numbers in the motion of a kernel.
NUM_MOTIONS = 3


@configurable
class TrainingDynamics(Observation):
    """17 numbers: rate, time, losses, step backs so far, and how far the weights move.

    The rate of an optimizer with momentum μ counts as rate / (1 - μ), and whether an optimizer
    scales its gradients (Adam and its kin) is one of the numbers. Losses enter as logarithms of
    ratios, so that neither their unit nor the task's difficulty matters.

    Args:
      layers: the names of the layers whose kernels are watched, or their positions among the
        model's kernels. Defaults to the first and the last.
    """

    needs_motion = True

    def __init__(self, layers: tuple[str | int, ...] | list[str | int] = (0, -1)) -> None:
        self.layers = tuple(layers)

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return 17."""
        return 14 + NUM_MOTIONS

    def __call__(self, context: ObservationContext) -> Any:
        """Return `[..., 17]`."""
        log_rate = np.log(np.maximum(context.rate, 1e-30))
        numbers = [log_rate + context.optimizer[..., 1], context.optimizer[..., 0]]
        return _with_course(numbers, context)


@configurable
class SlopeDynamics(Observation):
    """23 numbers without a unit: the slope ratio, time, losses, and how far the weights move.

    Those of `TrainingDynamics`, but for the rate itself, which means another thing on every
    network. In its place are the slope ratio q (see `keras_qan.diagnostics.SlopeRatio`), its
    standard error, q over that error, the highest lower bound of q so far, the logarithm of the
    length of an update relative to the weights, and whether updates follow an average of gradients.

    Args:
      layers: the names of the layers whose kernels are watched, or their positions among the
        model's kernels. Defaults to the first and the last.
    """

    needs_motion = True
    needs_slope_window = True

    def __init__(self, layers: tuple[str | int, ...] | list[str | int] = (0, -1)) -> None:
        self.layers = tuple(layers)

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return 23."""
        return 20 + NUM_MOTIONS

    def __call__(self, context: ObservationContext) -> Any:
        """Return `[..., 23]`."""
        found = context.slope
        is_known = np.asarray(found.is_known)
        ratio, error = (np.where(is_known, each, 0.0) for each in (found.ratio, found.error))
        length = np.nan_to_num(found.relative_step, nan=0.0)
        numbers = [
            1.0 * is_known,
            np.clip(ratio, -3.0, 3.0),
            np.clip(error, 0.0, 3.0),
            np.clip(ratio / np.maximum(error, 1e-6), -8.0, 8.0),
            found.highest,
            np.log(np.clip(length, 1e-9, 1e3)),
            context.optimizer[..., 0],
            context.optimizer[..., 2],
        ]
        return _with_course(numbers, context)


def _with_course(numbers: list[Any], context: ObservationContext) -> Any:
    """Return numbers and the course of the training after them: time, losses, motion."""
    history = context.history
    log_rate = np.log(np.maximum(context.rate, 1e-30))
    course = [
        context.progress,
        np.log(1.01 - context.progress),
        np.log(context.num_steps),
        np.log(context.interval / context.num_steps),
        history.now,
        history.now - history.before,
        history.before - history.earlier,
        history.now - history.best,
        history.best,
        history.last_change,
        np.clip(log_rate - history.ceiling, -8.0, 2.0),
        np.minimum(history.step_backs, 4.0),
    ]
    stacked = np.stack(np.broadcast_arrays(*numbers, *course), axis=-1)
    return np.concatenate([stacked, context.motion], axis=-1)


@configurable
class Generalisation(Observation):
    """4 numbers of the validation losses that `fit` reports, which the training loss cannot tell.

    The first is 1 once there was a report. The others, zero before it, are the excess of the
    validation loss over the training loss, over its own lowest, and over the report before.
    Differences are of logarithms and clipped to ±4.
    """

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return 4."""
        return 4

    def __call__(self, context: ObservationContext) -> Any:
        """Return `[..., 4]`."""
        history = context.history
        above = [
            history.validated * np.clip(history.validation - other, -4.0, 4.0)
            for other in (history.now, history.validation_best, history.validation_before)
        ]
        return np.stack([history.validated, *above], axis=-1)


def motion_numbers(sums: Any, steps: Any) -> Any:
    """Return how a kernel moved since the last decision.

    Args:
      sums: float array `[..., 6]` of ‖Δw‖², ⟨Δw, Δw'⟩, ‖Δw'‖², ‖w‖², ‖w - w₀‖² and ‖w₀‖², with w
        the kernel, Δw its change since the last decision, Δw' the one before it, and w₀ the
        kernel when the training began.
      steps: n, the steps since the last decision, at least 1.

    Returns:
      `[..., 3]`: log(‖Δw‖ / (‖w‖ √n)), the cosine of Δw and Δw', and log(‖w - w₀‖ / ‖w₀‖).
    """
    moved, product, earlier, size, from_start, start = np.moveaxis(np.asarray(sums, float), -1, 0)
    length = np.sqrt(moved)
    with np.errstate(invalid="ignore"):  # the squares of a training that diverges may be infinite
        cosine = product / np.maximum(length * np.sqrt(earlier), 1e-20)
        relative = length / (np.maximum(np.sqrt(size), 1e-20) * np.sqrt(steps))
        distance = np.sqrt(from_start) / np.maximum(np.sqrt(start), 1e-20)
    logs = [np.log(np.clip(ratio, 1e-8, 1e8)) for ratio in (relative, distance)]
    return np.stack([logs[0], cosine, logs[1]], axis=-1)
