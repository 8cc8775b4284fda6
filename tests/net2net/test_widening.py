"""Behaviour of `widen`, `grow` and `widenable`."""

import random

import keras
import numpy as np
import pytest
from helpers.net2net_cases import largest_difference, outputs, randomise, some_inputs

import net2net

L = keras.layers


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights]


@pytest.fixture
def model():
    return randomise(
        keras.Sequential(
            [
                keras.Input((6,)),
                L.Dense(4, "relu", name="first"),
                L.Dense(5, "relu", name="second"),
                L.Dense(3, "softmax", name="last"),
            ]
        )
    )


def test_hand_worked_dense_pair():
    """One unit of value w, copied: incoming w twice, outgoing v split into shares of v."""
    model = keras.Sequential([keras.Input((1,)), L.Dense(1, name="a"), L.Dense(1, name="b")])
    model.set_weights([np.array([[2.0]]), np.array([3.0]), np.array([[5.0]]), np.array([7.0])])
    kernel, bias, out, last = values(net2net.widen(model, "a", 2))
    assert kernel.tolist() == [[2.0, 2.0]]
    assert bias.tolist() == [3.0, 3.0]
    assert out.sum() == pytest.approx(5.0)
    assert out[0] != out[1]
    assert last.tolist() == [7.0]


def test_a_layer_may_be_named_indexed_or_handed_in(model):
    for which in ("first", 0, -3, model.layers[0], np.int64(0)):
        assert net2net.widen(model, which, 6).layers[0].units == 6


def test_the_same_seed_gives_the_same_model_and_another_another(model):
    one, same, other = (net2net.widen(model, "first", 9, seed=seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(values(one), values(same), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(values(one), values(other), strict=True))


def test_no_global_generator_is_touched(model):
    inner = keras.Sequential([model, L.Dropout(0.5), L.Dense(2, name="more"), L.Dense(2)])
    inner.build((None, 6))
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    net2net.grow(inner, {"more": 4}, deepen=["more"])
    assert (random.random(), np.random.random()) == expected


def test_many_layers_grow_at_once_and_keep_the_function(model):
    big = net2net.grow(model, {"first": 7, "second": 9}, deepen=["second"])
    assert [layer.units for layer in big.layers] == [7, 9, 9, 3]
    assert largest_difference(model, big, some_inputs(model)) <= 1e-6


def test_growing_twice_is_growing_once(model):
    assert largest_difference(
        net2net.widen(net2net.widen(model, "first", 6), "first", 9), model, some_inputs(model)
    ) <= 1e-6  # fmt: skip


def test_layers_of_one_group_need_naming_once_and_must_agree():
    inputs = keras.Input((6,))
    x = L.Dense(4, name="a")(inputs)
    x = L.Add()([x, L.Dense(4, name="b")(x)])
    model = keras.Model(inputs, L.Dense(2)(x))
    big = net2net.grow(model, {"a": 6, "b": 6})
    assert (big.get_layer("a").units, big.get_layer("b").units) == (6, 6)
    with pytest.raises(ValueError, match=r"'a' was to get 6 units, but another layer"):
        net2net.grow(model, {"a": 6, "b": 7})


def test_both_parts_of_a_concatenation_grow_at_once():
    inputs = keras.Input((6,))
    parts = [L.Dense(3, name="a")(inputs), L.Dense(4, name="b")(inputs)]
    model = randomise(keras.Model(inputs, L.Dense(2)(L.Concatenate()(parts))))
    big = net2net.grow(model, {"a": 5, "b": 7})
    assert largest_difference(model, big, some_inputs(model)) <= 1e-6


def test_noise_is_on_the_outgoing_weights_of_new_units_alone(model):
    plain = net2net.widen(model, "first", 6, seed=2)
    noisy = net2net.widen(model, "first", 6, seed=2, noise=0.1)
    same = [np.array_equal(a, b) for a, b in zip(values(plain), values(noisy), strict=True)]
    assert same == [True, True, False, True, True, True]
    difference = np.abs(values(plain)[2] - values(noisy)[2])
    assert np.all(difference[:4] == 0)
    assert np.all(difference[4:] > 0)


def test_zero_out_draws_incoming_weights_and_zeroes_outgoing_ones(model):
    wide = net2net.widen(model, "first", 6, new="zero_out")
    assert largest_difference(model, wide, some_inputs(model)) <= 1e-6
    kernel, _, out = values(wide)[:3]
    assert np.array_equal(kernel[:, :4], values(model)[0])
    assert len(set(kernel[:, 4:].ravel())) == 12
    assert np.all(out[4:] == 0)


def test_random_changes_the_function_but_not_the_old_weights(model):
    wide = net2net.widen(model, "first", 6, new="random")
    assert largest_difference(model, wide, some_inputs(model)) > 1e-3
    kernel, _, out = values(wide)[:3]
    assert np.array_equal(kernel[:, :4], values(model)[0])
    assert np.array_equal(out[:4], values(model)[2])
    assert np.all(out[4:] != 0)


def test_zero_out_is_refused_before_a_normalisation_of_channels():
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(4, name="a"), L.LayerNormalization(), L.Dense(2)]
    )
    with pytest.raises(net2net.UnsupportedLayerError, match=r"normalisation"):
        net2net.widen(model, "a", 8, new="zero_out")


