"""Bad input: every refusal names the layer and the reason, and gives a hint."""

import keras
import numpy as np
import pytest

import net2net

L = keras.layers
Refused = net2net.UnsupportedLayerError


def chain(*layers, shape=(6,)):
    return keras.Sequential([keras.Input(shape, name="data"), *layers])


@pytest.fixture
def model():
    return chain(L.Dense(4, name="hidden"), L.ReLU(name="relu"), L.Dense(2, name="out"))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("hiden", r"no layer 'hiden'. Did you mean 'hidden'\?"),
        ("zzz", "no layer 'zzz'. Its layers are hidden, relu, out"),
        (7, "no.* at index 7"),
        ("data", "'data' is an input.*Widen a layer after it"),
        (L.Dense(3, name="other"), "'other' is not part of"),
    ],
)
def test_layers_that_are_not_there(model, layer, words):
    with pytest.raises(ValueError, match=words):
        net2net.widen(model, layer, 8)


@pytest.mark.parametrize("units", [4, 3, 0, -1, 5.0, True, "8"])
def test_widths_that_are_not_larger(model, units):
    with pytest.raises(ValueError, match=r"'hidden' has 4 units"):
        net2net.widen(model, "hidden", units)


def test_an_output_layer(model):
    with pytest.raises(Refused, match=r"'out'.*model's output 'out'.*Widen a layer before"):
        net2net.widen(model, "out", 8)


def test_a_layer_without_a_width(model):
    with pytest.raises(Refused, match=r"'relu'.*no width of its own.*Widen the layer that makes"):
        net2net.widen(model, "relu", 8)


def test_a_subclassed_model():
    class Mine(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(Refused, match=r"subclassed.*Functional"):
        net2net.widen(Mine(), "a", 8)


def test_a_model_that_is_not_built():
    with pytest.raises(ValueError, match=r"not built"):
        net2net.widen(keras.Sequential([L.Dense(3, name="a"), L.Dense(2)]), "a", 8)


def test_something_that_is_no_model():
    with pytest.raises(ValueError, match=r"Expected a Keras model"):
        net2net.widen([1, 2], "a", 8)


def test_a_layer_without_a_rule():
    class Strange(L.Layer):
        def call(self, inputs):
            return inputs[:, ::-1]

    model = chain(L.Dense(4, name="a"), Strange(name="odd"), L.Dense(2))
    with pytest.raises(Refused, match=r"'a' cannot grow: at 'odd'.*register_rule\(Strange"):
        net2net.widen(model, "a", 8)


def test_a_softmax_between():
    with pytest.raises(Refused, match=r"'a'.*softmax"):
        net2net.widen(chain(L.Dense(4, "softmax", name="a"), L.Dense(2)), "a", 8)
    with pytest.raises(Refused, match=r"at 'soft', softmax divides"):
        net2net.widen(chain(L.Dense(4, name="a"), L.Softmax(name="soft"), L.Dense(2)), "a", 8)


def test_an_activation_of_the_users_own_that_mixes_channels():
    def centred(x):
        return x - keras.ops.mean(x, axis=-1, keepdims=True)

    with pytest.raises(Refused, match=r"activation 'centred' mixes the channels"):
        net2net.widen(chain(L.Dense(4, centred, name="a"), L.Dense(2)), "a", 8)


def test_a_width_that_a_normalisation_does_not_allow():
    model = chain(L.Dense(4, name="a"), L.LayerNormalization(), L.Dense(2))
    with pytest.raises(Refused, match=r"multiples of 4.*Ask for 8, 12"):
        net2net.widen(model, "a", 7)


def test_a_unit_normalisation():
    model = chain(L.Dense(4, name="a"), L.UnitNormalization(), L.Dense(2))
    with pytest.raises(Refused, match=r"UnitNormalization"):
        net2net.widen(model, "a", 8)


def test_a_residual_sum_with_the_input():
    inputs = keras.Input((6,), name="data")
    x = L.Add()([inputs, L.Dense(6, name="a")(inputs)])
    with pytest.raises(Refused, match=r"'a'.*model's input 'data'"):
        net2net.widen(keras.Model(inputs, L.Dense(2)(x)), "a", 8)


def test_a_shared_layer_with_uneven_consumers():
    one, other = keras.Input((4,), name="one"), keras.Input((6,), name="other")
    shared = L.Dense(3, name="shared")
    x = L.Dense(6, name="a")(one)
    model = keras.Model([one, other], [shared(x), shared(other)])
    with pytest.raises(Refused, match=r"'a'.*model's input 'other'"):
        net2net.widen(model, "a", 8)


def test_channels_torn_apart_by_a_reshape():
    model = chain(L.Conv1D(4, 1, name="a"), L.Reshape((4, 6)), L.Dense(2), shape=(6, 3))
    with pytest.raises(Refused, match=r"torn apart"):
        net2net.widen(model, "a", 8)


def test_a_nested_model_by_its_own_name(model):
    outer = chain(model, L.Dense(2))
    with pytest.raises(ValueError, match=r"nested model.*/hidden"):
        net2net.widen(outer, model.name, 8)


def test_one_name_in_two_nested_models():
    def inner(name):
        return keras.Sequential([keras.Input((4,)), L.Dense(4, name="same"), L.Dense(4)], name=name)

    model = chain(L.Dense(4), inner("left"), inner("right"), L.Dense(2))
    with pytest.raises(ValueError, match=r"several layers named 'same'.*left/same, right/same"):
        net2net.widen(model, "same", 8)
    assert net2net.widen(model, "right/same", 8).get_layer("right").get_layer("same").units == 8


def test_settings_that_do_not_exist(model):
    with pytest.raises(ValueError, match=r"Expected new to be one of"):
        net2net.widen(model, "hidden", 8, new="teacher")
    with pytest.raises(ValueError, match=r"Expected noise to be 0 or more"):
        net2net.widen(model, "hidden", 8, noise=-1.0)
    with pytest.raises(ValueError, match=r"not compiled"):
        net2net.widen(model, "hidden", 8, learning_rate=0.1)


def test_rules_are_registered_for_classes_with_instances():
    with pytest.raises(TypeError, match=r"Expected a layer class"):
        net2net.register_rule(L.Dense(3), net2net.ElementwiseRule())
    with pytest.raises(TypeError, match=r"Expected an instance of `net2net.Rule`"):
        net2net.register_rule(L.Lambda, net2net.ElementwiseRule)


def test_a_rule_that_forgets_a_weight():
    class Scaled(L.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), name="scale")

        def call(self, inputs):
            return self.scale * inputs

    net2net.register_rule(Scaled, net2net.ElementwiseRule())
    model = chain(L.Dense(4, name="a"), Scaled(name="scaled"), L.Dense(2))
    with pytest.raises(Refused, match=r"scaled' cannot grow.*weight 'scale' becomes \(4,\)"):
        net2net.widen(model, "a", 8)


