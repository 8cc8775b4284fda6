import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan.experiments.model_factory import ModelFactory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6, 6, 1)).astype(np.float32)
Y = RNG.integers(0, 3, 64)
BATCHES = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)


def build(seed, optimizer=None, units=5, activation="relu", **compiling):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(2, 3, kernel_initializer=keras.initializers.HeNormal(seed)),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(
                units,
                activation,
                kernel_initializer=keras.initializers.GlorotUniform(seed + 1),
            ),
            layers.Dropout(0.5, seed=seed),
            layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed + 2)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer() if optimizer else keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, **{"loss": loss, "jit_compile": False, **compiling})
    return model


def train(model):
    model.fit(BATCHES, epochs=2, shuffle=False, verbose=0)
    return [variable.numpy() for variable in model.variables + model.optimizer.variables]


def equal(one, two):
    return len(one) == len(two) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.Adam(0.01),
    ],
    ids=["SGD", "Adam"],
)
def test_a_reused_model_trains_as_a_freshly_built_one_bit_for_bit(optimizer):
    models = ModelFactory(lambda seed: build(seed, optimizer), BATCHES)
    first = models.build(1)
    train(first)
    first.optimizer.learning_rate.assign(0.7)
    first.stop_training = True
    second = models.build(2)
    assert second is first
    found = train(second)
    alone = build(2, optimizer)
    alone.evaluate(BATCHES.take(1), verbose=0)
    assert equal(found, train(alone))


def test_the_same_seed_gives_the_same_model_and_another_seed_another():
    models = ModelFactory(build, BATCHES)
    weights = [models.build(seed).get_weights() for seed in (1, 2, 1)]
    assert equal(weights[0], weights[2])
    assert not equal(weights[0], weights[1])
    assert equal(weights[0], build(1).get_weights())


@pytest.mark.slow
def test_a_fresh_model_starts_with_its_own_rate_and_nothing_of_the_last_ones_momentum():
    models = ModelFactory(build, BATCHES)
    model = models.build(1)
    model.train_on_batch(X[:16], Y[:16])
    model.optimizer.learning_rate.assign(0.7)
    assert any(np.abs(v.numpy()).max() > 0 for v in model.optimizer.variables[2:])
    again = models.build(1)
    assert float(again.optimizer.learning_rate) == np.float32(0.1)
    assert int(again.optimizer.iterations) == 0
    assert not any(v.numpy().any() for v in again.optimizer.variables[2:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"units": 6},
        {"activation": "tanh"},
        {"optimizer": lambda: keras.optimizers.SGD(0.2, momentum=0.9)},
        {"optimizer": lambda: keras.optimizers.SGD(0.1, momentum=0.8)},
        {"optimizer": lambda: keras.optimizers.Adam(0.1)},
        {"loss": keras.losses.SparseCategoricalCrossentropy()},
        {"metrics": ["accuracy"]},
        {"steps_per_execution": 2},
        {"run_eagerly": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_model_of_another_form_is_used_as_it_was_built(other):
    models = ModelFactory(lambda seed: build(seed, **({} if seed == 1 else other)), BATCHES)
    first, second, third = (models.build(seed) for seed in (1, 2, 3))
    assert second is not first
    assert third is second
    assert equal(second.get_weights(), build(3, **other).get_weights())


def test_optimizers_that_differ_in_their_class_alone_are_told_apart():
    optimizers = {1: keras.optimizers.Nadam, 2: keras.optimizers.Adamax}
    models = ModelFactory(lambda seed: build(seed, optimizers[seed]), BATCHES)
    assert models.build(1) is not models.build(2)


def test_names_that_the_user_gave_do_not_hide_a_difference():
    def named(seed):
        activation = "relu" if seed == 1 else "tanh"
        model = keras.Sequential(
            [
                keras.layers.Input((6, 6, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
                keras.layers.Activation(activation, name=activation),
            ]
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    models = ModelFactory(named, BATCHES)
    first, second = models.build(1), models.build(2)
    assert second.layers[-1].activation is keras.activations.tanh
    assert second is not first


def test_a_model_whose_form_cannot_be_told_is_built_each_time():
    class Own(keras.Model):
        def __init__(self, seed):
            super().__init__()
            self.dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(seed))
            self.flatten = keras.layers.Flatten()

        def call(self, inputs):
            return self.dense(self.flatten(inputs))

    def own(seed):
        model = Own(seed)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    models = ModelFactory(own, BATCHES)
    assert models.build(1) is not models.build(2)


@pytest.mark.parametrize("made", [None, "model", keras.Sequential([keras.layers.Dense(1)])])
def test_what_is_no_compiled_model_is_refused(made):
    with pytest.raises(TypeError, match=r"build_model\(4\) returned .*call model\.compile"):
        ModelFactory(lambda seed: made, BATCHES).build(4)
