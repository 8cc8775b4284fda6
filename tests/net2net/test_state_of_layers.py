"""What a layer or a model has beside its weights comes along, or is missed by name."""

import dataclasses
import functools
import warnings

import keras
import numpy as np
import pytest
from helpers.net2net_cases import largest_difference, sequential, some_inputs

import net2net

L = keras.layers
Refused = net2net.UnsupportedLayerError
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras's lookup layers need TensorFlow"
)


def both(model, layer="a", units=9):
    return net2net.widen(model, layer, units), net2net.deepen(model, layer)


def test_an_adapted_normalization_keeps_its_statistics():
    data = (3 + 4 * np.random.default_rng(0).normal(size=(200, 5))).astype("float32")
    norm = L.Normalization()
    norm.adapt(data)
    model = sequential(norm, L.Dense(6, "relu", name="a"), L.Dense(2), shape=(5,))
    for grown in both(model):
        assert largest_difference(model, grown, data) <= 1e-6
        np.testing.assert_allclose(grown.layers[0].mean, data.mean(axis=0)[None], rtol=1e-4)


def test_values_that_have_not_reached_a_normalization_do_not_reach_the_grown_one():
    model = sequential(L.Normalization(), L.Dense(6, name="a"), L.Dense(2), shape=(5,))
    model.layers[0].adapt(np.ones((4, 5)) * np.arange(4)[:, None])
    model.layers[0].set_weights([one + 3 for one in model.layers[0].get_weights()])
    assert largest_difference(model, net2net.widen(model, "a", 9), some_inputs(model)) <= 1e-6


@tensorflow_only
@pytest.mark.parametrize("mode", ["multi_hot", "tf_idf"])
@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_an_adapted_vocabulary_comes_along(kind, mode):
    words = [1, 2, 3] if kind == "IntegerLookup" else ["good day", "hello you", "you"]
    layer = getattr(L, kind)(output_mode=mode)
    data = np.array([[word] for word in words])
    layer.adapt(data)
    inputs = keras.Input((1,), dtype="int64" if kind == "IntegerLookup" else "string")
    outputs = L.Dense(2)(L.Dense(6, "relu", name="a")(layer(inputs)))
    model = keras.Model(inputs, outputs)
    for grown in both(model):
        assert largest_difference(model, grown, keras.ops.convert_to_tensor(data)) <= 1e-6


def test_the_state_of_a_recurrent_layer_comes_along_and_grows():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 5, 3)),
            L.LSTM(4, stateful=True, return_sequences=True, name="a"),
            L.Bidirectional(L.GRU(3, stateful=True), name="both"),
            L.Dense(2),
        ]
    )
    first, second = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    model(first)
    wide = net2net.grow(model, {"a": 7, "both": 5})
    assert largest_difference(model, wide, second) <= 1e-5
    assert tuple(wide.get_layer("a").states[0].shape) == (4, 7)


def test_variables_frozen_one_by_one_stay_frozen():
    model = sequential(L.Dense(6, name="a"), L.Dense(4, name="b"), L.Dense(2))
    model.get_layer("b").kernel.trainable = False
    for grown in both(model):
        assert not grown.get_layer("b").kernel.trainable
        assert grown.get_layer("b").bias.trainable
        assert grown.get_layer("a").kernel.trainable


class Scaled(keras.Model):
    """Has a weight, an attribute, a layer beside its graph, and a `compile` of its own."""

    def __init__(self, inputs, outputs, name=None):
        super().__init__(inputs, outputs, name=name)
        self.temperature = self.add_weight(shape=(), initializer="ones", name="temperature")
        self.beside = {"head": [L.Dense(3, name="head")]}
        self.beside["head"][0].build((None, 2))
        self.first = self.layers[1]

    def compile(self, alpha=0.1, **settings):
        super().compile(**settings)
        self.alpha = alpha


def scaled():
    inputs = keras.Input((6,))
    model = Scaled(inputs, L.Dense(2)(L.Dense(4, "relu", name="a")(inputs)))
    model.temperature.assign(7.0)
    model.compile(alpha=0.7, optimizer="adam", loss="mse")
    return model


