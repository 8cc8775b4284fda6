import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.observations.weight_statistics import POOLING_NAMES, pool


def pooled(descriptions):
    tensor = keras.ops.convert_to_tensor(np.asarray(descriptions, np.float32))
    return keras.ops.convert_to_numpy(pool(tensor))


def test_the_five_statistics_by_hand():
    # Of 1, 2, 6: mean 3, median 2, deviations -2, -1, 3 with squares 14 in sum.
    # Of 0, 10, -4: mean 2, median 0, deviations -2, 8, -6 with squares 104 in sum.
    found = pooled([[1.0, 0.0], [2.0, 10.0], [6.0, -4.0]])
    expected = [3.0, 2.0, 2.0, 0.0, (14 / 3) ** 0.5, (104 / 3) ** 0.5, 6.0, 10.0, 1.0, -4.0]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert POOLING_NAMES == ("mean", "median", "standard_deviation", "maximum", "minimum")


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 12))
def test_pooling_equals_numpy_and_ignores_the_order(seed, num_descriptions, num_features):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(num_descriptions, num_features)).astype(np.float32)
    found = pooled(values)
    over = {"axis": 0}
    statistics = [np.mean, np.median, np.std, np.max, np.min]
    expected = np.concatenate([statistic(values, **over) for statistic in statistics])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    shuffled = pooled(generator.permutation(values, axis=0))
    np.testing.assert_allclose(shuffled, found, rtol=1e-5, atol=1e-6)


def test_one_description_pools_to_itself_and_no_deviation():
    found = pooled([[3.0, -1.0]])
    np.testing.assert_array_equal(found, [3.0, -1.0, 3.0, -1.0, 0.0, 0.0, 3.0, -1.0, 3.0, -1.0])


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e25])
def test_deviation_survives_numbers_whose_square_does_not(scale):
    descriptions = np.array([[1.0], [2.0], [6.0]], np.float32) * np.float32(scale)
    assert pooled(descriptions)[2] == pytest.approx((14 / 3) ** 0.5 * scale, rel=1e-5)
