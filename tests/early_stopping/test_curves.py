"""Curves and features as matrices, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest

from keras_qan.early_stopping.curves import CurveError, as_curves, as_features


def test_curves_of_different_lengths_are_padded_with_nan():
    found = as_curves([[0.1, 0.2, 0.3], [0.5]])
    np.testing.assert_array_equal(found.values, [[0.1, 0.2, 0.3], [0.5, np.nan, np.nan]])
    np.testing.assert_array_equal(found.lengths, [3, 1])
    np.testing.assert_array_equal(found.last, [0.3, 0.5])


@pytest.mark.parametrize(
    ("curves", "says"),
    [
        ([[0.1, np.nan, 0.3]], "NaN in front of or between values in row 0"),
        ([[0.1, 0.2], [np.nan, 0.3]], "row 1"),
        ([[np.nan, np.nan]], "fewer than 1 observed values"),
        ([[0.1, np.inf]], "infinite"),
        ([0.1, 0.2], r"\[curve\]"),
        (np.array([0.1, 0.2]), r"Put a single curve into a list"),
        ([["a", "b"]], "no numbers"),
        (np.zeros((2, 2, 2)), r"\(2, 2, 2\)"),
    ],
)
def test_what_is_no_curve_is_refused_with_its_row_and_a_remedy(curves, says):
    with pytest.raises(CurveError, match=says):
        as_curves(curves)


def test_a_finished_curve_of_one_point_is_refused():
    with pytest.raises(CurveError, match="fewer than 2 observed values in row 1"):
        as_curves([[0.1, 0.2], [0.3, np.nan]], at_least=2)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (np.zeros((2, 1)), r"shape \(2, 1\) for 3 curves"),
        ([[1.0], [np.nan], [2.0]], "row 1"),
        ([["adam"], ["sgd"], ["adam"]], "column of 0 and 1"),
    ],
)
def test_features_that_do_not_fit_are_refused(features, says):
    with pytest.raises(CurveError, match=says):
        as_features(features, 3)


def test_a_single_feature_may_come_without_its_second_dimension():
    assert as_features([1.0, 2.0, 3.0], 3).shape == (3, 1)
    assert as_features(None, 3).shape == (3, 0)
