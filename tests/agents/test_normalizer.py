import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.agents.normalizer import Normalizer


def fed(values, limit=5.0):
    normaliser = Normalizer(values.shape[1], limit)
    for row in values:
        normaliser.update(tf.constant(row), tf.constant(1.0))
    return normaliser


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 4), st.floats(-50.0, 50.0))
def test_features_are_standardised_as_numpy_does(seed, num_states, num_features, centre):
    generator = np.random.default_rng(seed)
    values = (centre + generator.normal(size=(num_states, num_features))).astype(np.float32)
    wide = values.astype(np.float64)
    expected = np.clip((wide - wide.mean(axis=0)) / wide.std(axis=0), -5.0, 5.0)
    found = fed(values)(tf.constant(values)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=2e-3)


def test_the_limit_holds():
    normaliser = fed(np.array([[-1.0], [1.0]], np.float32), limit=3.0)
    assert normaliser(tf.constant([[100.0], [-100.0], [2.0]])).numpy().tolist() == [[3], [-3], [2]]


def test_what_has_not_varied_is_zero_and_never_not_a_number():
    normaliser = Normalizer(2)
    assert normaliser(tf.constant([7.0, -7.0])).numpy().tolist() == [0.0, 0.0]
    for _ in range(3):
        normaliser.update(tf.constant([0.1, 1e6]), tf.constant(1.0))
        assert normaliser(tf.constant([5.0, 2e6])).numpy().tolist() == [0.0, 0.0]


def test_a_weight_of_zero_changes_nothing():
    normaliser = fed(np.array([[1.0, -2.0], [2.0, 5.0]], np.float32))
    before = {name: v.numpy().tobytes() for name, v in normaliser.variables.items()}
    normaliser.update(tf.constant([9.0, 9.0]), tf.constant(0.0))
    assert {name: v.numpy().tobytes() for name, v in normaliser.variables.items()} == before


def test_small_numbers_are_standardised_like_others():
    # Rates of 1e-5 and moments of 1e-12 are what the state is made of.
    values = np.array([[1e-5, 1e-12], [3e-5, 3e-12]], np.float32)
    found = fed(values)(tf.constant(values)).numpy()
    np.testing.assert_allclose(found, [[-1.0, -1.0], [1.0, 1.0]], rtol=1e-3)


def test_a_batch_is_treated_as_its_states_are():
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    normaliser = fed(values)
    together = normaliser(tf.constant(values)).numpy()
    one_by_one = [normaliser(tf.constant(row)).numpy() for row in values]
    np.testing.assert_array_equal(together, one_by_one)
