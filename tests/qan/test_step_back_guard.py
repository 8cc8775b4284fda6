"""Step backs answer facts, and are given up where they do not help."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.qan.step_back_guard import FEWEST_STEPS, MOST_IN_A_ROW, StepBackGuard


def guard_with(losses):
    """A guard that has seen an interval of these losses, whose weights were the best."""
    guard = StepBackGuard()
    for loss in losses:
        guard.noise.add(loss)
    size = guard.noise.end_interval()
    guard.note_best(float(np.mean(losses)), size, step=len(losses))
    return guard


def test_a_rise_within_the_noise_of_batches_is_no_reason():
    # Variance 1 of ten losses: the difference of two means of ten has a deviation of 0.45.
    guard = guard_with([0.0, 2.0] * 5)
    assert not guard.allows(1.0 + 3.0 * math.sqrt(1.0 * 10 / 9 * 2 / 10) - 0.01, 10)
    assert guard.allows(1.0 + 3.0 * math.sqrt(1.0 * 10 / 9 * 2 / 10) + 0.01, 10)


@given(
    st.lists(st.floats(0.1, 10.0), min_size=FEWEST_STEPS + 1, max_size=30),
    st.floats(0.1, 10.0),
    st.integers(1, 30),
)
def test_no_loss_below_the_lowest_is_ever_a_reason(losses, loss, size):
    guard = guard_with(losses)
    if loss <= np.mean(losses):
        assert not guard.allows(loss, size)
    assert guard.allows(math.nan, size)
    assert guard.allows(math.inf, size)


def test_rare_classes_are_noise_not_divergence():
    # One batch in six holds a positive example: most losses are tiny, some are large.
    rng = np.random.default_rng(0)
    draw = lambda n: np.where(rng.random(n) < 0.15, 0.17, 0.005)  # noqa: E731
    guard = guard_with(draw(20).tolist())
    assert not any(guard.allows(float(draw(20).mean()), 20) for _ in range(100))


def test_a_row_of_step_backs_without_a_lower_loss_is_given_up_and_the_rates_before_are_known():
    guard = guard_with([1.0] * 6)
    for number in range(MOST_IN_A_ROW):
        assert guard.is_open
        guard.note_step_back(np.array([0.3**number]), 10, 10_000, is_plain=True)
    assert not guard.is_open
    assert guard.was_in_vain
    assert guard.rates_before == pytest.approx([1.0])
    assert not guard.allows(1e9, 10)
    assert guard.allows(math.nan, 10)


def test_a_lower_loss_between_them_ends_a_row():
    guard = guard_with([1.0] * 6)
    for number in range(3 * MOST_IN_A_ROW):
        guard.note_step_back(np.array([0.1]), number, 10_000, is_plain=True)
        guard.note_best(0.9, 5, number)
    assert guard.is_open


def test_step_backs_take_back_at_most_a_tenth_of_a_training():
    guard = guard_with([1.0] * 6)
    lost = 0
    for number in range(1, 100):
        guard.note_best(0.5, 5, 100 * number)
        guard.note_step_back(np.array([0.1]), 100 * number + 30, 5_000, is_plain=True)
        lost += 30
        if not guard.is_open:
            break
    assert lost == 510
    assert not guard.was_in_vain


def test_what_has_diverged_may_be_rolled_back_as_often_as_it_takes():
    guard = guard_with([1.0] * 6)
    for number in range(50):
        guard.note_step_back(np.array([0.1]), number, 1_000, is_plain=False)
    assert guard.is_open


@pytest.mark.parametrize("restored", [False, True])
def test_a_guard_that_was_kept_over_a_break_goes_on_as_it_was(restored):
    guard = guard_with([0.0, 2.0] * 5)
    guard.note_step_back(np.array([0.3]), 12, 1_000, is_plain=True)
    guard.noise.add(1.0)
    if restored:
        other = StepBackGuard(needs_noise=True)
        other.restore(guard.arrays())
        guard = other
    guard.noise.add(3.0)
    assert guard.noise.end_interval() == 2
    # Ten squares of 1 and two of 1, over 9 and 1 degrees of freedom.
    assert guard.noise.variance == pytest.approx(1.2)
    assert guard.rates_before == pytest.approx([0.3])
    assert guard.count == 1
    for number in range(MOST_IN_A_ROW - 1):
        assert guard.is_open
        guard.note_step_back(np.array([0.1]), 13 + number, 1_000, is_plain=True)
    assert guard.was_in_vain