def test_a_model_of_a_class_of_its_own_keeps_it():
    class Mine(keras.Model):
        pass

    inputs = keras.Input((6,))
    model = Mine(inputs, L.Dense(2)(L.Dense(4, name="a")(inputs)), name="mine")
    wide = net2net.widen(model, "a", 6)
    assert type(wide) is Mine
    assert wide.name == "mine"


def test_dictionaries_of_inputs_and_outputs_are_kept():
    inputs = {"left": keras.Input((3,), name="left"), "right": keras.Input((4,), name="right")}
    x = L.Dense(4, name="a")(L.Concatenate()([inputs["left"], inputs["right"]]))
    model = keras.Model(inputs, {"out": L.Dense(2)(x)})
    wide = net2net.widen(model, "a", 6)
    data = {"left": np.ones((2, 3)), "right": np.ones((2, 4))}
    np.testing.assert_allclose(model(data)["out"], wide(data)["out"], rtol=1e-5)


def test_frozen_layers_stay_frozen():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4), L.BatchNormalization()])
    inner.trainable = False
    model = keras.Sequential([keras.Input((6,)), L.Dense(4, name="a"), inner, L.Dense(2)])
    wide = net2net.widen(model, "a", 6)
    assert [v.path for v in wide.trainable_variables] == [v.path for v in model.trainable_variables]
    x = some_inputs(model)
    assert largest_difference(model, wide, x, training=True) <= 1e-6


def test_functions_of_the_users_own_need_no_registration():
    def twice(x):
        return 2 * x

    def own_loss(target, output):
        return keras.ops.mean(keras.ops.abs(target - output))

    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(4, twice, name="a"), L.Lambda(lambda x: x), L.Dense(2)]
    )
    net2net.register_rule(L.Lambda, net2net.ElementwiseRule())
    model.compile("sgd", own_loss)
    wide = net2net.widen(model, "a", 6)
    assert largest_difference(model, wide, some_inputs(model)) <= 1e-6
    assert wide.loss is own_loss


def test_a_layer_of_another_package_can_be_given_a_rule():
    class Doubled(L.Layer):
        def call(self, inputs):
            return 2 * inputs

    model = keras.Sequential([keras.Input((6,)), L.Dense(4, name="a"), Doubled(), L.Dense(2)])
    with pytest.raises(net2net.UnsupportedLayerError, match=r"register_rule"):
        net2net.widen(model, "a", 6)
    net2net.register_rule(Doubled, net2net.ElementwiseRule())
    assert largest_difference(model, net2net.widen(model, "a", 6), some_inputs(model)) <= 1e-6


def test_regularised_layers_warn_that_the_penalty_changes():
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(4, kernel_regularizer="l2", name="a"), L.Dense(2)]
    )
    with pytest.warns(UserWarning, match=r"regularisers or constraints of a see"):
        wide = net2net.widen(model, "a", 6)
    assert wide.get_layer("a").kernel_regularizer is not None


def test_widenable_says_step_group_and_reason():
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, name="stem")(inputs)
    x = L.GroupNormalization(2, name="norm")(x)
    x = L.Add(name="sum")([x, L.Conv2D(4, 1, name="side")(x)])
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, L.Dense(2, "softmax", name="out")(x))
    found = net2net.widenable(model)
    assert list(found) == ["stem", "side", "out"]
    assert found["stem"].step == 2
    assert found["stem"].group == ("stem", "side")
    assert not found["out"]
    assert found["out"].reason == "its channels are those of the model's output 'out'"


def test_the_results_old_names_warn_and_lead_to_the_new_ones(model):
    width, depth = net2net.widenable(model)["last"], net2net.deepenable(model)["last"]
    with pytest.warns(DeprecationWarning, match=r"Width.stream is now `group`"):
        assert width.stream == width.group
    for one in (width, depth):
        with pytest.warns(DeprecationWarning, match=r"obstacle is now `reason`"):
            assert one.obstacle == one.reason


def test_the_grown_models_outputs_have_their_old_sizes(model):
    wide = net2net.widen(model, "second", 11)
    assert [one.shape for one in outputs(wide, some_inputs(model))] == [(4, 3)]
