import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_qan.observations.weight_statistics import MOMENT_NAMES, moments, quantiles


def reference(values):
    """The twelve statistics by NumPy and SciPy in double precision."""
    values = np.asarray(values, np.float64)
    central = [np.mean((values - values.mean()) ** p) for p in range(1, 6)]
    return np.array(
        [
            values.mean(),
            *np.quantile(values, [0.25, 0.5, 0.75]),
            values.std(),
            stats.skew(values),
            stats.kurtosis(values),
            0.0,
            *central[1:],
        ]
    )


def described(values):
    """The twelve statistics of an array, in single precision unless it is in another."""
    values = np.asarray(values)
    values = values.astype(np.float32) if values.dtype == np.float64 else values
    return keras.ops.convert_to_numpy(moments(keras.ops.convert_to_tensor(values)))


def close(found, expected, scale):
    """Compare each statistic on its own scale: that of the weights, to its power."""
    powers = np.array([1, 1, 1, 1, 1, 0, 0, 1, 2, 3, 4, 5])
    np.testing.assert_array_less(
        np.abs(found - expected), 1e-12 + 2e-5 * np.abs(expected) + 2e-5 * scale**powers
    )


def test_the_twelve_statistics_of_five_numbers_by_hand():
    # 1, 2, 3, 4, 10 have mean 4 and deviations -3, -2, -1, 0, 6: squares 50, cubes 180, fourth
    # powers 1394 and fifth powers 7500 in sum.
    found = dict(zip(MOMENT_NAMES, described([1.0, 2.0, 3.0, 4.0, 10.0]), strict=True))
    expected = {
        "mean": 4.0,
        "quantile_25": 2.0,
        "quantile_50": 3.0,
        "quantile_75": 4.0,
        "standard_deviation": 10.0**0.5,
        "skewness": 36.0 / 10.0**1.5,
        "kurtosis": 278.8 / 100.0 - 3.0,
        "central_moment_1": 0.0,
        "central_moment_2": 10.0,
        "central_moment_3": 36.0,
        "central_moment_4": 278.8,
        "central_moment_5": 1500.0,
    }
    assert found == pytest.approx(expected, rel=1e-5)


@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.floats(-3.0, 3.0),
    st.sampled_from([1e-3, 0.05, 1.0, 10.0]),
)
def test_statistics_equal_scipy(seed, size, centre, spread):
    generator = np.random.default_rng(seed)
    values = (spread * (generator.standard_t(3, size) + centre)).astype(np.float32)
    found = described(values)
    assert found.dtype == np.float32
    expected = reference(values)
    if size == 1:
        expected[5:7] = 0.0  # SciPy gives not-a-number for a single value
    close(found, expected, np.abs(values).max())


def test_each_row_is_described_on_its_own():
    values = np.random.default_rng(1).normal(size=(3, 4, 7)).astype(np.float32)
    found = described(values)
    assert found.shape == (3, 4, 12)
    for row, column in np.ndindex(3, 4):
        close(found[row, column], reference(values[row, column]), 3.0)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.3, 1e-20, 1e6, 0.1])
@pytest.mark.parametrize("size", [1, 2, 9, 1000])
def test_weights_that_do_not_vary_have_no_shape(value, size):
    found = described(np.full(size, value))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:4], np.full(4, value), rtol=1e-5)
    np.testing.assert_array_equal(found[5:8], np.zeros(3))
    assert found[4] <= 1e-5 * abs(value)


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([1e-30, 1e-20, 1e-8, 1e6, 1e7]))
def test_tiny_and_large_weights_give_finite_statistics(seed, size, scale):
    values = (scale * np.random.default_rng(seed).normal(size=size)).astype(np.float32)
    assert np.isfinite(described(values)).all()


def test_shape_of_small_weights_is_not_lost_to_underflow():
    values = np.random.default_rng(0).gumbel(size=500)
    small = described(values * 1e-12)
    np.testing.assert_allclose(small[5:7], reference(values)[5:7], rtol=1e-3)


def test_half_precision_is_described_in_single_precision():
    values = np.linspace(-200.0, 200.0, 101)
    found = described(values.astype(np.float16))
    assert found.dtype == np.float32
    # 200^5 is far beyond what half precision can hold.
    np.testing.assert_allclose(found[10], np.mean(values**4), rtol=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 30), st.floats(0.0, 1.0))
def test_quantiles_equal_numpy(seed, size, probability):
    values = np.random.default_rng(seed).normal(size=(2, size)).astype(np.float32)
    found = keras.ops.convert_to_numpy(
        quantiles(keras.ops.convert_to_tensor(values), (0.0, probability, 1.0))
    )
    expected = np.quantile(values, [0.0, probability, 1.0], axis=-1).T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
