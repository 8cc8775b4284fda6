"""What the rule does with a slope ratio."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.agents import SlopeRule
from keras_qan.agents.slope_rule import FACTORS
from keras_qan.observations import SlopeState

#: A point of a rise where nothing special is the case.
STATE = SlopeState(
    ratio=0.8,
    error=0.05,
    highest=0.8,
    is_known=1.0,
    num_steps=5.0,
    log_step=-3.0,
    is_measurable=1.0,
    is_broken=0.0,
    log_raised=-1.0,
    progress=0.1,
    length=2.6,
    best_loss=-0.5,
)


def factor(**changes):
    agent = SlopeRule()
    agent.build(len(SlopeState._fields), len(FACTORS))
    state = np.array(STATE._replace(**changes), np.float32)
    return FACTORS[agent.act(state, False).action]


def test_it_begins_low_and_a_training_that_goes_on_does_not():
    assert factor(num_steps=0.0, progress=0.0) == 0.01
    assert factor(num_steps=0.0, progress=0.0, length=1.8) == 0.1
    assert factor(num_steps=0.0, progress=0.3) == 1.0


def test_it_raises_where_the_ratio_is_that_of_low_rates():
    assert factor() == 3.0
    assert factor(log_step=-5.0) == 10.0


@pytest.mark.parametrize("changes", [{"is_measurable": 0.0}, {"is_known": 0.0}])
def test_it_holds_where_nothing_is_known(changes):
    for steps in (0.0, 5.0):
        if not (steps == 0.0 and "is_known" in changes):
            assert factor(num_steps=steps, **changes) == 1.0


def test_it_holds_at_the_target_and_where_it_is_not_sure():
    assert factor(ratio=-0.6, error=0.02) == 1.0
    assert factor(ratio=-0.5, error=0.6) == 1.0


def test_it_lowers_where_the_ratio_is_clearly_below_the_target():
    assert factor(ratio=-1.1, error=0.02) == 0.75
    # So far below that the first steps have overshot: the step back, and after a long look a
    # plain fall.
    assert factor(ratio=-2.0, error=0.02) == FACTORS[0]
    assert factor(ratio=-2.0, error=0.02, num_steps=30.0) == 0.5


def test_a_noisy_gradient_is_judged_by_what_the_ratio_was_at_low_rates():
    # Three quarters of a gradient are noise: the same share of q0 is a quarter of the ratio.
    assert factor(ratio=0.2, error=0.01, highest=0.2) == factor(ratio=0.8, error=0.04)


def test_an_update_that_is_lost_in_rounding_is_raised_tenfold_but_a_dead_network_is_not():
    assert factor(log_step=-9.0, is_known=0.0) == 10.0
    assert factor(log_step=-30.0, is_known=0.0, log_raised=-2.0) == 10.0
    assert factor(log_step=-30.0, is_known=0.0, log_raised=0.0) == 1.0


@pytest.mark.parametrize(("steps", "target"), [(100, -0.75), (400, -0.75), (2000, -0.394)])
def test_the_longer_a_training_the_nearer_to_zero_is_the_target(steps, target):
    # (400 / 2000) ** 0.4 = 0.525.
    at = {"error": 0.01, "length": np.log10(steps), "progress": 0.05}
    assert factor(ratio=0.8 * target, **at) == 1.0
    assert factor(ratio=0.8 * (target + 0.3), **at) > 1.0
    assert factor(ratio=0.8 * (target - 0.6), **at) < 1.0


def test_once_the_loss_is_a_hundredth_of_the_first_one_nothing_is_raised():
    assert factor(best_loss=-4.5) == 3.0
    assert factor(best_loss=-4.7) == 1.0
    assert factor(best_loss=-4.7, ratio=-2.0, error=0.02) == FACTORS[0]


def test_a_gradient_that_is_no_number_lowers_the_rate():
    assert factor(is_broken=1.0, is_known=0.0) == 0.1


def test_after_the_rise_only_a_rate_that_is_clearly_too_low_is_raised():
    assert factor(progress=0.3, ratio=-0.1, error=0.02, length=2.4) > 1.0
    assert factor(progress=0.45, ratio=-0.1, error=0.02) == 1.0
    assert factor(progress=0.45, ratio=0.2, error=0.02) > 1.0
    assert factor(progress=0.6, ratio=0.2, error=0.02) == 1.0
    assert factor(progress=0.6) > 1.0
    # A short training may rise for longer, a long one rises for a smaller share.
    assert factor(progress=0.4, ratio=-0.1, error=0.02, length=1.8) > 1.0
    assert factor(progress=0.19, ratio=-0.1, error=0.02, length=4.0) == 1.0


@given(st.floats(-3, 1.5), st.floats(0, 2), st.floats(0.1, 1), st.floats(0, 1))
def test_it_never_raises_a_rate_that_may_be_too_high_nor_lowers_one_that_may_be_too_low(
    ratio, error, highest, progress
):
    found = factor(ratio=ratio, error=error, highest=highest, progress=progress)
    target = SlopeRule().target * highest
    if ratio - error < target - 1e-3:
        assert found <= 1.0
    if ratio + error > target + 1e-3:
        assert found >= 1.0


def test_other_states_and_actions_than_its_own_are_refused():
    with pytest.raises(ValueError, match=r'\(3, 4\).*expected \(12, 10\).*policy="slope"'):
        SlopeRule().build(3, 4)
    with pytest.raises(ValueError, match="target"):
        SlopeRule(target=1.0)
