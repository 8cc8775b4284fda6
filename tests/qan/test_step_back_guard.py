"""Step backs answer facts, and are given up where they do not help."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.qan.step_back_guard import (
    FEWEST_LOSSES,
    LONG_WAY,
    MOST_IN_A_ROW,
    StepBackGuard,
)


def no_way():
    """The weights stand where the snapshot was taken."""
    return 0.0


def guard_after(before, since=()):
    """A guard that has seen losses up to a snapshot, and losses since."""
    guard = StepBackGuard()
    for loss in before:
        guard.observe_step(loss)
    guard.note_best(step=len(before))
    guard.end_interval()
    for loss in since:
        guard.observe_step(loss)
    return guard


def test_a_rise_is_compared_with_the_error_of_two_means_of_logarithms():
    before, since = np.array([1.0, 2.0, 4.0, 2.0, 1.0]), np.array([8.0, 9.0, 16.0, 30.0])
    # The first loss after a snapshot is one of its own weights.
    guard = guard_after(before, [3.0, *since])
    rise = guard.losses.rise(4)
    own = np.log([*before, 3.0])
    assert rise.height == pytest.approx(np.log(since).mean() - own.mean())
    # The larger variance counts for both: that of the losses up to the snapshot is 0.25 or so.
    variance = max(np.log(since).var(ddof=1), own.var(ddof=1))
    error = math.sqrt(variance * (1 / 4 + 1 / 6))
    assert rise.error == pytest.approx(error)
    # Two means are taken from ten losses.
    assert rise.threshold == pytest.approx(3.0 * (1.0 + 2.5 / 8))
    assert rise.is_clear == (rise.height > rise.threshold * error)


def test_losses_that_are_not_positive_are_compared_as_they_are():
    guard = guard_after([0.0, -2.0, 0.0, -2.0], [-1.0, 5.0, 6.0, 5.0, 6.0])
    assert guard.losses.rise(4).height == pytest.approx(5.5 - (-1.0))


@pytest.mark.parametrize(
    ("height", "factors", "expected"),
    [
        (0.07, [1.0], False),
        (0.11, [1.0], True),
        (0.11, [2.0, 0.5], False),  # neighbours differ by ln 4: an error of 0.35
        (2.0, [2.0, 0.5], True),
    ],
)
def test_losses_are_compared_with_the_last_ones_before_the_snapshot_beside_their_trend(
    height, factors, expected
):
    # Neighbours differ by 0.1: noise of 0.1 / √2, an error of 0.025 for the mean of eight, of which
    # 3 · (1 + 2.5 / 14) are 0.088.
    fallen = np.exp(-0.1 * np.arange(20))
    level = -0.1 * np.mean(np.arange(12, 20))
    since = np.exp(level + height) * np.array(factors * (8 // len(factors)))
    # The first loss after a snapshot is one of its own weights.
    guard = guard_after(fallen[:-1], [fallen[-1], *since])
    assert guard.is_above_snapshot() is expected


@pytest.mark.parametrize(("before", "since"), [(2, 8), (8, 3)])
def test_of_too_few_losses_nothing_is_said_to_be_above_the_snapshot(before, since):
    guard = guard_after([0.1] * before, [0.1, *[5.0] * since])
    assert not guard.is_above_snapshot()


@pytest.mark.parametrize("count", range(FEWEST_LOSSES))
def test_before_the_noise_is_known_no_finite_loss_is_a_reason(count):
    guard = guard_after([0.005], [0.005] + [5.0] * count)
    assert not guard.allows(5.0, True, no_way)
    assert guard.allows(math.nan, False, no_way)


def test_a_jump_on_steps_as_large_as_the_weights_is_a_reason_at_once():
    guard = guard_after([2.3], [2.3, 400.0])
    assert guard.allows(400.0, True, lambda: LONG_WAY + 0.1)
    assert not guard.allows(400.0, True, lambda: LONG_WAY - 0.1)
    assert not guard.allows(400.0, False, lambda: LONG_WAY + 0.1)


def test_a_rise_that_all_losses_show_is_a_reason():
    rng = np.random.default_rng(0)
    guard = guard_after(rng.lognormal(0.0, 0.2, 20), [1.0, *rng.lognormal(1.5, 0.4, 8)])
    assert guard.allows(4.5, True, no_way)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.3), st.floats(2.0, 1e4), st.integers(4, 40))
@settings(max_examples=200, deadline=None)
def test_rare_classes_are_noise_not_divergence(seed, share, factor, count):
    # Most batches hold no positive example, and the training begins with such batches.
    rng = np.random.default_rng(seed)
    losses = np.where(rng.random(count) < share, 0.005 * factor, 0.005)
    guard = guard_after([0.005] * 3, [0.005, *losses])
    taken = guard.allows(float(losses.mean()), True, no_way)
    # All of the last losses are high by chance now and then.
    assert not taken or (losses[-FEWEST_LOSSES:] > 0.005).mean() > 0.7


@given(
    st.lists(st.floats(0.1, 10.0), min_size=3, max_size=30),
    st.lists(st.floats(0.01, 0.1), min_size=5, max_size=30),
)
def test_no_losses_below_those_before_are_ever_a_reason(before, since):
    guard = guard_after(before, since)
    assert not guard.allows(float(np.mean(since)), True, no_way)
    assert guard.allows(math.nan, False, no_way)
    assert guard.allows(math.inf, False, no_way)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_training_whose_losses_only_vary_is_hardly_ever_taken_back(seed):
    rng = np.random.default_rng(seed)
    guard = guard_after(rng.lognormal(0.0, 1.0, 32))
    taken = 0
    for _ in range(20):
        for loss in rng.lognormal(0.0, 1.0, 16):
            guard.observe_step(loss)
        taken += guard.allows(1.0, True, no_way)
        guard.end_interval()
    assert taken <= 2


def test_losses_that_were_rolled_back_are_no_measure_of_those_that_follow():
    guard = guard_after([1.0] * 6, [1.0, 1e6, 1e9, 1e9, 1e6])
    assert guard.allows(5e8, True, no_way)
    guard.note_step_back(np.array([1.0]), 11, 1000, is_plain=False)
    guard.end_interval()
    for loss in (1.0, 5.0, 5.1, 5.2, 5.1):
        guard.observe_step(loss)
    assert guard.allows(5.1, True, no_way)


def test_a_row_of_step_backs_without_a_lower_loss_is_given_up_and_the_rates_before_are_known():
    guard = guard_after([1.0] * 6)
    for number in range(MOST_IN_A_ROW):
        assert guard.is_open
        guard.note_step_back(np.array([0.3**number]), 10, 10_000, is_plain=True)
    assert not guard.is_open
    assert guard.was_in_vain
    assert guard.rates_before == pytest.approx([1.0])
    assert not guard.allows(1e9, True, lambda: 1e9)
    assert guard.allows(math.nan, True, no_way)


def test_a_lower_loss_between_them_ends_a_row():
    guard = guard_after([1.0] * 6)
    for number in range(3 * MOST_IN_A_ROW):
        guard.note_step_back(np.array([0.1]), number, 10_000, is_plain=True)
        guard.note_best(number)
    assert guard.is_open


@pytest.mark.parametrize(
    ("num_steps", "each", "most"),
    [(5_000, 30, 500), (200, 6, 40), (32, 2, 8)],
)
def test_step_backs_take_back_a_bounded_share_of_a_training(num_steps, each, most):
    # A tenth of the steps; of short trainings a quarter, and at most 40.
    guard = guard_after([1.0] * 6)
    lost = 0
    for number in range(1, 100):
        guard.note_best(100 * number)
        guard.note_step_back(np.array([0.1]), 100 * number + each, num_steps, is_plain=True)
        lost += each
        if not guard.is_open:
            break
    assert most < lost <= most + each
    assert not guard.was_in_vain


def test_one_step_back_may_not_take_back_more_than_all_together():
    guard = guard_after([1.0] * 6)
    assert not guard.is_too_late(506, 5_000)
    assert guard.is_too_late(507, 5_000)


NOISY = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2]


@pytest.mark.parametrize(
    ("before", "since", "first", "changed"),
    [
        (NOISY, [1.0, 9.0, 8.0, 10.0, 9.0], 9.5, True),  # other data: as bad as those since
        (NOISY, [1.0, 9.0, 8.0, 10.0, 9.0], 1.2, False),  # the rate's doing
        (NOISY, [1.0, 2.0, 1.9, 2.2, 2.1], 1.7, False),  # within the noise of single losses
        (NOISY[:2], [1.0, 9.0, 8.0, 10.0, 9.0], 9.5, False),  # too few to tell
        ([-1.0, 0.0, -1.0, 0.0], [-1.0, 9.0, 9.0, 9.0, 9.0], 8.0, True),
        ([0.0, 1e-6, 0.0, 1e-5], [0.0, 9.0, 9.0, 9.0, 9.0], 8.0, True),
    ],
)
def test_where_the_restored_weights_are_as_bad_the_data_have_changed(before, since, first, changed):
    guard = guard_after(before, since)
    guard.note_step_back(np.array([0.3]), 12, 1_000, is_plain=True)
    assert guard.reason_to_tell() is None
    guard.observe_step(first)
    assert guard.data_changed is changed
    assert guard.is_open is not changed
    guard.observe_step(20.0)  # later losses are of other weights
    assert guard.data_changed is changed
    told = [guard.reason_to_tell(), guard.reason_to_tell()]
    assert [told[0] is not None, told[1]] == [changed, None]


def test_what_has_diverged_may_be_rolled_back_as_often_as_it_takes():
    guard = guard_after([1.0] * 6)
    for number in range(50):
        guard.note_step_back(np.array([0.1]), number, 1_000, is_plain=False)
    assert guard.is_open


def test_a_guard_that_was_kept_over_a_break_goes_on_as_it_was():
    def played(kept):
        guard = guard_after([1.0, 2.0] * 5, [1.0, 4.0, 5.0])
        guard.note_step_back(np.array([0.3]), 12, 1_000, is_plain=True)
        guard.observe_step(1.5)
        guard.observe_step(3.0)
        if kept:
            other = StepBackGuard()
            other.restore(guard.arrays())
            guard = other
        for loss in (3.5, 4.0, 5.0):
            guard.observe_step(loss)
        rise = guard.losses.rise(4)
        for number in range(MOST_IN_A_ROW - 1):
            assert guard.is_open
            guard.note_step_back(np.array([0.1]), 13 + number, 1_000, is_plain=True)
        return rise, guard.rates_before.tolist(), guard.count, guard.was_in_vain

    assert played(kept=True) == played(kept=False)
    assert played(kept=True)[1:] == ([0.3], MOST_IN_A_ROW, True)
