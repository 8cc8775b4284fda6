import math

import pytest

from keras_qan.qan.convergence import WINDOW, return_trend


@pytest.mark.parametrize("count", range(4))
def test_with_fewer_than_four_trainings_it_is_too_early_to_say(count):
    assert return_trend([1.0] * count).verdict == "too early to say"


def test_returns_that_rise_beyond_their_scatter_are_a_gain():
    found = return_trend([1.0, 1.1, 2.0, 2.2])
    # Means 2.1 and 1.05; variances 0.02 and 0.005 of two each.
    assert (found.last, found.before) == (pytest.approx(2.1), pytest.approx(1.05))
    assert found.error == pytest.approx(math.sqrt(0.025 / 2))
    assert found.verdict == "gaining"
    assert str(found).startswith("gaining (+1.050")


def test_returns_that_fall_are_a_loss():
    assert return_trend([2.0, 2.2, 1.0, 1.1]).verdict == "losing"


def test_a_difference_within_its_error_is_no_gain():
    assert return_trend([1.0, 3.0, 1.1, 3.2]).verdict == "not gaining"


def test_only_the_last_trainings_count():
    old = [100.0] * 50
    assert return_trend([*old, *[1.0, 1.2] * WINDOW, *[2.0, 2.2] * WINDOW]).before < 3.0


def test_returns_that_are_no_numbers_are_left_out():
    assert return_trend([1.0, math.nan, 1.1, 2.0, 2.2]) == return_trend([1.0, 1.1, 2.0, 2.2])
