"""Copies of residual blocks pass their input on at first, and are trained from there."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import largest_difference, randomise, some_inputs

import net2net

L = keras.layers
Refused = net2net.UnsupportedLayerError


def transformer(blocks=2):
    inputs = keras.Input((5,), dtype="int32")
    x = L.Embedding(11, 8, name="words")(inputs)
    for k in range(blocks):
        y = L.LayerNormalization(name=f"norm{k}")(x)
        x = L.Add()([x, L.MultiHeadAttention(2, 4, name=f"attention{k}")(y, y)])
        y = L.Dense(16, "gelu")(L.RMSNormalization()(x))
        x = L.Add(name=f"sum{k}")([x, L.Dropout(0.1)(L.Dense(8, name=f"down{k}")(y))])
    model = keras.Model(inputs, L.Dense(3)(x))
    model.compile("adam", "mse", run_eagerly=True)
    return randomise(model)


def resnet(normalised=True):
    inputs = keras.Input((6, 6, 3))
    x = L.ReLU(name="stem")(L.Conv2D(4, 3, padding="same")(inputs))
    for k in range(2):
        y = L.Conv2D(4, 3, padding="same", name=f"first{k}")(x)
        y = L.Conv2D(4, 3, padding="same")(L.ReLU()(L.BatchNormalization()(y)))
        y = L.BatchNormalization()(y) if normalised else y
        x = L.ReLU(name=f"last{k}")(L.Add()([x, y]))
    return randomise(keras.Model(inputs, L.Dense(2)(x)))


@pytest.mark.slow
def test_a_range_of_transformer_blocks_is_copied_in_one_call_and_trains():
    model = transformer()
    deep = net2net.copy_blocks(model, [("norm0", "sum0"), ("norm1", "sum1")])
    x = some_inputs(model, words=11)
    assert largest_difference(model, deep, x) <= 1e-6
    assert largest_difference(model, deep, x, training=False) <= 1e-6
    each = (model.count_params() - 11 * 8 - 9 * 3) // 2
    assert deep.count_params() == model.count_params() + 2 * each
    copy = deep.get_layer("sum0_copy")
    assert not np.any(keras.ops.convert_to_numpy(copy.get_layer("down0").kernel))
    np.testing.assert_array_equal(copy.get_layer("norm0").gamma, model.get_layer("norm0").gamma)
    before = np.array(copy.get_layer("down0").kernel)
    deep.train_on_batch(x, np.ones((4, 5, 3), "float32"))
    assert np.any(before != np.array(copy.get_layer("down0").kernel))


@pytest.mark.parametrize("normalised", [True, False])
def test_blocks_with_an_activation_after_the_sum_are_copied(normalised):
    model = resnet(normalised)
    deep = net2net.copy_blocks(model, [("first1", "last1")])
    for training in (False, True):
        assert largest_difference(model, deep, some_inputs(model), training) <= 1e-6
    again = net2net.copy_blocks(deep, ["last1_copy", ("first1", "last1")])
    assert largest_difference(model, again, some_inputs(model)) <= 1e-6
    assert again.get_layer("last1_copy_1") is not None


def test_a_nested_model_is_a_block():
    inner_inputs = keras.Input((4,))
    y = L.Dense(4, name="mix")(L.Dense(6, "gelu")(inner_inputs))
    inner = keras.Model(inner_inputs, inner_inputs + y, name="block")
    inputs = keras.Input((4,))
    model = randomise(keras.Model(inputs, L.Dense(2)(inner(inputs))))
    deep = net2net.copy_blocks(model, ["block"])
    assert largest_difference(model, deep, some_inputs(model)) <= 1e-6
    assert np.any(keras.ops.convert_to_numpy(deep.get_layer("block").get_layer("mix").kernel))


def test_slots_go_on_and_those_of_copies_start_with_the_originals_second_moments():
    model = transformer()
    x = some_inputs(model, words=11)
    model.train_on_batch(x, np.ones((4, 5, 3), "float32"))
    deep = net2net.copy_blocks(model, [("norm0", "sum0")])

    def slot(one, variable):
        return np.array(one.optimizer._velocities[one.optimizer._get_variable_index(variable)])

    old = slot(model, model.get_layer("down0").kernel)
    np.testing.assert_allclose(slot(deep, deep.get_layer("down0").kernel), old)
    copied = deep.get_layer("sum0_copy").get_layer("down0").kernel
    np.testing.assert_allclose(slot(deep, copied), old.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (("words", "norm0"), "not residual"),
        (("attention0", "sum0"), "other tensors enter|not residual"),
    ],
)
def test_blocks_that_are_not_residual_are_refused(block, words):
    with pytest.raises(Refused, match=words):
        net2net.copy_blocks(transformer(), [block])


def test_a_normalisation_after_the_sum_is_refused():
    inputs = keras.Input((4,))
    x = L.Dense(4, name="start")(inputs)
    x = L.LayerNormalization(name="end")(x + L.Dense(4, name="mix")(x))
    model = keras.Model(inputs, L.Dense(2)(x))
    with pytest.raises(Refused, match=r"not residual"):
        net2net.copy_blocks(model, [("mix", "end")])


def test_a_block_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"no layer 'norm7'"):
        net2net.copy_blocks(transformer(), [("norm7", "sum0")])
    with pytest.raises(ValueError, match=r"'sum1' is one layer.*first and last"):
        net2net.copy_blocks(transformer(), ["sum1"])


def test_what_is_frozen_in_a_block_is_frozen_in_its_copy():
    inputs = keras.Input((5, 4))
    distributed = L.TimeDistributed(L.BatchNormalization(name="norm"), name="each")
    y = L.Dense(4, name="last")(distributed(inputs))
    model = keras.Model(inputs, L.Dense(2)(L.Add(name="sum")([inputs, y])))
    distributed.layer.trainable = False
    model.get_layer("last").bias.trainable = False
    copy = net2net.copy_blocks(model, [("each", "sum")]).get_layer("sum_copy")
    assert not copy.get_layer("each").layer.trainable
    assert [v.trainable for v in copy.get_layer("last").variables] == [True, False]
