"""Intervals and certainties, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.early_stopping.intervals import Prediction, conformal_rank, curves_needed


def prediction(end, residuals, rule="conformal", level=0.8):
    return Prediction(
        np.array([end]), [np.sort(np.asarray(residuals, float))], np.array([3]), level, rule
    )


def test_conformal_interval_takes_the_ranked_residuals():
    # Nine residuals, level 0.8: the 9th and the 1st of ten places, ⌈10 · 0.9⌉ = 9.
    end, low, high = prediction(0.5, [-0.04, -0.03, -0.02, -0.01, 0, 0.01, 0.02, 0.03, 0.09])
    assert (end[0], low[0], high[0]) == pytest.approx((0.5, 0.46, 0.59))


def test_conformal_interval_is_unbounded_where_too_few_curves_were_seen():
    _, low, high = prediction(0.5, [-0.01, 0.0, 0.01])
    assert low[0] == -np.inf
    assert high[0] == np.inf


def test_gaussian_interval_is_that_of_the_residuals_deviation():
    found = prediction(0.5, [-0.02, 0.02], rule="gaussian", level=0.9)
    # σ = 0.02 and the 95 % point of the standard normal is 1.644854.
    np.testing.assert_allclose(found.interval, [[0.5 - 0.0328971, 0.5 + 0.0328971]], rtol=1e-5)


def test_gaussian_probability_below_grows_with_the_value_unlike_the_slides_formula():
    found = prediction(0.5, [-0.02, 0.02], rule="gaussian")
    # A training predicted two deviations behind the best is all but surely worse: Φ(2) = 0.97725.
    # The slides' 1 − Φ would call the same training a likely improvement and never stop it.
    assert found.probability_below(0.54)[0] == pytest.approx(0.977250, abs=1e-6)
    assert found.probability_above(0.54)[0] == pytest.approx(1 - 0.977250, abs=1e-6)


def test_conformal_probability_counts_residuals_and_one_more():
    found = prediction(0.5, [-0.02, -0.01, 0.0, 0.01])
    assert found.probability_below(0.505)[0] == pytest.approx(3 / 5)
    assert found.probability_above(0.495)[0] == pytest.approx(2 / 5)


@pytest.mark.parametrize(("confidence", "needed"), [(0.99, 99), (0.95, 19), (0.5, 1), (0.9, 9)])
def test_as_many_curves_are_needed_as_give_the_rank_a_place(confidence, needed):
    assert curves_needed("conformal", confidence, 1) == needed
    assert conformal_rank(needed, confidence) == needed
    assert conformal_rank(needed - 1, confidence) > needed - 1


@given(st.integers(19, 60), st.integers(0, 10_000))
def test_conformal_upper_ends_hold_as_often_as_promised(count, seed):
    # Whatever the distribution: a Cauchy's tails have no deviation at all.
    rng = np.random.default_rng(seed)
    draws = rng.standard_cauchy((2000, count + 1))
    rank = conformal_rank(count, 0.9)
    covered = np.mean(draws[:, -1] <= np.sort(draws[:, :-1], axis=1)[:, rank - 1])
    assert covered > 0.9 - 4 * np.sqrt(0.09 / 2000)


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=30),
    st.floats(-2, 2),
    st.sampled_from(["conformal", "gaussian"]),
)
def test_negating_everything_exchanges_below_and_above(residuals, value, rule):
    one = prediction(0.3, residuals, rule)
    other = prediction(-0.3, [-r for r in residuals], rule)
    np.testing.assert_allclose(one.probability_below(value), other.probability_above(-value))
