"""Layers made of layers, as keras-hub builds its backbones, rebuilt here."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import largest_difference, randomise, some_inputs

import net2net
from net2net import composites
from net2net.rules.base import copy_axis, weight

L, ops = keras.layers, keras.ops
Refused = net2net.UnsupportedLayerError
needs_reversible = pytest.mark.skipif(
    not hasattr(L, "ReversibleEmbedding"), reason="needs a newer Keras"
)


@keras.saving.register_keras_serializable("composites")
class Decoder(L.Layer):
    """A pre-norm decoder whose sizes follow from its input, as keras-hub's."""

    def __init__(self, intermediate_dim, num_heads, **settings):
        super().__init__(**settings)
        self.intermediate_dim, self.num_heads = intermediate_dim, num_heads

    def build(self, shape):
        size = shape[-1]
        self.attention = L.MultiHeadAttention(
            self.num_heads, size // self.num_heads, name="attention"
        )
        self.attention.build(shape, shape)
        self.attention_norm = L.LayerNormalization(name="attention_norm")
        self.norm = L.LayerNormalization(name="norm")
        self.up = L.Dense(self.intermediate_dim, "gelu", name="up")
        self.down = L.Dense(size, name="down")
        for part in (self.attention_norm, self.norm, self.up):
            part.build(shape)
        self.down.build((*shape[:-1], self.intermediate_dim))
        self.built = True

    def call(self, inputs, padding_mask=None):
        mask = None if padding_mask is None else ops.expand_dims(padding_mask, 1)
        x = self.attention_norm(inputs)
        x = inputs + self.attention(x, x, attention_mask=mask, use_causal_mask=True)
        return x + self.down(self.up(self.norm(x)))

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
        }


@keras.saving.register_keras_serializable("composites")
class Positions(L.Layer):
    """Adds a vector for each place."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, inputs):
        return inputs + self.table


class PositionsRule(net2net.ElementwiseRule):
    def weights(self, grown):
        return [weight(grown.layer.table, None, {-1: copy_axis(grown.input(-1))})]


class Backbone(keras.Model):
    """A functional model whose constructor takes sizes, as keras-hub's."""

    def __init__(self, words, size, blocks, heads):
        table = L.ReversibleEmbedding(words, size, name="tokens")
        ids = keras.Input((6,), dtype="int32", name="token_ids")
        mask = keras.Input((6,), dtype="int32", name="padding_mask")
        x = Positions(name="positions")(table(ids))
        for k in range(blocks):
            x = Decoder(2 * size, heads, name=f"layer_{k}")(x, padding_mask=mask)
        x = L.LayerNormalization(name="final_norm")(x)
        super().__init__({"token_ids": ids, "padding_mask": mask}, table(x, reverse=True))
        self.size = size


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(composites, "_CLASSES", set(composites._CLASSES))
    monkeypatch.setattr("net2net.rules.registry._RULES", dict(net2net.rules.registry._RULES))
    net2net.register_composite(Decoder)
    net2net.register_rule(Positions, PositionsRule())


def small(blocks=1):
    inputs = keras.Input((4,))
    x = L.Dense(4, name="stream")(L.Reshape((4, 1))(inputs))
    for k in range(blocks):
        x = Decoder(6, 2, name=f"block_{k}")(x)
    model = keras.Model(inputs, L.Dense(2)(x))
    model.compile("sgd", "mse", run_eagerly=True)
    return randomise(model)


@pytest.mark.slow
@needs_reversible
def test_the_whole_residual_stream_of_a_backbone_grows_in_one_call():
    model = randomise(Backbone(11, 8, 2, 2))
    model.compile(keras.optimizers.Adam(), "mse", run_eagerly=True)
    ids = np.random.default_rng(0).integers(11, size=(4, 6))
    data = {"token_ids": ids, "padding_mask": np.ones((4, 6), int)}
    data["padding_mask"][:, 4:] = 0
    targets = np.eye(11, dtype="float32")[ids]
    model.train_on_batch(data, targets)
    # Each block divides its stream among its heads, so that these grow with it.
    heads = {f"layer_{k}/attention": 4 for k in range(2)}
    wide = net2net.grow(model, {"tokens": 16, **heads}, check=data)
    assert type(wide) is Backbone
    assert wide.get_layer("tokens").output_dim == 16
    assert [wide.get_layer(f"layer_{k}").num_heads for k in range(2)] == [4, 4]
    assert largest_difference(model, wide, data) <= 1e-5
    before, after = (one.test_on_batch(data, targets) for one in (model, wide))
    assert after == pytest.approx(before, rel=1e-4)
    assert np.asarray(ops.convert_to_numpy(wide.optimizer._velocities[0])).any()
    wide.train_on_batch(data, targets)


@pytest.mark.slow
def test_a_layer_inside_another_grows_alone_and_is_saved(tmp_path):
    model = small()
    wide = net2net.widen(model, "block_0/up", 9)
    assert wide.get_layer("block_0").intermediate_dim == 9
    inputs = some_inputs(model)
    assert largest_difference(model, wide, inputs) <= 1e-5
    wide.save(tmp_path / "wide.keras")
    again = keras.models.load_model(tmp_path / "wide.keras")
    assert largest_difference(wide, again, inputs) <= 1e-6
    found = net2net.widenable(model)
    assert found["block_0/attention/value_dim"].width == 2
    assert "stream" in found["block_0/down"].group
    planned = net2net.plan(model, {"block_0/up": 9})
    assert planned.parameters == (model.count_params(), wide.count_params())


def test_sizes_that_a_build_ties_are_named():
    with pytest.raises(Refused, match=r"'block_0' .*becomes \(8, 2, 4\) instead of \(8, 2, 2\)"):
        net2net.widen(small(), "stream", 8)


def test_no_block_goes_into_a_layer():
    found = net2net.deepenable(small())["block_0/up"]
    assert not found
    assert "nothing can be put into a layer" in found.reason


def test_a_copy_of_a_layer_made_of_layers_passes_its_input_on():
    model = small()
    deep = net2net.copy_blocks(model, ["block_0"], check=True)
    assert len(deep.weights) == len(model.weights) + len(model.get_layer("block_0").weights)
    assert largest_difference(model, deep, some_inputs(model)) <= 1e-6


def test_layers_that_cannot_be_followed_or_are_not_registered_are_named():
    class Odd(L.Layer):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.dense = L.Dense(3)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, inputs):
            return self.dense(inputs) * float(np.asarray(inputs.shape[7]))

        def compute_output_shape(self, shape):
            return (*shape[:-1], 3)

        def compute_output_spec(self, inputs):
            return keras.KerasTensor((*inputs.shape[:-1], 3))

    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), Odd(name="odd")])
    with pytest.raises(Refused, match=r"'a'.*no rule for Odd.*register_composite\(Odd\)"):
        net2net.widen(model, "a", 8)
    net2net.register_composite(Odd)
    with pytest.raises(Refused, match=r"'odd'.*Odd cannot be followed inside"):
        net2net.widen(model, "a", 8)
    with pytest.raises(TypeError, match=r"Expected a layer class"):
        net2net.register_composite(Odd())
    with pytest.raises(ValueError, match=r"'block_0' is made of layers.*block_0/up"):
        net2net.widen(small(), "block_0", 8)
