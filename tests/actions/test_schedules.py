import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.actions import Cosine, OneCycle, StepDecay, WarmRestarts

SHARES = st.floats(0.0, 1.0, width=32)


def at(schedule, progress):
    return float(schedule(progress))


@given(SHARES)
def test_cosine_equals_its_formula(progress):
    assert at(Cosine(), progress) == pytest.approx((1 + np.cos(np.pi * progress)) / 2, abs=1e-6)


def test_cosine_goes_from_the_peak_to_zero():
    assert [at(Cosine(), p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, 1.0),
        (0.299, 1.0),
        (0.3, 0.2),
        (0.599, 0.2),
        (0.6, 0.04),
        (0.8, 0.008),
        (1.0, 0.008),
    ],
)
def test_step_decay_falls_at_its_milestones(progress, expected):
    assert at(StepDecay(), progress) == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.75]), max_size=4), st.floats(0.05, 0.95), SHARES)
def test_step_decay_counts_the_milestones_passed_in_any_order(milestones, factor, progress):
    passed = sum(progress >= point for point in milestones)
    found = at(StepDecay(factor, tuple(milestones)), progress)
    assert found == pytest.approx(factor ** float(passed), rel=1e-4)


@given(SHARES, st.floats(0.05, 0.95), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_one_cycle_equals_its_formula(progress, warm_up, start, end):
    if progress < warm_up:
        low, way = start, progress / warm_up
    else:
        low, way = end, (1.0 - progress) / (1.0 - warm_up)
    expected = low + (1.0 - low) * (1.0 - math.cos(math.pi * way)) / 2
    assert at(OneCycle(warm_up, start, end), progress) == pytest.approx(expected, abs=2e-5)


def test_one_cycle_goes_from_its_start_over_the_peak_to_its_end():
    schedule = OneCycle(0.25, 0.04, 0.001)
    found = [at(schedule, progress) for progress in (0.0, 0.25, 1.0)]
    assert found == pytest.approx([0.04, 1.0, 0.001], abs=1e-6)


def test_warm_restarts_begin_again_from_the_peak_in_ever_longer_cycles():
    # Cycles of 1/7, 2/7 and 4/7 of the training.
    schedule = WarmRestarts()
    for start, length in ((0, 1), (1, 2), (3, 4)):
        assert at(schedule, start / 7) == pytest.approx(1.0, abs=1e-4)
        assert at(schedule, (start + length / 2) / 7) == pytest.approx(0.5, abs=1e-4)
        assert at(schedule, (start + length - 0.01) / 7) < 1e-3
    assert at(schedule, 1.0) == pytest.approx(0.0, abs=1e-5)


@given(SHARES, st.sampled_from([0.1, 0.25, 0.3, 1.0]), st.sampled_from([1.0, 1.5, 2.0]))
def test_warm_restarts_equal_a_walk_through_the_cycles(progress, first, growth):
    begun, length = 0.0, first
    while begun + length <= progress and begun + length < 1.0 - 1e-6:
        begun, length = begun + length, length * growth
    within = (progress - begun) / length
    distance = min(abs(within), abs(1.0 - within))
    if distance < 1e-4 and within != 0.0:
        return  # rounding decides on which side of a restart this is
    expected = (1 + math.cos(math.pi * min(within, 1.0))) / 2
    assert at(WarmRestarts(first, growth), progress) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("schedule", "arguments"),
    [
        (StepDecay, {"factor": 1.0}),
        (StepDecay, {"factor": 0.0}),
        (StepDecay, {"milestones": (0.5, 1.0)}),
        (StepDecay, {"milestones": (0.0,)}),
        (StepDecay, {"milestones": (math.nan,)}),
        (OneCycle, {"warm_up": 0.0}),
        (OneCycle, {"warm_up": 1.0}),
        (OneCycle, {"start": 0.0}),
        (OneCycle, {"start": 1.1}),
        (OneCycle, {"end": -0.1}),
        (OneCycle, {"end": math.nan}),
        (WarmRestarts, {"first": 0.0}),
        (WarmRestarts, {"first": 1.1}),
        (WarmRestarts, {"growth": 0.9}),
        (WarmRestarts, {"growth": math.nan}),
        (WarmRestarts, {"growth": math.inf}),
    ],
)
def test_what_is_out_of_range_is_refused(schedule, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{schedule.__name__}'s {name} is .*; expected"):
        schedule(**arguments)