def test_a_subclass_made_from_inputs_and_outputs_keeps_what_is_its_own():
    model = scaled()
    for grown in both(model):
        assert type(grown) is Scaled
        assert float(grown.temperature) == 7.0
        assert grown.alpha == 0.7
        assert grown.temperature is not model.temperature
        assert any(v is grown.temperature for v in grown.trainable_variables)
        assert grown.first is grown.get_layer("a")
        head, old = grown.beside["head"][0], model.beside["head"][0]
        assert head is not old
        np.testing.assert_array_equal(head.kernel, old.kernel)
        assert len(grown.weights) >= len(model.weights)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_slots_of_a_models_own_weight_come_along():
    class Tempered(Scaled):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean((y - y_pred * self.temperature) ** 2)

    inputs = keras.Input((6,))
    model = Tempered(inputs, L.Dense(2)(L.Dense(4, "tanh", name="a")(inputs)))
    model.compile(optimizer="adam", run_eagerly=True)
    x = np.ones((4, 6), "float32")
    model.fit(x, x[:, :2], verbose=0)
    wide = net2net.widen(model, "a", 7)

    def slot(one):
        place = one.optimizer._get_variable_index(one.temperature)
        return float(one.optimizer._velocities[place])

    assert slot(wide) == slot(model) > 0


class Deep(keras.Model):
    def __init__(self, width, depth=2, name=None):
        inputs = keras.Input((6,))
        x = inputs
        for k in range(depth):
            x = L.Dense(width, "relu", name=f"h{k}")(x)
        super().__init__(inputs, L.Dense(2)(x), name=name)
        self.depth = depth


def test_a_class_whose_constructor_takes_other_arguments_grows_and_says_how_to_save_it(tmp_path):
    model = Deep(4)
    assert net2net.widenable(model)["h0"]
    wide = net2net.widen(model, "h0", 8)
    assert type(wide) is Deep
    assert wide.depth == 2
    assert largest_difference(model, wide, some_inputs(model)) <= 1e-6
    with pytest.raises(NotImplementedError, match=r"save_weights.*keras.Model\(model.input"):
        wide.save(tmp_path / "wide.keras")
    keras.Model(wide.input, wide.output).save(tmp_path / "wide.keras")
    again = keras.models.load_model(tmp_path / "wide.keras")
    assert largest_difference(model, again, some_inputs(model)) <= 1e-6


@pytest.mark.slow
def test_a_model_with_a_compile_of_its_own_is_compiled_as_it_was():
    class Student(keras.Model):
        def compile(self, optimizer, student_loss):
            super().compile(optimizer=optimizer)
            self.student_loss = student_loss

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return self.student_loss(y, y_pred)

    inputs = keras.Input((6,))
    model = Student(inputs, L.Dense(2)(L.Dense(4, "relu", name="a")(inputs)))
    model.compile("adam", keras.losses.MeanSquaredError())
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    wide = net2net.widen(model, "a", 9)
    before, after = (one.train_on_batch(x, x[:, :2]) for one in (model, wide))
    assert before == pytest.approx(after, rel=1e-5)


class Forgetful(L.Layer):
    """Its config leaves out the factor, and no attribute has the argument's name."""

    def __init__(self, factor=1.0, **settings):
        super().__init__(**settings)
        self.by = factor

    def call(self, inputs):
        return self.by * inputs

    def get_config(self):
        return super().get_config()


def forgetful():
    return sequential(L.Dense(6, "relu", name="a"), L.Dense(3), Forgetful(3.0, name="odd"))


def test_a_layer_whose_config_leaves_something_out_is_named():
    for grow in (net2net.widen, lambda m, *_, **k: net2net.deepen(m, "a", **k)):
        with pytest.raises(Refused, match=r"'odd' cannot grow.*computes something else"):
            grow(forgetful(), "a", 9)
        assert grow(forgetful(), "a", 9, check=False) is not None
    inputs = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    with pytest.raises(Refused, match=r"'odd'"):
        net2net.widen(forgetful(), "a", 9, check=inputs)


