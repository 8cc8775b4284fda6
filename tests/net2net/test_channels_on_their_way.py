"""Ways of channels that real models have: masks, operations, one channel, own activations."""

import keras
import pytest
from helpers.net2net_cases import largest_difference, randomise, sequential, some_inputs

import net2net

L = keras.layers
ops = keras.ops
Refused = net2net.UnsupportedLayerError


def grown_alike(model, layer, units, words=0):
    randomise(model)
    wide = net2net.widen(model, layer, units)
    assert largest_difference(model, wide, some_inputs(model, words)) <= 1e-5
    return wide


def test_one_channel_before_flatten_grows():
    model = sequential(
        L.Conv2D(1, 1, activation="relu", name="value"), L.Flatten(), L.Dense(2), shape=(3, 3, 2)
    )
    assert net2net.widenable(model)["value"].step == 1
    assert tuple(grown_alike(model, "value", 3).layers[2].kernel.shape) == (27, 2)


def test_a_layer_on_a_made_axis_of_one_channel_grows_alone():
    model = sequential(
        L.Dense(6, name="t"), L.Reshape((6, 1)), L.Dense(1, "relu", name="a"), L.Flatten(),
        L.Dense(2),
    )  # fmt: skip
    found = net2net.widenable(model)
    assert found["a"].group == ("a",)
    assert found["t"].group == ("t",)
    grown_alike(model, "a", 3)
    grown_alike(model, "t", 8)


def test_an_activation_that_permutes_axes_and_back_is_tried_on_numbers():
    def there_and_back(x):
        return ops.transpose(ops.tanh(ops.transpose(x, (0, 3, 1, 2))), (0, 2, 3, 1))

    model = sequential(
        L.Conv2D(4, 3, activation=there_and_back, name="a"), L.Conv2D(2, 1), shape=(6, 6, 3)
    )
    grown_alike(model, "a", 6)


@pytest.mark.parametrize(
    "activation", [lambda: L.Activation("softmax"), lambda: L.Softmax(), lambda: "softmax"]
)
def test_a_softmax_in_any_form_is_refused(activation):
    model = sequential(L.Dense(4, activation=activation(), name="a"), L.Dense(2))
    with pytest.raises(Refused, match=r"mixes the channels"):
        net2net.widen(model, "a", 6)


def test_an_activation_that_fails_on_a_small_array_is_refused_by_name():
    def picky(x):
        if isinstance(x, keras.KerasTensor) or x.shape[-1] == 4:
            return x
        raise ValueError("four")

    model = sequential(L.Dense(4, picky, name="a"), L.Dense(2))
    found = net2net.widenable(model)["a"]
    assert not found
    assert "'picky' cannot be tried" in found.reason


def test_a_model_in_time_distributed_is_reported_with_a_reason():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    model = sequential(
        L.TimeDistributed(inner, name="td"), L.GRU(3, name="gru"), L.Dense(2), shape=(5, 4)
    )
    found = net2net.widenable(model)
    assert not found["td"]
    assert "Sequential" in found["td"].reason
    assert found["gru"]


def test_masked_embeddings_that_are_concatenated_grow():
    one, other = keras.Input((6,), dtype="int32"), keras.Input((6,), dtype="int32")
    words = L.Embedding(9, 4, mask_zero=True, name="word")(one)
    tags = L.Embedding(9, 3, mask_zero=True, name="tag")(other)
    model = keras.Model([one, other], L.Dense(2)(L.LSTM(3)(L.Concatenate()([words, tags]))))
    grown_alike(model, "word", 6, words=9)
    grown_alike(model, "tag", 5, words=9)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_a_nested_model_behind_a_mask_grows():
    inputs = keras.Input((6,), dtype="int32")
    x = L.Embedding(9, 4, mask_zero=True, name="word")(inputs)
    inner = keras.Sequential([L.Dense(5, "relu", name="inside"), L.Dense(4)], name="inner")
    x = L.Add()([x, inner(x)])
    model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))
    grown_alike(model, "word", 6, words=9)
    grown_alike(model, "inner/inside", 7, words=9)
    assert net2net.deepen(model, "inner/inside") is not None


