"""CurvePredictor: predictions, intervals and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.curves import saturating

from keras_qan.early_stopping import CurveError, CurvePredictor, TooFewCurvesError
from keras_qan.early_stopping.predictor import RegressorInputs
from keras_qan.early_stopping.regressors import FAMILIES, Regressor, residuals, select_regressor

STEPS = np.arange(1, 11)
#: Ends are exactly linear in what is seen: a · g(t).
LINEAR = np.linspace(0.3, 0.9, 40)[:, None] * (1 - np.exp(-STEPS / 4))


@pytest.mark.parametrize("families", [[name] for name in FAMILIES])
def test_every_family_learns_where_curves_end(families):
    curves, features = saturating(90)
    predictor = CurvePredictor(families).fit(curves[:60], features[:60])
    found = predictor.predict(curves[60:, :4], features[60:])
    truth = curves[60:, -1]
    explained = 1 - np.sum((found.end - truth) ** 2) / np.sum((truth - truth.mean()) ** 2)
    assert explained > 0.85
    assert predictor.family(4) == families[0]


def test_least_squares_is_exact_where_the_end_is_linear_in_what_was_seen():
    predictor = CurvePredictor(["least_squares"]).fit(LINEAR[::2])
    end, low, high = predictor.predict(LINEAR[1::2, :3])
    np.testing.assert_allclose(end, LINEAR[1::2, -1], atol=1e-9)
    np.testing.assert_allclose(high - low, 0.0, atol=1e-9)


def test_cross_validation_prefers_the_forest_where_the_end_is_a_step():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (80, 2))
    y = np.where(x[:, 0] > 0.3, 1.0, 0.0)
    assert select_regressor(x, y, FAMILIES, 3, 0)[0] == "forest"
    assert select_regressor(x, x @ [1.0, 2.0], FAMILIES, 3, 0)[0] == "least_squares"


def test_residuals_are_those_of_leaving_each_curve_out():
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(25, 3)), rng.normal(size=25)
    y = x @ [1.0, -2.0, 0.5] + noise
    name, regressor = select_regressor(x, y, ["least_squares"], 3, 0)
    assert name == "least_squares"
    # In closed form: e_i / (1 − h_ii), with the hat matrix of the inputs and a constant.
    design = np.column_stack([np.ones(25), x])
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    expected = (y - hat @ y) / (1 - np.diag(hat))
    np.testing.assert_allclose(residuals(regressor, x, y, 0), expected, rtol=1e-8)


def test_above_two_hundred_curves_folds_take_the_place_of_single_curves():
    fits = []

    class Mean:
        def fit(self, x, y):
            fits.append(len(y))

        def predict(self, x):
            return np.zeros(len(x))

    x, y = np.zeros((260, 1)), np.arange(260.0)
    regressor = Regressor(lambda count, width: Mean()).fit(x, y)
    fits.clear()
    assert len(residuals(regressor, x, y, 0)) == 260
    assert len(fits) == 50
    assert min(fits) >= 254


def test_intervals_hold_for_most_curves_that_were_not_learned_from():
    curves, features = saturating(260, noise=0.02)
    predictor = CurvePredictor(["svr_linear"], level=0.9).fit(curves[:100], features[:100])
    found = predictor.predict(curves[100:, :4], features[100:])
    within = (found.low <= curves[100:, -1]) & (curves[100:, -1] <= found.high)
    assert 0.8 < within.mean() < 0.98


def test_inputs_are_values_differences_and_features():
    inputs = RegressorInputs(np.array([[1.0], [3.0]]), np.array([4, 4]))
    found = inputs.assemble(np.array([[1.0, 2.0, 4.0, 9.0]]), 3, np.array([[5.0]]), np.array([4]))
    # 1 2 4 | 2-1, 4-2 | (4-2)-(2-1) | 5
    np.testing.assert_array_equal(found, [[1, 2, 4, 1, 2, 1, 5]])


def test_features_that_span_decades_enter_by_their_logarithm_and_lengths_where_they_differ():
    inputs = RegressorInputs(np.array([[1.0, 1.0], [100.0, 2.0]]), np.array([4, 6]))
    found = inputs.assemble(np.array([[7.0]]), 1, np.array([[10.0, 1.5]]), np.array([5]))
    np.testing.assert_allclose(found, [[7.0, np.log(10.0), 1.5, 5.0]])


def test_curves_of_different_lengths_are_learned_from_where_they_are_long_enough():
    curves = [row[: 6 + index % 5] for index, row in enumerate(LINEAR)]
    predictor = CurvePredictor(["least_squares"]).fit(curves)
    assert predictor.can_predict(7)
    assert not predictor.can_predict(9)  # only the 8 curves of ten values are longer
    found = predictor.predict([curves[0][:3], curves[4][:7]], lengths=np.array([6, 10]))
    np.testing.assert_allclose(found.end, [curves[0][-1], curves[4][-1]], atol=0.05)
    with pytest.raises(TooFewCurvesError, match="longer than the 9 values observed"):
        predictor.predict([LINEAR[0, :9]])


def test_a_curve_that_is_complete_ends_where_it_ended_without_doubt():
    predictor = CurvePredictor(["least_squares"]).fit(LINEAR)
    found = predictor.predict(LINEAR[:1])
    assert found.end[0] == LINEAR[0, -1]
    assert found.interval.tolist() == [[LINEAR[0, -1]] * 2]


def test_partial_curves_of_different_lengths_keep_their_rows():
    predictor = CurvePredictor(["least_squares"]).fit(LINEAR)
    partial = LINEAR[:3].copy()
    for row, observed in enumerate([5, 1, 3]):
        partial[row, observed:] = np.nan
    found = predictor.predict(partial)
    np.testing.assert_array_equal(found.observed, [5, 1, 3])
    np.testing.assert_allclose(found.end, LINEAR[:3, -1], atol=1e-8)


def test_another_target_than_the_last_value_can_be_predicted():
    best = LINEAR.max(axis=1) * 2
    predictor = CurvePredictor(["least_squares"]).fit(LINEAR, ends=best)
    np.testing.assert_allclose(predictor.predict(LINEAR[:5, :2]).end, best[:5], atol=1e-8)


def test_same_seed_same_prediction():
    curves, features = saturating(50)
    ends = [
        CurvePredictor(seed=3).fit(curves, features).predict(curves[:5, :3], features[:5]).end
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*ends)


def test_too_few_curves_say_how_many_are_missing():
    with pytest.raises(TooFewCurvesError, match="3 are missing") as caught:
        CurvePredictor(min_curves=10).fit(LINEAR[:7])
    assert caught.value.missing == 3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CurvePredictor(["svm"]), "svr_linear"),
        (lambda: CurvePredictor("forest"), "a sequence"),
        (lambda: CurvePredictor([]), "a sequence"),
        (lambda: CurvePredictor(rule="normal"), "conformal"),
        (lambda: CurvePredictor(level=1.0), "level is 1.0"),
        (lambda: CurvePredictor(min_curves=3), "at least 6.*2 curves"),
    ],
)
def test_bad_arguments_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_bad_input_is_refused():
    predictor = CurvePredictor(["least_squares"])
    with pytest.raises(RuntimeError, match=r"fit\(\) first"):
        predictor.predict(LINEAR[:, :3])
    with pytest.raises(CurveError, match="NaN"):
        predictor.fit(np.where(np.arange(10) == 4, np.nan, LINEAR))
    predictor.fit(LINEAR, np.ones((40, 2)))
    with pytest.raises(CurveError, match="0 features for each curve; expected 2"):
        predictor.predict(LINEAR[:, :3])
    with pytest.raises(CurveError, match="lengths"):
        predictor.predict(LINEAR[:2, :3], np.ones((2, 2)), lengths=[10])
    with pytest.raises(CurveError, match="ends"):
        predictor.fit(LINEAR, ends=[1.0])