def test_a_check_on_request_compares_any_model_and_leaves_it_as_it_is():
    inputs = keras.Input((None,), dtype="int32")
    x = L.Embedding(7, 4, name="a")(inputs)
    model = keras.Model(inputs, L.Dense(2)(L.Dropout(0.5)(L.GRU(3)(x))))
    before = [np.array(v) for v in map(keras.ops.convert_to_numpy, model.variables)]
    wide = net2net.widen(model, "a", 6, check=True)
    assert wide.get_layer("a").output_dim == 6
    after = [keras.ops.convert_to_numpy(v) for v in model.variables]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_where_no_inputs_can_be_made_up_it_is_said():
    class Picky(L.Layer):
        wants = 3

        def call(self, inputs):
            if inputs.shape[-1] != self.wants or inputs.shape[0] not in (None, self.wants):
                raise ValueError("not these")
            return inputs

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape)

    model = sequential(L.Dense(4, name="a"), L.Dense(3), Picky())
    with pytest.warns(UserWarning, match=r"was not compared.*check=inputs"):
        net2net.widen(model, "a", 6)
    with pytest.raises(ValueError, match=r"was not compared"):
        net2net.widen(model, "a", 6, check=True)


def test_a_schedule_without_config_is_kept():
    class Warm(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.25

    model = sequential(L.Dense(4, name="a"), L.Dense(2))
    model.compile(keras.optimizers.Adam(Warm()), "mse")
    wide = net2net.widen(model, "a", 6)
    assert isinstance(wide.optimizer._learning_rate, Warm)
    assert isinstance(model.optimizer._learning_rate, Warm)
    assert float(wide.optimizer.learning_rate) == 0.25


def test_metrics_are_made_again_or_shared_with_a_warning():
    class Hits(keras.metrics.Metric):
        def __init__(self, k, name="hits"):
            super().__init__(name=name)

        def update_state(self, *values, sample_weight=None):
            pass

        def result(self):
            return 0.0

    mean = keras.metrics.MeanMetricWrapper(lambda a, b: keras.ops.abs(a - b), name="mean")
    hits = Hits(3)
    model = sequential(L.Dense(4, name="a"), L.Dense(2))
    model.compile("adam", "mse", metrics=[mean, hits])
    with pytest.warns(UserWarning, match=r"'hits'.*both models share it"):
        wide = net2net.widen(model, "a", 6)
    made = wide._compile_config.config["metrics"]
    assert made[1] is hits
    assert made[0] is not mean
    assert made[0]._fn is mean._fn


@pytest.mark.parametrize("part", ["layer", "optimizer"])
def test_what_cannot_be_made_again_is_refused_by_name(part):
    class Odd(L.Layer):
        def __init__(self, function):
            super().__init__(name="odd")
            self.function = function

        def call(self, inputs):
            return self.function(inputs)

    class Own(keras.optimizers.SGD):
        def __init__(self, way):
            super().__init__(0.1)

    last = Odd(abs) if part == "layer" else L.ReLU()
    model = sequential(L.Dense(4, name="a"), L.Dense(2), last)
    model.compile(Own(3) if part == "optimizer" else "sgd", "mse")
    with pytest.raises(Refused, match=r"odd.*get_config" if part == "layer" else r"Own.*get_conf"):
        net2net.widen(model, "a", 6)


def test_a_wrapped_optimizer_is_not_wrapped_again():
    model = sequential(L.Dense(4, name="a"), L.Dense(2))
    model.compile("adam", "mse", auto_scale_loss=False)
    assert type(net2net.widen(model, "a", 6).optimizer) is keras.optimizers.Adam


PENALISED = {
    "lstm": lambda: [L.LSTM(4, kernel_regularizer="l2", name="a")],
    "bidirectional": lambda: [L.Bidirectional(L.LSTM(4, kernel_constraint="max_norm"), name="a")],
    "activity": lambda: [L.Dense(4, name="a"), L.ActivityRegularization(l2=0.1)],
    "time_distributed": lambda: [L.TimeDistributed(L.Dense(4, kernel_regularizer="l1"), name="a")],
}


@pytest.mark.parametrize("kind", PENALISED)
def test_every_penalty_that_changes_is_warned_of(kind):
    model = sequential(*PENALISED[kind](), L.Dense(2), shape=(5, 3))
    with pytest.warns(UserWarning, match=r"regularisers or constraints"):
        net2net.widen(model, "a", 8)


def test_penalties_that_do_not_change_are_not_warned_of():
    model = sequential(
        L.Dense(4, name="a"), L.ActivityRegularization(), L.Dense(2),
        L.Dense(3, kernel_regularizer="l2"),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        net2net.widen(model, "a", 8)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strings are TensorFlow's")
def test_models_of_words_and_numbers_are_compared_on_made_up_inputs():
    words, numbers = keras.Input((1,), dtype="string"), keras.Input((2,))
    known = L.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(words)
    x = L.Dense(4, name="a")(L.Concatenate()([known, numbers]))
    model = keras.Model([words, numbers], L.Dense(2)(x))
    net2net.widen(model, "a", 6, check=True)


class TiedHead(L.Layer):
    """Multiplies with the table of another layer."""

    def __init__(self, table, **settings):
        super().__init__(**settings)
        self.table = table

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.table.embeddings))

    def get_config(self):
        table = keras.saving.serialize_keras_object(self.table)
        return {**super().get_config(), "table": table}


