"""Residuals scaled to where a prediction lies."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.early_stopping.intervals import ResidualModel

RNG = np.random.default_rng(0)


def test_residuals_of_one_size_everywhere_hardly_change():
    residuals, predictions = RNG.choice([-0.1, 0.1], 2000), RNG.uniform(0, 1, 2000)
    model = ResidualModel(residuals, predictions)
    np.testing.assert_allclose(np.abs(model.residuals_at(0.9, "conformal")), 0.1, rtol=0.01)


def test_where_predictions_are_better_the_residuals_are_smaller():
    predictions = RNG.uniform(0, 1, 4000)
    size = 0.1 * np.exp(-1.5 * predictions)
    model = ResidualModel(RNG.normal(scale=size), predictions)
    for place in (0.2, 0.8):
        expected = 0.1 * np.exp(-1.5 * place)
        assert 0.8 < model.residuals_at(place, "conformal").std() / expected < 1.2


def test_sizes_stay_within_bounds_beyond_what_was_seen():
    predictions = RNG.uniform(0, 1, 500)
    model = ResidualModel(RNG.normal(size=500) * np.exp(-5 * predictions), predictions)
    low, high = (np.abs(model.residuals_at(p, "conformal")).mean() for p in (50.0, -50.0))
    assert np.isclose(high / low, 10.0)


def test_the_gaussian_rule_takes_the_residuals_as_they_are():
    residuals = np.array([0.3, -0.1, 0.2])
    model = ResidualModel(residuals, np.array([1.0, 2.0, 3.0]))
    assert model.residuals_at(2.0, "gaussian").tolist() == [-0.1, 0.2, 0.3]


def test_perfect_predictions_leave_no_doubt():
    assert not ResidualModel(np.zeros(5), np.arange(5.0)).residuals_at(3.0, "conformal").any()
    assert np.isfinite(
        ResidualModel(np.array([0.1, -0.1]), np.ones(2)).residuals_at(1.0, "conformal")
    ).all()


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-10, 10))
def test_it_does_not_depend_on_the_curves_unit(seed, unit, shift):
    rng = np.random.default_rng(seed)
    residuals, predictions = rng.normal(size=20), rng.normal(size=20)
    one = ResidualModel(residuals, predictions).residuals_at(0.3, "conformal")
    other = ResidualModel(unit * residuals, unit * predictions + shift)
    np.testing.assert_allclose(
        other.residuals_at(unit * 0.3 + shift, "conformal"), unit * one, rtol=1e-6
    )
