"""Judges a policy's rate by the slope ratio: how far to raise it, and when to begin again."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_qan.actions import ActionSet
from keras_qan.agents import ActionChoice
from keras_qan.qan.rule import RateState
from keras_qan.qan.slope_ratio import FEWEST_STEPS, SlopeEstimate, SlopeMeter
from keras_qan.qan.variables import has_momentum, optimizer_parts, workers_of

#: Steps of a training below which nothing is raised: it would be over before a raise is measured.
FEWEST_TO_MEASURE = 2 * FEWEST_STEPS

#: Steps before a decision that are measured.
WINDOW = 16

#: The share of a training after which the rate rises no more above the compiled one.
LATEST = 0.5

#: Standard errors above zero that are clear, and those that are where one estimate was not: among
#: the many that follow, some are high by chance.
CLEAR, SURE = 1.0, 2.0

#: The standard error above which an estimate that is not clear says nothing: the next one tells.
VAGUE = 0.25

#: The slope ratio below which a rate is nearly right, and raised by a small factor: units that a
#: rate far too high has switched off do not come back.
NEARLY_RIGHT = 0.4

#: Pairs of steps that it takes to be sure: the first ones after a raise are of another rate.
PAIRS_TO_BE_SURE = 7

#: The factor of a raise where one estimate was not clearly above zero.
CAREFUL_FACTOR = 1.6

#: The longest update, relative to the weights, that a raise leads to under Lion, whose updates
#: have the length of the rate however small or noisy the gradients are.
LONGEST_STEP_OF_LION = 0.01

#: The length of a training's first updates, relative to the weights, above which the rate may be
#: far too high: at Keras's default rates it is 0.001 to 0.02.
LONG_STEP = 0.03

#: Standard errors below zero at which such steps lead uphill, and log(loss / first loss) above
#: which they have taught next to nothing.
UPHILL, NOTHING_LEARNED = 1.5, -0.15


class RaiseGate:
    """Says how far the rate may be raised above the one that a training began with.

    As far as the policy likes while each estimate of the slope ratio is clearly above zero: the
    loss still falls at the end of a step. By a small factor where it falls little, unless the
    optimizer has no momentum: an update along the gradient of one batch has that gradient's noise,
    so that its ratio is low at any rate. After the first estimate that is not clear, by a small
    factor as well, and only where the ratio is above zero without doubt. Where it is not known, and
    in the second half of a training, not at all. Where the optimizer does not give its gradients
    back there is no limit. Lion's rate is raised only to where an update is a hundredth of the
    weights.

    It also says where a rate is too low to be held, and where the first steps of a training were
    far too long.

    Args:
      model: the compiled model.

    Attributes:
      meter: the meter of the slope ratio.
    """

    def __init__(self, model: keras.Model) -> None:
        self.meter = SlopeMeter(model)
        self._workers = workers_of(model)
        self._was_unclear = False
        parts = optimizer_parts(model)
        self._is_lion = any(isinstance(part, keras.optimizers.Lion) for part in parts)
        self._has_momentum = all(map(has_momentum, parts))
        # Their slots begin at zero without a correction: the first updates are the longest.
        long_first = (keras.optimizers.RMSprop, keras.optimizers.Adagrad)
        self._begins_long = any(isinstance(part, long_first) for part in parts)

    @property
    def is_blind(self) -> bool:
        """True where the optimizer does not give its gradients back, as far as that is known."""
        return self.meter.reason is not None

    def begin(self, progress: float) -> None:
        """Start measuring.

        Args:
          progress: the share of the training that is done: above 0 where it goes on.
        """
        self._was_unclear = progress > 0.0
        self.meter.open()
        self.meter.begin()

    def measure_again(self, interval: int, progress: float, changed: bool) -> None:
        """Measure the last steps of the interval that follows; none where no raise can follow.

        Args:
          interval: steps to the next decision.
          progress: the share of the training that is done.
          changed: whether the rate or the weights are others now; else a window that is short
            goes on.
        """
        if progress >= LATEST:
            self.meter.open(after=math.inf)
        elif changed or interval > PAIRS_TO_BE_SURE:
            self.meter.open(after=max(interval - WINDOW - 1, 0))
            self.meter.begin()

    def estimate(self) -> SlopeEstimate:
        """Return the slope ratio since the last decision; the chief's on every worker."""
        own = self.meter.estimate()
        if self._workers is None:
            return own
        return SlopeEstimate(*self._workers.gather_numbers(np.array(own, float))[0].tolist())

    def is_far_too_high(self, found: SlopeEstimate, log_loss: float) -> bool:
        """Return whether the first steps of a training were far too long.

        They are where an update is long beside the weights, and the loss either rises at its end
        or has hardly fallen. Of RMSprop and Adagrad nothing is said.

        Args:
          found: the slope ratio of the first steps.
          log_loss: log(their mean loss / first loss).
        """
        if self._begins_long or not found.relative_step > LONG_STEP:
            return False
        if found.is_known and found.ratio < -UPHILL * found.error:
            return True
        is_clear = found.is_known and found.ratio > CLEAR * found.error
        return log_loss > NOTHING_LEARNED and not is_clear

    def largest_factor(self, found: SlopeEstimate, progress: float) -> float:
        """Return the largest factor of a raise above the rate that the training began with.

        Args:
          found: the slope ratio since the last decision.
          progress: the share of the training that is done.
        """
        if not found.is_measurable:
            return 1.0 if self._is_lion else math.inf
        if not found.is_known or progress >= LATEST:
            return 1.0
        largest = self._largest_where_known(found)
        if self._is_lion:
            largest = min(largest, max(LONGEST_STEP_OF_LION / found.relative_step, 1.0))
        return largest

    def _largest_where_known(self, found: SlopeEstimate) -> float:
        is_clear = found.ratio > CLEAR * found.error
        self._was_unclear |= not is_clear and found.error <= VAGUE
        if not self._was_unclear:
            is_near = self._has_momentum and found.ratio < NEARLY_RIGHT
            return (CAREFUL_FACTOR if is_near else math.inf) if is_clear else 1.0
        return CAREFUL_FACTOR if _is_sure(found) else 1.0

    def is_too_low(self, found: SlopeEstimate, progress: float) -> bool:
        """Return whether the rate is too low beyond doubt, so that it is not to be held.

        Without momentum nothing is said: see `RaiseGate`.

        Args:
          found: the slope ratio since the last decision.
          progress: the share of the training that is done.
        """
        return self._has_momentum and found.is_known and progress < LATEST and _is_sure(found)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its state by name, for a checkpoint of a running training."""
        return {"gate/was_unclear": np.array(self._was_unclear)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave; what was measured since is of other weights."""
        self._was_unclear = bool(arrays.get("gate/was_unclear", True))
        self.meter.open()