def test_a_layer_inside_two_others_is_refused_as_it_would_become_two():
    inputs = keras.Input((3,), dtype="int32")
    table = L.Embedding(9, 4, name="table")
    x = L.Dense(4)(L.Dense(5, name="a")(table(inputs)))
    model = keras.Model(inputs, TiedHead(table, name="head")(x))
    with pytest.raises(net2net.UnsupportedLayerError, match=r"'head'.*'table' is that of 'table'"):
        net2net.widen(model, "a", 8)


def test_a_variable_that_a_call_takes_is_that_of_the_grown_model():
    inputs = keras.Input((3,), dtype="int32")
    table = L.Embedding(9, 4, name="table")
    x = L.Dense(4)(L.Dense(5, name="a")(table(inputs)))
    model = keras.Model(inputs, keras.ops.einsum("btd,vd->btv", x, table.embeddings))
    wide = net2net.widen(model, "a", 8)
    ids = np.zeros((2, 3), "int32")
    np.testing.assert_allclose(model(ids), wide(ids), rtol=1e-4, atol=1e-6)
    wide.get_layer("table").embeddings.assign(np.zeros((9, 4)))
    assert not np.any(wide(ids))
    assert np.any(model(ids))
    with pytest.raises(net2net.UnsupportedLayerError, match=r"takes its 'embeddings' as an arg"):
        net2net.widen(model, "table", 8)