def test_blocks_after_one_layer_can_follow_one_another():
    for activation in ("gelu", "relu"):
        model = sequential(L.Dense(4, activation, name="a"), L.Dense(2))
        deep = net2net.deepen(net2net.deepen(net2net.deepen(model, "a"), "a"), "a")
        assert largest_difference(model, deep, some_inputs(model)) <= 1e-6


SEQUENCES = {
    "split": lambda x: (lambda one, two: one * ops.sigmoid(two))(*ops.split(x, 2, axis=-1)),
    "stack": lambda x: ops.mean(ops.stack([x, x * 2], axis=1), axis=1),
    "last_step": lambda x: x[:, -1],
    "new_axis": lambda x: ops.squeeze(x[:, None, ...], axis=1),
    "expand": lambda x: ops.squeeze(ops.expand_dims(x, -1), -1),
    "transpose": lambda x: ops.swapaxes(ops.transpose(x, (0, 2, 1)), 1, 2),
    "moveaxis": lambda x: ops.moveaxis(ops.moveaxis(x, -1, 1), 1, -1),
    "concatenate": lambda x: ops.concatenate([x, ops.relu(x)], axis=-1),
    "matmul": lambda x: ops.matmul(ops.transpose(L.Dense(3)(x), (0, 2, 1)), x),
    "einsum": lambda x: ops.einsum("bti,btj->bij", L.Dense(3)(x), x),
    "sum_of_places": lambda x: ops.sum(x, axis=1),
    "where": lambda x: ops.where(x > 0, x, 0.1 * x),
    "reshape": lambda x: ops.reshape(x, (-1, 5, 2, 4)),
    "rsqrt": lambda x: ops.rsqrt(1.0 + ops.square(x)),
    "cast": lambda x: ops.cast(x, "float32"),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_operations_pass_channels(name):
    inputs = keras.Input((5, 6))
    x = SEQUENCES[name](L.Dense(8, name="a")(inputs))
    grown_alike(keras.Model(inputs, L.Dense(2)(x)), "a", 12)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sum", "adds up the channels"),
        ("part", "takes some of the channels"),
        ("gram", "adds up products of the channels"),
        ("normalize", "sees how many channels"),
        ("softmax", "softmax divides"),
    ],
)
def test_operations_that_see_the_number_of_channels_are_refused(name, words):
    made = {
        "sum": lambda x: ops.sum(x, axis=-1, keepdims=True),
        "part": lambda x: x[..., :3],
        "gram": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
        "normalize": lambda x: ops.normalize(x, axis=-1),
        "softmax": lambda x: ops.softmax(x, axis=-1),
    }
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, L.Dense(2)(made[name](L.Dense(8, name="a")(inputs))))
    found = net2net.widenable(model)["a"]
    assert not found
    assert words in found.reason


def test_the_two_towers_of_a_recommender_grow_behind_their_product():
    user, item = keras.Input((4,)), keras.Input((3,))
    one = L.Dense(5, name="out_one")(L.Dense(4, "relu", name="user")(user))
    two = L.Dense(5, name="out_two")(L.Dense(4, "relu", name="item")(item))
    model = keras.Model([user, item], L.Dot(axes=1)([one, two]))
    found = net2net.widenable(model)
    assert found["user"]
    assert found["item"]
    assert "adds up products" in found["out_one"].reason
    grown_alike(model, "user", 7)


def test_grouped_attention_keeps_values_as_wide_as_queries():
    inputs = keras.Input((5, 6))
    query, value = L.Dense(6, name="q")(inputs), L.Dense(6, name="v")(inputs)
    key = L.Dense(4, name="k")(inputs)
    x = L.GroupQueryAttention(3, 4, 2)(query, value, key)
    model = keras.Model(inputs, L.Dense(2)(x))
    found = net2net.widenable(model)
    assert found["q"].group == found["v"].group == ("q", "v")
    assert found["k"].group == ("k",)
    for name in "qvk":
        assert largest_difference(model, net2net.widen(model, name, 9), some_inputs(model)) <= 1e-6
    model = keras.Model(inputs, L.Dense(2)(L.GroupQueryAttention(3, 4, 2)(query, inputs)))
    assert "the model's input" in net2net.widenable(model)["q"].reason
