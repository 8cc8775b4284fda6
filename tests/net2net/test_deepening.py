"""Behaviour of `deepen` and `deepenable`."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import (
    double_precision,
    largest_difference,
    randomise,
    some_inputs,
)

import net2net

L = keras.layers


def dense(activation):
    return keras.Sequential(
        [keras.Input((6,)), L.Dense(4, activation, name="a"), L.Dense(2, name="out")]
    )


def convolution(kind, shape, **settings):
    return keras.Sequential(
        [keras.Input(shape), kind(4, activation="relu", name="a", **settings), L.Dense(2)]
    )


MODELS = {
    "linear": lambda: dense(None),
    "relu": lambda: dense("relu"),
    "relu6": lambda: dense("relu6"),
    "gelu": lambda: dense("gelu"),
    "tanh": lambda: dense("tanh"),
    "leaky_relu": lambda: dense("leaky_relu"),
    "odd_window": lambda: convolution(L.Conv2D, (6, 6, 3), kernel_size=3, strides=2),
    "even_window": lambda: convolution(L.Conv2D, (6, 6, 3), kernel_size=(2, 4)),
    "causal": lambda: convolution(L.Conv1D, (6, 3), kernel_size=3, padding="causal"),
    "volume": lambda: convolution(L.Conv3D, (4, 4, 4, 2), kernel_size=2),
    "transposed": lambda: convolution(L.Conv2DTranspose, (3, 3, 3), kernel_size=3, strides=2),
    "separable": lambda: convolution(L.SeparableConv2D, (6, 6, 3), kernel_size=3),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_the_deeper_model_computes_the_same(name, training):
    with double_precision():
        model = randomise(MODELS[name]())
        deep = net2net.deepen(model, "a")
        assert largest_difference(model, deep, some_inputs(model), training) <= 1e-12
    assert type(deep) is keras.Sequential
    assert [layer.name for layer in deep.layers][:2] == ["a", "a_deeper"]
    assert len(deep.weights) > len(model.weights)


def activated_blocks():
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(4, 3, name="first")(inputs)
    x = L.ReLU(6.0, name="relu")(L.BatchNormalization(name="norm")(x))
    y = L.Conv2D(4, 3, padding="same", name="second")(x)
    x = L.Add(name="sum")([x, L.BatchNormalization(name="other_norm")(y)])
    x = L.Activation("gelu", name="gelu")(L.Dense(4, name="third")(x))
    return randomise(keras.Model(inputs, L.Dense(2, name="out")(x)))


def test_the_block_comes_after_the_normalisation_and_activation():
    found = net2net.deepenable(activated_blocks())
    assert {path: (one.kind, one.after) for path, one in found.items()} == {
        "first": ("identity", "relu"),
        "second": ("identity", "other_norm"),
        "third": ("residual", "gelu"),
        "out": ("", ""),
    }
    assert found["out"].reason == "it is an output of the model"


def test_several_blocks_keep_the_function_and_the_outputs_name():
    model = activated_blocks()
    deep = net2net.grow(model, deepen=["first", "second", "third", "first"])
    assert largest_difference(model, deep, some_inputs(model)) <= 1e-6
    assert deep.output_names == model.output_names
    names = [layer.name for layer in deep.layers]
    assert [n for n in names if "deeper" in n and "activation" not in n] == [
        "first_deeper", "first_deeper_1", "second_deeper", "third_deeper",
    ]  # fmt: skip


def test_a_new_normalisation_takes_its_statistics_from_the_data():
    model = activated_blocks()
    data = some_inputs(model, size=64)
    deep = net2net.deepen(model, "first", batch_norm=True, data=data)
    assert largest_difference(model, deep, data) <= 1e-5
    seen = keras.Model(model.inputs, model.get_layer("relu").output).predict(data, verbose=0)
    norm = deep.get_layer("first_deeper_bn")
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-4)
    kinds = [type(deep.get_layer(f"first_deeper{end}")) for end in ("", "_bn", "_activation")]
    assert kinds == [L.Conv2D, L.BatchNormalization, L.ReLU]


def test_with_the_whole_batch_as_data_training_mode_agrees_too():
    model = randomise(MODELS["even_window"]())
    data = some_inputs(model, size=64)
    deep = net2net.deepen(model, "a", batch_norm=True, data=data)
    assert largest_difference(model, deep, data, training=True) <= 1e-4


def test_a_residual_block_may_have_a_normalisation_without_data():
    model = randomise(dense("tanh"))
    deep = net2net.deepen(model, "a", batch_norm=True)
    assert largest_difference(model, deep, some_inputs(model), training=True) == 0
    assert "a_deeper_bn" in [layer.name for layer in deep.get_layer("a_deeper").layers]


def test_layers_in_nested_and_shared_models_can_be_deepened():
    inner = keras.Sequential(
        [keras.Input((4,)), L.Dense(4, "relu", name="a"), L.Dense(4)], name="in"
    )
    inputs = keras.Input((4,))
    model = randomise(keras.Model(inputs, L.Dense(2)(L.Add()([inner(inputs), inner(inputs)]))))
    deep = net2net.deepen(model, "in/a")
    assert [layer.name for layer in deep.get_layer("in").layers][1] == "a_deeper"
    assert largest_difference(model, deep, some_inputs(model)) <= 1e-6


def test_a_deeper_model_can_be_widened_and_deepened_again():
    model = randomise(dense("relu"))
    deep = net2net.deepen(net2net.deepen(model, "a"), "a")
    wide = net2net.grow(deep, {"a": 7, "a_deeper": 9, "a_deeper_1": 5})
    assert largest_difference(model, wide, some_inputs(model)) <= 1e-6


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("out", "'out' cannot grow: it is an output of the model. Deepen after a layer before"),
        ("relu", "no block is known to follow ReLU"),
        ("frst", "Did you mean 'first'"),
    ],
)
def test_refusals_name_the_layer_and_a_hint(layer, words):
    with pytest.raises(ValueError, match=words):
        net2net.deepen(activated_blocks(), layer)


def test_a_normalisation_without_data_is_refused():
    with pytest.raises(ValueError, match=r"batch_norm=True needs data="):
        net2net.deepen(activated_blocks(), "first", batch_norm=True)


@pytest.mark.slow
def test_new_variables_begin_with_the_layers_mean_second_moment():
    model = dense("relu")
    model.compile("adam", "mse")
    x = some_inputs(model, size=32)
    model.fit(x, x[:, :2], verbose=0)
    deep = net2net.deepen(model, "a")
    kernel = model.optimizer._velocities[0]
    expected = float(np.mean(keras.ops.convert_to_numpy(kernel)))
    ids = [id(v) for v in deep.trainable_variables]
    place = ids.index(id(deep.get_layer("a_deeper").kernel))
    np.testing.assert_allclose(deep.optimizer._velocities[place], expected, rtol=1e-6)
    np.testing.assert_allclose(deep.optimizer._momentums[place], 0.0)
    assert int(deep.optimizer.iterations) == int(model.optimizer.iterations) == 1


def test_a_block_after_a_quantised_layer_is_not_quantised():
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu", name="a"), L.Dense(2)])
    model.get_layer("a").quantize("int8")
    deep = net2net.deepen(model, "a")
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    np.testing.assert_allclose(model(x), deep(x), rtol=1e-5, atol=1e-6)


def levels(activation):
    """A head that is called with images of two sizes, as detectors have it."""
    inputs = keras.Input((8, 8, 3))
    fine = L.Conv2D(4, 3, 2, padding="same")(inputs)
    coarse = L.Conv2D(4, 3, 2, padding="same")(fine)
    head = L.Conv2D(4, 3, padding="same", activation=activation, name="head")
    out = L.Conv2D(2, 1, name="out")
    flat = [L.Reshape((-1, 2))(out(head(one))) for one in (fine, coarse)]
    return keras.Model(inputs, L.Concatenate(axis=1)(flat))


@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_a_block_follows_a_layer_that_is_called_with_several_sizes(activation):
    model = levels(activation)
    deep = net2net.deepen(model, "head")
    assert largest_difference(model, deep, some_inputs(model)) <= 1e-6


def test_a_shared_layer_is_not_deepened_where_one_of_its_calls_is_an_output():
    first, second = keras.Input((4,)), keras.Input((4,))
    shared = L.Dense(4, name="shared")
    model = keras.Model([first, second], [L.Dense(2)(shared(first)), shared(second)])
    assert net2net.deepenable(model)["shared"].reason == "it is an output of the model"
    with pytest.raises(net2net.UnsupportedLayerError, match=r"it is an output of the model"):
        net2net.deepen(model, "shared")


def test_a_layer_called_with_several_ranks_is_not_deepened():
    first, second = keras.Input((4,)), keras.Input((5, 4))
    shared = L.Dense(4, "gelu", name="shared")
    outputs = [L.Dense(2)(shared(one)) for one in (first, second)]
    with pytest.raises(net2net.UnsupportedLayerError, match=r"inputs of different ranks"):
        net2net.deepen(keras.Model([first, second], outputs), "shared")


def test_a_block_takes_an_activation_layer_with_a_function_of_ones_own():
    def bent(values):
        return keras.ops.tanh(values) * 1.5

    layers = [L.Dense(4, name="a"), L.Activation(bent, name="bend"), L.Dense(2)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    deep = net2net.deepen(model, "a")
    assert largest_difference(model, deep, some_inputs(model)) <= 1e-6
    inner = deep.get_layer("a_deeper").get_layer("a_deeper_activation")
    assert inner.activation is bent
    assert model.get_layer("bend").name == "bend"
