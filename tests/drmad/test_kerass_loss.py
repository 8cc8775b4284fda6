"""The loss of a tuner's trainings is Keras's own: masks, weights and added losses included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan import drmad

pytestmark = pytest.mark.slow  # every test compiles the loops of a tuner

L = keras.layers
RNG = np.random.default_rng(0)
N, HELD_OUT = 24, 8
X = RNG.normal(size=(N + HELD_OUT, 4)).astype("float32")
SIGNS = np.sign(X @ RNG.normal(size=4)).astype("float32")
CLASSES = RNG.integers(0, 3, N + HELD_OUT)
WEIGHTS = RNG.uniform(0.2, 3.0, N + HELD_OUT).astype("float32")
TOKENS = RNG.integers(1, 6, (N + HELD_OUT, 5))
TOKENS[:, 2:] *= RNG.integers(0, 2, (N + HELD_OUT, 1))  # half of them end after two steps
LABELS = RNG.integers(0, 3, (N + HELD_OUT, 5))


def seeded(number=1):
    return keras.initializers.GlorotUniform(seed=number)


def dense(units, **more):
    return L.Dense(units, kernel_initializer=seeded(), **more)


def flat(*layers, loss="sparse_categorical_crossentropy", **more):
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(more.pop("optimizer", keras.optimizers.SGD(0.1)), loss, **more)
    return model


def tagger(loss="sparse_categorical_crossentropy", mask_zero=True):
    inputs = keras.Input((5,), dtype="int32")
    found = L.Embedding(6, 4, mask_zero=mask_zero, embeddings_initializer=seeded(2))(inputs)
    model = keras.Model(inputs, dense(3, activation="softmax")(found))
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


class Addition(L.Layer):
    """Adds losses, one of them a vector."""

    def call(self, x):
        self.add_loss(0.3 * keras.ops.mean(x**2, axis=0))
        self.add_loss(keras.ops.abs(keras.ops.mean(x)))
        return x


def ignoring():
    return keras.losses.SparseCategoricalCrossentropy(ignore_class=2)


CASES = {
    "targets of another rank": (lambda: flat(dense(1), loss="hinge"), X, SIGNS, None),
    "binary cross-entropy": (
        lambda: flat(dense(1, activation="sigmoid"), loss="binary_crossentropy"),
        X,
        (SIGNS > 0).astype("float32"),
        None,
    ),
    "a loss by its general name": (
        lambda: flat(dense(3, activation="softmax"), loss="crossentropy"),
        X,
        CLASSES,
        None,
    ),
    "sample weights": (lambda: flat(dense(3, activation="softmax")), X, CLASSES, WEIGHTS),
    "a mean by weights": (
        lambda: flat(
            dense(1), loss=keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
        ),
        X,
        SIGNS,
        WEIGHTS,
    ),
    "a sum": (
        lambda: flat(dense(1), loss=keras.losses.MeanSquaredError(reduction="sum")),
        X,
        SIGNS,
        None,
    ),
    "a weight of the loss": (
        lambda: flat(dense(3, activation="softmax"), loss_weights=0.25),
        X,
        CLASSES,
        None,
    ),
    "a loss in a list": (lambda: flat(dense(1), loss=["mae"]), X, SIGNS, None),
    "added losses": (lambda: flat(Addition(), dense(1), loss="mse"), X, SIGNS, None),
    "a regulariser": (
        lambda: flat(dense(1, kernel_regularizer="l2"), loss="mse"),
        X,
        SIGNS,
        None,
    ),
    "masked steps": (tagger, TOKENS, LABELS, None),
    "masked steps with weights": (
        tagger,
        TOKENS,
        LABELS,
        np.broadcast_to(WEIGHTS[:, None], LABELS.shape),
    ),
    "an ignored class": (lambda: tagger(ignoring(), mask_zero=False), TOKENS, LABELS, None),
    "an ignored class behind a mask": (lambda: tagger(ignoring()), TOKENS, LABELS, None),
}


@pytest.mark.parametrize("case", CASES)
def test_training_and_validation_loss_are_those_of_keras(case):
    build, x, y, weight = CASES[case]
    parts = (x, y) if weight is None else (x, y, weight)
    train, validation = ([part[:N] for part in parts], [part[N:] for part in parts])
    steps, rate, momentum = 5, 0.1, 0.5
    search = drmad.Tuner(
        build,
        tf.data.Dataset.from_tensor_slices(tuple(train)).batch(8),
        tuple(validation),
        [drmad.LearningRate()],
        training=drmad.Training(steps=steps, learning_rate=rate, momentum=momentum),
    )
    found = search.evaluate(search.initial_unconstrained())

    model = build()
    model.compile(
        keras.optimizers.SGD(rate * (1 - momentum), momentum=momentum),
        model.loss,
        loss_weights=model.get_compile_config()["loss_weights"],
    )
    for step in range(steps):
        rows = slice(8 * (step % 3), 8 * (step % 3) + 8)
        model.train_on_batch(*[part[rows] for part in train])
    for ours, kerass in zip(search.best_model().get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, kerass, atol=1e-5)
    weights = {} if weight is None else {"sample_weight": validation[2]}
    expected = model.evaluate(*validation[:2], **weights, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)


def test_smoothed_labels_are_weighted_and_masked_like_the_labels():
    weights = np.broadcast_to(WEIGHTS[:, None], LABELS.shape)
    search = drmad.Tuner(
        tagger,
        (TOKENS[:N], LABELS[:N], weights[:N]),
        (TOKENS[N:], LABELS[N:]),
        [drmad.LabelSmoothing(initial=0.2)],
        training=drmad.Training(steps=1, batch_size=N),
    )
    model, one_hot = tagger(), np.eye(3)[LABELS[:N]]
    chances = np.asarray(model(TOKENS[:N]))
    losses = -np.sum((0.8 * one_hot + 0.2 / 3) * np.log(chances), axis=-1)
    is_real = TOKENS[:N] > 0
    expected = np.sum(losses * weights[:N] * is_real) / is_real.sum()
    inner = search.inner_loop()
    values = inner.values(search.initial_unconstrained())
    end = inner.advance(values, inner.start(values), 1)
    assert float(end.train_loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: flat(dense(3), optimizer=keras.optimizers.SGD(0.1, clipnorm=1.0)), "clipnorm=1.0"),
        (
            lambda: flat(dense(3), optimizer=keras.optimizers.AdamW(weight_decay=0.01)),
            "weight_decay=0.01",
        ),
        (
            lambda: flat(dense(3), optimizer=keras.optimizers.SGD(0.1, use_ema=True)),
            "use_ema=True",
        ),
        (
            lambda: flat(
                dense(3), optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
            ),
            "gradient_accumulation_steps=4",
        ),
        (
            lambda: flat(
                dense(3), optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
            ),
            "nesterov=True",
        ),
        (
            lambda: flat(
                dense(3),
                optimizer=keras.optimizers.SGD(
                    keras.optimizers.schedules.CosineDecay(0.1, decay_steps=10)
                ),
            ),
            "schedule CosineDecay",
        ),
        (lambda: flat(dense(3, kernel_constraint="non_neg")), "constraint NonNeg of .*kernel"),
    ],
)
def test_what_the_training_would_leave_out_is_refused_by_name(build, named):
    with pytest.raises(ValueError, match=f"{named}.*expected none of these"):
        drmad.Tuner(build, (X, CLASSES), (X, CLASSES), [drmad.L2()])


@pytest.mark.parametrize("method", ["train_step", "test_step", "compute_loss"])
def test_a_models_own_steps_are_refused_by_name(method):
    own = type("Own", (keras.Sequential,), {method: lambda self, *_, **__: None})

    def build():
        model = own([keras.Input((4,)), dense(3)])
        model.compile("sgd", "mse")
        return model

    with pytest.raises(ValueError, match=f"a {method} of its own"):
        drmad.Tuner(build, (X, CLASSES), (X, CLASSES), [drmad.L2()])


def test_class_weights_of_sequences_are_refused():
    with pytest.raises(ValueError, match="expected one class for each example"):
        drmad.Tuner(tagger, (TOKENS, LABELS), (TOKENS, LABELS), [drmad.LossWeights("class")])


def test_a_model_in_the_place_of_the_function_that_builds_it_is_refused():
    with pytest.raises(ValueError, match="expected a function that returns a model"):
        drmad.Tuner(flat(dense(3)), (X, CLASSES), (X, CLASSES), [drmad.L2()])


def test_a_function_with_defaults_of_its_own_is_not_given_the_seed():
    def build(units=3):
        return flat(dense(units))

    search = drmad.Tuner(
        build, (X, CLASSES), (X, CLASSES), [drmad.L2("weight")], training=drmad.Training(seed=5)
    )
    assert search.num_hyperparameters == 4 * 3
