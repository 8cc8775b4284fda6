"""The slope ratio as a state: numbers that mean the same on every network."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from keras_qan.observations.base import Observation, ObservationContext
from keras_qan.storage.serialization import configurable

#: Bounds of log10 of the length of an update relative to the weights, and of rate / initial rate.
LOG_BOUNDS = (-30.0, 30.0)


class SlopeState(NamedTuple):
    """The state of a rule that follows the slope ratio; floats.

    Attributes:
      ratio: the slope ratio q; 0 where `is_known` is not 1.
      error: its standard error.
      highest: the highest ratio that was clearly seen in this training: about the share of a
        gradient that is no noise; 0 where none was.
      is_known: 1 where q is a number, its error is known, and the updates follow the gradient.
      num_steps: steps that it was measured over.
      log_step: log10 of the length of an update relative to that of the weights.
      is_measurable: 1 where the optimizer gives its gradients back, else 0.
      is_broken: 1 where a gradient was no number.
      log_raised: log10(rate / initial rate).
      progress: the share of the training that is done.
      length: log10 of the training's steps.
      best_loss: log(lowest loss / first loss) so far, of single intervals.
    """

    ratio: float
    error: float
    highest: float
    is_known: float
    num_steps: float
    log_step: float
    is_measurable: float
    is_broken: float
    log_raised: float
    progress: float
    length: float
    best_loss: float


@configurable
class SlopeObservation(Observation):
    """The slope ratio with its standard error, and the point of the training."""

    needs_slope = True

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return 12."""
        return len(SlopeState._fields)

    def __call__(self, context: ObservationContext) -> Any:
        """Return a `SlopeState`, `[12]`."""
        found = context.slope
        if found is None:
            raise ValueError(
                f"{type(self).__name__} found no slope ratio in its context; it is measured in a "
                "`fit` under QANCallback alone, not in a population."
            )
        known = float(found.is_known)
        return np.array(
            SlopeState(
                ratio=found.ratio if known else 0.0,
                error=found.error if known else 0.0,
                highest=found.highest,
                is_known=known,
                num_steps=found.num_steps,
                log_step=_log10(found.relative_step),
                is_measurable=float(found.is_measurable),
                is_broken=float(found.is_broken),
                log_raised=_log10(_over(context.rate, context.initial_rate)),
                progress=float(context.progress),
                length=_log10(float(context.num_steps)),
                best_loss=float(context.history.best),
            )
        )


def _over(rate: Any, initial_rate: Any) -> float:
    return float(rate) / max(float(initial_rate), 1e-30)


def _log10(value: float) -> float:
    if not math.isfinite(value) or value <= 0.0:
        return LOG_BOUNDS[0]
    return min(max(math.log10(value), LOG_BOUNDS[0]), LOG_BOUNDS[1])