def test_a_subclassed_model_in_another_is_a_layer_without_a_rule():
    class Inner(keras.Model):
        def __init__(self, units, **settings):
            super().__init__(**settings)
            self.units, self.dense = units, L.Dense(units)

        def call(self, inputs):
            return self.dense(inputs)

        def get_config(self):
            return {"units": self.units, "name": self.name}

    layers = [L.Dense(4, name="a"), Inner(3, name="inner"), L.Dense(5, name="b"), L.Dense(2)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    wide = net2net.widen(model, "b", 8)
    x = np.ones((1, 6), "float32")
    np.testing.assert_allclose(model(x), wide(x), rtol=1e-4, atol=1e-6)
    with pytest.raises(net2net.UnsupportedLayerError, match=r"no rule for Inner.*register_comp"):
        net2net.widen(model, "a", 8)


def test_a_model_over_layers_of_the_grown_one_is_over_its_new_layers():
    inputs = keras.Input((6,))
    code = L.Dense(3, name="code")(L.Dense(4, "relu", name="a")(inputs))
    model = keras.Model(inputs, L.Dense(6)(code))
    model.encoder = keras.Model(inputs, code)
    wide = net2net.widen(model, "a", 8)
    assert wide.encoder.get_layer("a") is wide.get_layer("a")
    x = np.ones((1, 6), "float32")
    np.testing.assert_allclose(model.encoder(x), wide.encoder(x), rtol=1e-4, atol=1e-6)


def test_lora_matrices_inside_attention_come_along():
    inputs = keras.Input((4, 6))
    attention = L.MultiHeadAttention(2, 3, name="attention")
    x = L.Dense(4, name="a")(attention(inputs, inputs))
    model = keras.Model(inputs, L.Dense(2)(x))
    attention._query_dense.enable_lora(2)
    attention._query_dense.lora_kernel_b.assign(np.ones((2, 3)))
    wide = net2net.widen(model, "a", 8)
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    np.testing.assert_allclose(model(x), wide(x), rtol=1e-4, atol=1e-6)
    trained = [[v.trainable for v in one.layers[1].variables] for one in (model, wide)]
    assert trained[0] == trained[1]


class Dropping(L.Layer):
    """Its config leaves out an argument that inference does not show."""

    def __init__(self, rate=0.5, window=1, **settings):
        super().__init__(**settings)
        self.rate, self.window = rate, (window, window)

    def call(self, inputs, training=False):
        return inputs * (1 - self.rate) if training else inputs

    def get_config(self):
        return {**super().get_config(), "window": self.window[0]}


class Annealed(L.Layer):
    """Keras writes its config down from the constructor's call, whatever is set afterwards."""

    def __init__(self, beta=0.0, **settings):
        super().__init__(**settings)
        self.beta = beta

    def call(self, inputs, training=False):
        return inputs * (1 + self.beta) if training else inputs


def test_arguments_and_names_of_layers_of_ones_own_are_those_they_have_now():
    layers = [Dropping(0.25, 3, name="drop"), Annealed(name="anneal")]
    model = sequential(L.Dense(6, "relu", name="a"), L.Dense(3), *layers, L.Dense(2))
    model.get_layer("anneal").beta = 0.75
    x = some_inputs(model)
    for grown in both(model):
        assert grown.get_layer("drop").rate == 0.25
        assert grown.get_layer("drop").window == (3, 3)
        assert grown.get_layer("anneal").beta == 0.75
        np.testing.assert_allclose(
            model(x, training=True), grown(x, training=True), rtol=1e-4, atol=1e-6
        )


class Told(keras.metrics.Metric):
    def __init__(self, value=1.0, name="told", **settings):
        super().__init__(name=name, **settings)
        self.value = value

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return keras.ops.convert_to_tensor(self.value)


class Twice(keras.optimizers.SGD):
    def __init__(self, learning_rate=0.1, factor=1.0, **settings):
        super().__init__(learning_rate, **settings)
        self.factor = factor


def test_metrics_and_optimizers_of_ones_own_keep_arguments_that_no_config_tells():
    model = sequential(L.Dense(6, "relu", name="a"), L.Dense(2))
    model.compile(Twice(0.5, factor=2.0), "mse", metrics=[Told(7.0)])
    for grown in both(model):
        assert grown.optimizer.factor == 2.0
        assert float(grown.optimizer.learning_rate) == 0.5
        x = some_inputs(model)
        assert grown.evaluate(x, np.zeros((len(x), 2)), verbose=0)[1] == 7.0
    assert net2net.widen(model, "a", 9, learning_rate=0.125).optimizer.learning_rate == 0.125


def test_optimizers_in_a_list_or_dict_are_those_of_the_grown_model():
    class Adversarial(keras.Model):
        def compile(self, optimizers):
            super().compile(optimizer=optimizers["all"])
            self.parts = [optimizers["one"], {"other": optimizers["all"]}]

    inputs = keras.Input((6,))
    model = Adversarial(inputs, L.Dense(2)(L.Dense(4, name="a")(inputs)))
    model.compile({"all": keras.optimizers.Adam(), "one": keras.optimizers.Adam(0.25)})
    one = model.parts[0]
    one.build(model.trainable_variables)
    one.iterations.assign(5)
    wide = net2net.widen(model, "a", 8)
    assert wide.parts[0] is not one
    assert [tuple(v.shape) for v in wide.parts[0]._trainable_variables] == [
        tuple(v.shape) for v in wide.trainable_variables
    ]
    assert (int(wide.parts[0].iterations), float(wide.parts[0].learning_rate)) == (5, 0.25)
    assert wide.parts[1]["other"] is wide.optimizer is not model.optimizer
    assert model.parts[0] is one


def test_a_model_made_under_another_policy_keeps_its_loss_scale_at_compile():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = sequential(L.Dense(6, "relu", name="a"), L.Dense(2, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    for grown in both(model):
        grown.compile("adam", "mse")
        assert isinstance(grown.optimizer, keras.optimizers.LossScaleOptimizer)


def test_penalties_set_on_a_variable_by_itself_come_along():
    model = sequential(L.Dense(6, name="a"), L.Dense(3, name="b"), L.Dense(2, name="c"))
    model.get_layer("c").kernel.regularizer = keras.regularizers.L2(0.5)
    model.get_layer("c").kernel.constraint = keras.constraints.NonNeg()
    model.get_layer("c").bias_regularizer = keras.regularizers.L2(0.5)  # too late, unheard
    wide = net2net.widen(model, "a", 9)
    assert isinstance(wide.get_layer("c").kernel.constraint, keras.constraints.NonNeg)
    assert len(model.losses) == len(wide.losses) == 1
    np.testing.assert_allclose(wide.losses, model.losses, rtol=1e-6)
    with pytest.warns(UserWarning, match=r"constraints of c see other weights"):
        net2net.widen(model, "b", 9)


def test_what_is_set_on_a_compiled_model_is_kept():
    model = sequential(L.Dense(6, name="a"), L.Dense(2))
    model.compile("adam", "mse", jit_compile=False)
    model.steps_per_execution = 4
    model.jit_compile = True
    for grown in both(model):
        assert (grown.steps_per_execution, grown.jit_compile) == (4, model.jit_compile)


@tensorflow_only
@pytest.mark.slow
def test_a_saved_model_used_as_a_layer_comes_along(tmp_path):
    saved = sequential(L.Dense(5), shape=(6,))
    saved.export(tmp_path / "saved", verbose=False)
    inputs = keras.Input((6,))
    inside = L.TFSMLayer(tmp_path / "saved", call_endpoint="serve")
    model = keras.Model(inputs, L.Dense(2)(L.Dense(6, "relu", name="a")(inside(inputs))))
    for grown in both(model):
        assert largest_difference(model, grown, some_inputs(model)) <= 1e-6


class Normalised(L.Layer):
    """Is made of layers, one of which may be frozen by itself."""

    def __init__(self, units, **settings):
        super().__init__(**settings)
        self.dense = L.Dense(units, name="dense")
        self.norm = L.BatchNormalization(name="norm")

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((*shape[:-1], self.dense.units))

    def call(self, inputs, training=False):
        return self.norm(self.dense(inputs), training=training)


def test_a_layer_frozen_inside_another_stays_frozen():
    model = sequential(Normalised(4, name="block"), L.Dense(6, name="a"), L.Dense(2), shape=(5,))
    model.get_layer("block").norm.trainable = False
    x = 3 + some_inputs(model)
    for grown in both(model):
        assert not grown.get_layer("block").norm.trainable
        # In training, a frozen one uses its moving statistics.
        np.testing.assert_allclose(
            model(x, training=True), grown(x, training=True), rtol=1e-4, atol=1e-5
        )


def test_layers_that_save_memory_go_on_doing_so():
    with keras.RematScope(mode="full"):
        layer = L.Dense(6, name="a")
    model = sequential(layer, L.Dense(2))
    for grown in both(model):
        assert grown.get_layer("a")._remat_mode.mode == "full"
        assert grown.layers[-1]._remat_mode is None


class Own(keras.Model):
    def scaled(self, value):
        return value * self.factor


def own_model():
    inputs = keras.Input((6,))
    model = Own(inputs, L.Dense(2)(L.Dense(4, "relu", name="a")(inputs)))
    model.factor = 2.0
    return model


def test_methods_kept_as_attributes_are_those_of_the_grown_model():
    model = own_model()
    model.one, model.other = model.scaled, functools.partial(model.scaled, 3.0)
    model.called = model.get_layer("a").call
    wide = net2net.widen(model, "a", 7)
    wide.factor = 5.0
    assert (wide.one(1.0), wide.other()) == (5.0, 15.0)
    assert wide.called(np.ones((1, 6), "float32")).shape == (1, 7)
    assert model.one(1.0) == 2.0


def test_functions_and_objects_that_hold_the_model_before_growth_are_named():
    @dataclasses.dataclass
    class Head:
        layer: object

    for name, make in {
        "train_step": lambda model: lambda data: model.scaled(data),
        "head": lambda model: Head(model.get_layer("a")),
    }.items():
        model = own_model()
        setattr(model, name, make(model))
        with pytest.warns(UserWarning, match=rf"attribute '{name}' .* the model before growth"):
            net2net.widen(model, "a", 7)


def test_a_loss_that_a_compile_of_its_own_has_set_is_there():
    class Student(keras.Model):
        def compile(self, optimizer, loss):
            super().compile()
            self.optimizer, self.loss = optimizer, loss

    inputs = keras.Input((6,))
    model = Student(inputs, L.Dense(2)(L.Dense(4, name="a")(inputs)))
    loss = keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.Adam(0.25), loss)
    for grown in both(model):
        assert grown.loss is loss
        assert float(grown.optimizer.learning_rate) == 0.25


class Steered(L.Layer):
    """Is made of layers whose settings a callback changes during a training."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.drop, self.noise = L.Dropout(0.1), L.GaussianNoise(0.1)
        self.norm, self.anneal = L.BatchNormalization(), Annealed(beta=0.0)

    def call(self, inputs, training=False):
        x = self.noise(self.drop(inputs, training=training), training=training)
        return self.anneal(self.norm(x, training=training), training=training)


def test_settings_of_layers_inside_another_are_those_they_have_now():
    model = sequential(Steered(name="block"), L.Dense(4, name="a"), L.Dense(2))
    block = model.get_layer("block")
    block.drop.rate, block.noise.stddev, block.norm.momentum = 0.5, 0.25, 0.75
    block.anneal.beta = 0.5
    for grown in both(model):
        found = grown.get_layer("block")
        assert (found.drop.rate, found.noise.stddev, found.norm.momentum) == (0.5, 0.25, 0.75)
        assert found.anneal.beta == 0.5


def test_initial_values_may_be_drawn_by_a_function():
    def ones(shape, dtype=None):
        return keras.ops.ones(shape, dtype)

    layers = [L.Dense(6, "relu", name="a", kernel_initializer=ones), L.Dense(2)]
    model = sequential(*layers, shape=(3,))
    for grown in both(model):
        assert largest_difference(model, grown, some_inputs(model)) <= 1e-6
        assert grown.get_layer("a").kernel_initializer is ones
    recurrent = sequential(L.LSTM(4, kernel_initializer=ones, name="r"), L.Dense(2), shape=(5, 3))
    wide = net2net.widen(recurrent, "r", 6)
    assert largest_difference(recurrent, wide, some_inputs(recurrent)) <= 1e-6
    assert wide.get_layer("r").cell.kernel_initializer is ones
    model.get_layer("a").kernel.assign(np.zeros((3, 6)))
    wide = net2net.widen(model, "a", 9, new="random")
    kernel = np.array(wide.get_layer("a").kernel)
    assert sorted(kernel.sum(axis=0)) == [0.0] * 6 + [3.0] * 3
