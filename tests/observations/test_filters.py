import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_qan.observations import weight_statistics
from keras_qan.observations.weight_statistics import NUM_FEATURES, kernel_features

SHAPES = st.one_of(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),  # Dense
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),  # Conv1D
    st.tuples(*[st.integers(1, 3)] * 2, st.integers(1, 4), st.integers(1, 4)),  # Conv2D
    st.tuples(*[st.integers(1, 2)] * 3, st.integers(1, 3), st.integers(1, 3)),  # Conv3D
)


def features(kernel):
    """The 192 numbers of an array or of a tensor, on the host."""
    found = kernel_features(keras.ops.convert_to_tensor(kernel))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    return found


def eager(kernel):
    """The same 192 numbers without compiling them for the kernel's shape."""
    tensor = keras.ops.convert_to_tensor(kernel)
    return keras.ops.convert_to_numpy(weight_statistics._kernel_features.__wrapped__(tensor))


def g(values):
    values = np.asarray(values, np.float64).reshape(-1)
    central = [np.mean((values - values.mean()) ** p) for p in range(2, 6)]
    varies = len(values) > 1 and values.std() > 1e-6 * np.abs(values).max()
    shape = [stats.skew(values), stats.kurtosis(values)] if varies else [0.0, 0.0]
    quartiles = np.quantile(values, [0.25, 0.5, 0.75])
    return np.array([values.mean(), *quartiles, values.std(), *shape, 0.0, *central])


def h(descriptions):
    statistics = [np.mean, np.median, np.std, np.max, np.min]
    return np.concatenate([statistic(np.stack(descriptions), axis=0) for statistic in statistics])


def reference(kernel):
    """Equations 5 to 8, set by set, as the paper writes them."""
    inputs, outputs = range(kernel.shape[-2]), range(kernel.shape[-1])
    rows = [g(kernel[..., i, :]) for i in inputs]
    columns = [g(kernel[..., :, j]) for j in outputs]
    singles = [g(kernel[..., i, j]) for i in inputs for j in outputs]
    return np.concatenate([g(kernel), h(rows), h(columns), h(singles)])


@pytest.mark.slow
@settings(max_examples=40)
@given(SHAPES, st.integers(0, 10_000))
def test_features_equal_equations_5_to_8_whatever_the_kernel(shape, seed):
    kernel = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    found = eager(kernel)
    assert found.shape == (192,)
    np.testing.assert_allclose(found, reference(kernel), rtol=2e-3, atol=2e-4)


@pytest.mark.slow
@given(SHAPES, st.integers(0, 10_000))
def test_features_ignore_the_order_of_inputs_and_outputs(shape, seed):
    generator = np.random.default_rng(seed)
    kernel = generator.normal(size=shape).astype(np.float32)
    inputs, outputs = generator.permutation(shape[-2]), generator.permutation(shape[-1])
    shuffled = kernel[..., inputs, :][..., outputs]
    np.testing.assert_allclose(
        eager(shuffled),
        eager(kernel),
        rtol=1e-3,
        atol=1e-5,
    )


def test_features_tell_kernels_apart_that_differ_in_more_than_order():
    # The same weights, dealt to other filters: g of the whole is the same, its rows are not.
    kernel = np.arange(18.0, dtype=np.float32).reshape(3, 3, 1, 2)
    dealt = kernel.reshape(3, 3, 2, 1)
    found, other = (features(k) for k in (kernel, dealt))
    np.testing.assert_allclose(found[:12], other[:12], rtol=1e-5)
    assert np.abs(found[12:72] - other[12:72]).max() > 0.1


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e6])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (1, 1, 2, 3), (3, 3, 2, 4)])
def test_features_are_finite_for_constant_tiny_and_large_kernels(shape, scale):
    varied = scale * np.random.default_rng(0).normal(size=shape)
    for kernel in (np.full(shape, scale), varied):
        assert np.isfinite(features(kernel.astype(np.float32))).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.Dense(3), (None, 5)),
        (keras.layers.Conv1D(4, 3), (None, 9, 2)),
        (keras.layers.Conv2D(4, 1), (None, 9, 9, 2)),
        (keras.layers.Conv3D(2, 2), (None, 4, 4, 4, 1)),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (None, 9, 9, 3)),
        (keras.layers.LSTM(3), (None, 4, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_layer_has_192_features(layer, shape):
    layer.build(shape)
    kernel = next(v for v in layer.trainable_variables if v.name.endswith("kernel"))
    # Few numbers: a random draw may have a variance near zero, where float32 has no third moment.
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    found = features(kernel.value)
    assert found.shape == (NUM_FEATURES,) == (192,)
    np.testing.assert_allclose(found, reference(np.asarray(kernel)), rtol=2e-3, atol=2e-4)


def test_features_follow_the_weights_and_are_traced_once_for_a_shape(monkeypatch):
    traced = []

    def noting(blocks):
        traced.append(tuple(blocks.shape))
        return weight_statistics.pool(keras.ops.reshape(blocks, [-1, 12]))

    monkeypatch.setattr(weight_statistics, "_pool_single_kernels", noting)
    shape = (7, 3, 4, 3)  # of no other test
    for value in (1.0, 2.0, 3.0):
        kernel = keras.Variable(np.full(shape, value, np.float32))
        assert features(kernel.value)[0] == value
    assert traced == [(21, 4, 3)]


@pytest.mark.parametrize("shape", [(), (4,)])
def test_what_is_no_kernel_is_refused(shape):
    with pytest.raises(ValueError, match=r"at least two axes.*Watch a Dense or convolution"):
        kernel_features(keras.ops.zeros(shape))
