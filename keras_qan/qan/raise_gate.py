"""Limits how far a policy raises the rate, by the slope ratio."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_qan.actions import ActionSet
from keras_qan.agents import ActionChoice
from keras_qan.agents.slope_rule import LEAST_REFERENCE
from keras_qan.qan.rule import RateState
from keras_qan.qan.slope_ratio import FEWEST_STEPS, SlopeEstimate
from keras_qan.qan.slope_window import LATEST, PAIRS_TO_BE_SURE
from keras_qan.qan.variables import has_momentum, optimizer_parts

#: Steps of a training below which nothing is raised: it would be over before a raise is measured.
FEWEST_TO_MEASURE = 2 * FEWEST_STEPS

#: Standard errors above zero that are clear, and those that are where one estimate was not: among
#: the many that follow, some are high by chance.
CLEAR, SURE = 1.0, 2.0

#: The standard error above which an estimate that is not clear says nothing: the next one tells.
VAGUE = 0.25

#: The slope ratio below which a rate is nearly right, and raised by a small factor: units that a
#: rate far too high has switched off do not come back.
NEARLY_RIGHT = 0.4

#: The factor of a raise where one estimate was not clearly above zero.
CAREFUL_FACTOR = 1.6

#: The share of the highest ratio so far above which a rate may rise where an optimizer has no
#: momentum: by the noise of each batch the ratio is below zero before the rate is too high.
LEAST_SHARE = -0.5

#: The longest update, relative to the weights, that a raise leads to under Lion, whose updates
#: have the length of the rate however small or noisy the gradients are.
LONGEST_STEP_OF_LION = 0.01


class RaiseGate:
    """Says how far the rate may be raised above the one that a training began with.

    As far as the policy likes while each estimate of the slope ratio is clearly above zero: the
    loss still falls at the end of a step. By a small factor where it falls little, unless the
    optimizer has no momentum: an update along the gradient of one batch has that gradient's noise,
    so that its ratio is low at any rate. After the first estimate that is not clear, by a small
    factor as well, and only where the ratio is above zero without doubt; without momentum, unless
    batches are few, where it is above minus half of the highest one so far. Where it is not known,
    and in the second half of a training, not at all. Where the optimizer does not give its
    gradients back there is no limit. Lion's rate is raised only to where an update is a hundredth
    of the weights.

    It also says where a rate is too low to be held.

    Args:
      model: the compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._was_unclear = self._has_few_batches = False
        parts = optimizer_parts(model)
        self._is_lion = any(isinstance(part, keras.optimizers.Lion) for part in parts)
        self._has_momentum = all(map(has_momentum, parts))

    def begin(self, progress: float, has_few_batches: bool = False) -> None:
        """Start a training.

        Args:
          progress: the share of the training that is done: above 0 where it goes on.
          has_few_batches: whether its examples may be learned by heart at raised rates. Defaults to
            False.
        """
        self._was_unclear = progress > 0.0
        self._has_few_batches = has_few_batches

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
        if is_clear and not self._was_unclear:
            is_near = self._has_momentum and found.ratio < NEARLY_RIGHT
            return CAREFUL_FACTOR if is_near else math.inf
        is_careful = self._was_unclear and _is_sure(found)
        if not (self._has_momentum or self._has_few_batches):
            least = LEAST_SHARE * max(found.highest, LEAST_REFERENCE)
            is_careful |= _is_above(found, least, CLEAR)
        return CAREFUL_FACTOR if is_careful else 1.0

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
        """Take over what `arrays` gave."""
        self._was_unclear = bool(arrays.get("gate/was_unclear", True))


def _is_sure(found: SlopeEstimate) -> bool:
    return _is_above(found, 0.0, SURE)


def _is_above(found: SlopeEstimate, least: float, errors: float) -> bool:
    return found.ratio > least + errors * found.error and found.num_pairs >= PAIRS_TO_BE_SURE


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
