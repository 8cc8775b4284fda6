import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.agents.normalizer import Normalizer


def fed(values, limit=5.0):
    normaliser = Normalizer(values.shape[1], limit)
    for row in values:
        normaliser.update(row)
    return normaliser


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 4), st.floats(-50.0, 50.0))
def test_features_are_standardised_as_numpy_does(seed, num_states, num_features, centre):
    generator = np.random.default_rng(seed)
    values = (centre + generator.normal(size=(num_states, num_features))).astype(np.float32)
    wide = values.astype(np.float64)
    expected = np.clip((wide - wide.mean(axis=0)) / wide.std(axis=0), -5.0, 5.0)
    found = fed(values)(values)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=2e-3)


def test_the_limit_holds():
    normaliser = fed(np.array([[-1.0], [1.0]], np.float32), limit=3.0)
    assert normaliser(np.array([[100.0], [-100.0], [2.0]], np.float32)).tolist() == [[3], [-3], [2]]


def test_what_has_not_varied_is_zero_and_never_not_a_number():
    normaliser = Normalizer(2)
    assert normaliser(np.array([7.0, -7.0], np.float32)).tolist() == [0.0, 0.0]
    for _ in range(3):
        normaliser.update(np.array([0.1, 1e6], np.float32))
        assert normaliser(np.array([5.0, 2e6], np.float32)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("number", [1e9, 1e30, 3e38])
def test_one_state_of_a_training_that_exploded_hides_no_others(number):
    usual = np.random.default_rng(0).normal(size=(30, 1)).astype(np.float32)
    exploded = np.array([[number]], np.float32)
    normaliser = fed(np.concatenate([usual, exploded, usual]))
    # It counts as one at 100 deviations: √(100² / 61) is 13 of them.
    assert 1.0 < normaliser.scale[0] / usual.std() < 14.0
    assert np.ptp(normaliser(usual)) > 0.2


@pytest.mark.parametrize("number", [3e38, np.finfo(np.float32).max])
def test_statistics_stay_finite_whatever_comes_first(number):
    normaliser = fed(np.array([[number], [-number], [1.0]], np.float32))
    assert all(np.isfinite(array).all() for array in normaliser.arrays().values())
    other = Normalizer(1)
    other.fit(np.array([[number], [-number]], np.float32))
    assert all(np.isfinite(array).all() for array in other.arrays().values())


def test_standardising_changes_nothing():
    normaliser = fed(np.array([[1.0, -2.0], [2.0, 5.0]], np.float32))
    before = {name: v.tobytes() for name, v in normaliser.arrays().items()}
    normaliser(np.array([9.0, 9.0], np.float32))
    assert {name: v.tobytes() for name, v in normaliser.arrays().items()} == before


def test_all_of_it_is_single_precision():
    normaliser = fed(np.array([[1.0, -2.0], [2.0, 5.0]], np.float32))
    found = [*normaliser.arrays().values(), normaliser(np.array([1.0, 2.0], np.float32))]
    assert {array.dtype for array in found} == {np.dtype(np.float32)}


def test_statistics_of_many_states_at_once_are_those_of_one_after_another():
    values = np.random.default_rng(1).normal(2.0, 3.0, size=(40, 3)).astype(np.float32)
    one, other = fed(values), Normalizer(3)
    other.fit(values)
    for name, array in one.arrays().items():
        np.testing.assert_allclose(array, other.arrays()[name], rtol=1e-4)


def test_kept_statistics_are_taken_over_as_copies():
    one = fed(np.array([[1.0, -2.0], [2.0, 5.0]], np.float32))
    kept = one.arrays()
    other = Normalizer(2)
    other.restore(kept)
    one.update(np.array([9.0, 9.0], np.float32))
    state = np.array([1.5, 2.0], np.float32)
    again = Normalizer(2)
    again.restore(kept)
    np.testing.assert_array_equal(other(state), again(state))
    assert not np.array_equal(one(state), other(state))


def test_small_numbers_are_standardised_like_others():
    # Rates of 1e-5 and moments of 1e-12 are what the state is made of.
    values = np.array([[1e-5, 1e-12], [3e-5, 3e-12]], np.float32)
    found = fed(values)(values)
    np.testing.assert_allclose(found, [[-1.0, -1.0], [1.0, 1.0]], rtol=1e-3)


def test_a_batch_is_treated_as_its_states_are():
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    normaliser = fed(values)
    together = normaliser(values)
    one_by_one = [normaliser(row) for row in values]
    np.testing.assert_array_equal(together, one_by_one)
