"""A rule without learning that finds the learning rate by the slope ratio."""

from __future__ import annotations

import numpy as np

from keras_qan.agents.base import ActionChoice
from keras_qan.agents.scripted import ScriptedAgent
from keras_qan.observations.slope import SlopeState
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check, check_number

#: Factors of the rate that the rule chooses among, in the order of its actions; the first one is
#: a step back.
FACTORS = (0.3, 0.01, 0.1, 0.5, 0.75, 1.0, 1.3, 2.0, 3.0, 10.0)

#: The share of a training in which the rate rises to the target, within these numbers of steps.
RISE = 0.4
RISE_STEPS = (30, 150)

#: The share of a training after which the rate is raised only where q is above half of q0: at the
#: end of the fall the ratio rises by itself.
LATE = 0.5

#: Below it (log10) the length of an update relative to the weights is lost in rounding.
LOST = -6.0

#: Steps of a training (log10) below which the rule begins at a tenth, not a hundredth, of the rate.
SHORT = 2.2

#: Below it (log10) an update is so small that the rate may be raised tenfold at once.
SMALL = -4.5

#: The lowest value of the slope ratio at low rates that is reckoned with.
LEAST_REFERENCE = 0.1

#: Steps of a training up to which the target is as given, and the power of their share in a longer
#: one that it is multiplied by: the best rate falls with the length.
MEASURED, TARGET_POWER = 400, 0.4

#: log(loss / first loss) below which nothing is raised: what little is left falls at any rate.
LEARNED = -4.6

#: A rate that is to be multiplied by less has overshot: early on the training is rolled back.
FAR_TOO_HIGH = 0.6

#: Steps after which an estimate that is still unclear counts as "neither too low nor too high".
LONG_LOOK = 24


@configurable
class SlopeRule(ScriptedAgent):
    """Finds the rate at which the slope ratio is a share of what it is at low rates.

    On a parabola the slope ratio falls from its value q0 at rates near zero along a line, through
    zero at the rate whose steps end in the minimum along them. So q / q0 = 1 - rate / that rate
    tells by which factor a rate is off. The rule begins at a hundredth of the user's rate and
    rises by up to three times a decision, to where q / q0 is `target`, as far as that is clear by
    the standard error. After 150 steps, or two fifths of a training, it is raised only while q
    is clearly above zero. Where nothing can be measured, or the updates do not follow the gradient,
    or the loss has fallen to a hundredth of the first one, it does not raise the rate.

    Args:
      target: the share of q0 that is aimed at, below 1, in trainings of up to 400 steps; in longer
        ones it is multiplied by (400 / steps)^0.4. Defaults to -0.75.
      clear: standard errors that are clear, above 0. Defaults to 1.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, target: float = -0.75, clear: float = 1.0) -> None:
        super().__init__()
        self.target = check_number("SlopeRule's target", target, above=-1, below=1)
        self.clear = check_number("SlopeRule's clear", clear, above=0)

    def build(self, num_features: int, num_actions: int) -> None:
        """Take the sizes.

        Raises:
          ValueError: they are not those of the state and the actions that it knows.
        """
        sizes, known = (num_features, num_actions), (len(SlopeState._fields), len(FACTORS))
        hint = 'Use QANCallback(policy="slope").'
        check(sizes == known, "SlopeRule's (features, actions)", sizes, str(known), hint=hint)
        super().build(num_features, num_actions)

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:  # noqa: ARG002
        """Choose the factor that the rule says."""
        factor = self._factor(SlopeState(*np.asarray(observation, float).tolist()))
        return self._choose(FACTORS.index(factor), 0.0)

    def _factor(self, state: SlopeState) -> float:
        if not state.is_measurable:
            return 1.0
        if not state.num_steps:
            return self._start(state)
        if state.is_broken:
            return 0.1
        rises = state.progress <= rise_share(state.length)
        if state.log_step < LOST:
            # An update of exactly nothing may be a network that is dead.
            is_dead = state.log_step <= -29.0 and state.log_raised >= 0.0
            return 10.0 if rises and not is_dead else 1.0
        if not state.is_known:
            return 1.0
        return self._judged(state, rises)

    @staticmethod
    def _start(state: SlopeState) -> float:
        if state.progress > 0.0:  # a training that goes on
            return 1.0
        return 0.1 if state.length < SHORT else 0.01

    def _judged(self, state: SlopeState, rises: bool) -> float:
        reference = max(state.highest, LEAST_REFERENCE)
        target = self.target * min(1.0, (MEASURED / 10.0**state.length) ** TARGET_POWER)
        share = state.ratio / reference
        error = self.clear * state.error / reference
        # By how much the rate is too low at least, and at most.
        least = (1.0 - target) / max(1.0 - (share - error), 0.05)
        most = (1.0 - target) / max(1.0 - (share + error), 0.05)
        if most < FAR_TOO_HIGH:
            return FACTORS[0] if rises and state.num_steps < LONG_LOOK else 0.5
        if most < 0.87:
            return 0.75 if rises else 1.0
        # Once gradients are mostly noise, the ratio does not fall to the target at any rate: later
        # on a rate counts as too low only where the loss clearly falls at the end of a step.
        bound = 0.5 if state.progress > LATE else 0.0
        if state.best_loss < LEARNED or (not rises and share - error <= bound):
            return 1.0
        largest = 10.0 if state.log_step < SMALL else 3.0
        return max(f for f in FACTORS[1:] if f <= max(1.0, min(1.15 * least, largest)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return nothing."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore nothing."""


def rise_share(length: float) -> float:
    """Return the share of a training of 10^length steps in which the rate may rise."""
    fewest, most = (steps / 10.0**length for steps in RISE_STEPS)
    return min(max(min(RISE, most), fewest), LATE)
