import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.selection import uniformity


def test_classes_in_turn_alternate():
    found = uniformity(list(range(10)) * 30, 10)
    assert found.verdict == "alternating"
    assert found.chi_square == 0.0
    assert found.distinct == 10.0
    assert found.p_alternating == pytest.approx(1 / 1000)


def test_every_round_in_another_order_alternates_too():
    rng = np.random.default_rng(0)
    found = uniformity(np.concatenate([rng.permutation(10) for _ in range(40)]), 10)
    assert found.verdict == "alternating"


@pytest.mark.slow
def test_choices_at_random_do_not_alternate():
    verdicts = []
    for seed in range(12):
        choices = np.random.default_rng(seed).integers(0, 10, 468)
        found = uniformity(choices, 10)
        verdicts.append(found.verdict)
        # E[distinct in 10 of 10] = 10 (1 - 0.9^10) = 6.51
        assert found.distinct == pytest.approx(6.51, abs=0.35)
    assert verdicts.count("as if at random") >= 11


def test_one_class_more_often_than_the_others_is_uneven():
    found = uniformity([0] * 60 + [1, 2, 3] * 20, 4)
    assert found.verdict == "uneven"
    # counts 60, 20, 20, 20; expected 30 each: (30² + 3 · 10²) / 30
    assert found.chi_square == pytest.approx(40.0)


def test_staying_with_a_class_for_long_is_the_opposite_of_alternating():
    found = uniformity(np.repeat(np.arange(5), 40), 5)
    assert found.verdict == "as if at random"
    assert found.p_alternating > 0.99


@settings(max_examples=8)
@given(st.integers(2, 6), st.integers(4, 30), st.integers(0, 2**32 - 1))
def test_statistics_stay_within_their_ranges(num_classes, rounds, seed):
    choices = np.random.default_rng(seed).integers(0, num_classes, rounds * num_classes)
    found = uniformity(choices, num_classes)
    assert 1.0 <= found.distinct <= num_classes
    assert 0.0 <= found.p_uniform <= 1.0
    assert 0.0 < found.p_alternating <= 1.0
    assert math.isfinite(found.chi_square)


def test_too_few_choices_and_unknown_classes_are_refused():
    with pytest.raises(ValueError, match="3 choices among 2 classes"):
        uniformity([0, 1, 0], 2)
    with pytest.raises(ValueError, match="from 0 to 7; expected 0 to 2"):
        uniformity([0, 1, 7, 2, 1, 0], 3)