def _is_sure(found: SlopeEstimate) -> bool:
    return found.ratio > SURE * found.error and found.num_pairs >= PAIRS_TO_BE_SURE


def choice_within(
    actions: ActionSet,
    choice: ActionChoice,
    state: RateState,
    progress: float,
    largest: float,
    is_too_low: bool = False,
) -> ActionChoice:
    """Return a choice, or the next best one where it raises the rate too far.

    Where the rate is too low beyond doubt the least raise takes the place of holding it.

    Args:
      actions: to choose from.
      choice: the agent's.
      state: the rates before it.
      progress: the share of the training that is done.
      largest: the largest factor that leads above the rate that the training began with.
      is_too_low: whether the rate is too low beyond doubt. Defaults to False.
    """
    rates, initial_rates = state.rates, state.initial_rates
    # The way back up to that rate is free. Rounding is no raise too far.
    largest = 1.0001 * max(largest, float(initial_rates[0] / rates[0]))
    at = rates, initial_rates, progress
    if actions.is_step_back(choice.action):
        return choice
    if actions.factor(choice.action, *at) > largest:
        best = actions.best_within(choice.q_values, *at, largest)
        choice = choice if best is None else choice._replace(action=best)
    if is_too_low and actions.factor(choice.action, *at) == 1.0:
        least = actions.least_raise(*at, largest)
        choice = choice if least is None else choice._replace(action=least)
    return choice