def test_when_one_of_several_layers_cannot_grow_nothing_does(model):
    before = [np.array(v) for v in model.get_weights()]
    with pytest.raises(Refused):
        net2net.grow(model, {"hidden": 8, "out": 4})
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.get_layer("hidden").units == 4


def test_a_size_of_heads_that_is_not_there():
    inputs = keras.Input((3, 4))
    attention = L.MultiHeadAttention(2, 3, name="attention")
    model = keras.Model(inputs, L.Dense(2)(attention(inputs, inputs)))
    with pytest.raises(ValueError, match=r"no width 'size' inside. It has key_dim, value_dim"):
        net2net.widen(model, "attention/size", 8)
    with pytest.raises(ValueError, match=r"'attention/key_dim' has 3 units and was to get 2"):
        net2net.widen(model, "attention/key_dim", 2)


def test_keys_and_values_of_two_sizes_where_keras_takes_one(monkeypatch):
    inputs = keras.Input((3, 4))
    attention = L.MultiHeadAttention(2, 3, name="attention")
    model = keras.Model(inputs, L.Dense(2)(attention(inputs, inputs)))
    monkeypatch.setattr("net2net.rules.attention.keras.backend.backend", lambda: "jax")
    with pytest.raises(Refused, match=r"'attention'.*of one size only.*key_dim and value_dim"):
        net2net.plan(model, {"attention/key_dim": 8})
    planned = net2net.plan(model, {"attention/key_dim": 8, "attention/value_dim": 8})
    assert planned.layers[0].path == "attention"


def test_heads_whose_scores_are_an_output():
    inputs = keras.Input((3, 4))
    attention = L.MultiHeadAttention(2, 3, name="attention")
    x, scores = attention(inputs, inputs, return_attention_scores=True)
    model = keras.Model(inputs, [L.Dense(2)(x), scores])
    with pytest.raises(Refused, match=r"'attention'.*those of the model's output"):
        net2net.widen(model, "attention", 4)


@pytest.mark.skipif(not hasattr(L, "ReversibleEmbedding"), reason="needs a newer Keras")
def test_a_tied_table_that_no_layer_could_divide():
    inputs = keras.Input((3,), dtype="int32")
    table = L.ReversibleEmbedding(9, 4, name="table")
    model = keras.Model(inputs, table(L.ReLU()(table(inputs)), reverse=True))
    with pytest.raises(Refused, match=r"'table'.*tied.*tie_weights=False"):
        net2net.widen(model, "table", 8)
