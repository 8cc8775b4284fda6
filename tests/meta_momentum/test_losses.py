"""The softer forms: features and answers, against gradients worked out apart."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.students import data, student

from keras_qan import MetaMomentum, QANCallback
from keras_qan.agents.scripted import RandomAgent
from keras_qan.meta_momentum import ConstantStrength, Distillation, Features

X, Y = data(16)
RATE = 0.1


def fit(model, *callbacks, **more):
    arguments = {"batch_size": len(X), "epochs": 1, "shuffle": False, "verbose": 0, **more}
    return model.fit(X, Y, callbacks=list(callbacks), **arguments)


def descended(model, loss_of):
    """The weights after one step of plain gradient descent on a loss."""
    with tf.GradientTape() as tape:
        loss = loss_of(model)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    values = [np.array(v) for v in model.trainable_variables]
    return [
        value if gradient is None else value - RATE * gradient.numpy()
        for value, gradient in zip(values, gradients, strict=True)
    ]


def own_loss(model):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=Y, logits=model(X, training=True))
    )


def features(model, x):
    convolved = model.layers[0](x)
    return convolved, model.layers[2](model.layers[1](convolved))


def feature_gap(teacher):
    def gap(model):
        own, theirs = features(model, X), features(teacher, X)
        parts = [tf.reduce_mean((a - b) ** 2) for a, b in zip(own, theirs, strict=True)]
        return (parts[0] + parts[1]) / 2

    return gap


def answer_gap(teacher, temperature):
    def gap(model):
        p = tf.nn.softmax(teacher(X) / temperature)
        q = tf.nn.softmax(model(X) / temperature)
        return temperature**2 * tf.reduce_mean(tf.reduce_sum(p * tf.math.log(p / q), axis=-1))

    return gap


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", [Features(), Distillation(3.0)])
def test_a_step_descends_the_models_own_loss_and_the_gap_to_the_teacher(form, jit_compile):
    teacher = student(seed=1)
    gap = feature_gap(teacher) if isinstance(form, Features) else answer_gap(teacher, 3.0)
    expected = descended(student(), lambda model: own_loss(model) + 0.5 * gap(model))
    model = student(keras.optimizers.SGD(RATE), jit_compile=jit_compile)
    fit(model, MetaMomentum(teacher, strength=0.5, form=form, fade=ConstantStrength()))
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(np.array(variable), value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_reported_loss_remains_the_tasks_own():
    plain, taught = student(keras.optimizers.SGD(0.0)), student(keras.optimizers.SGD(0.0))
    pull = MetaMomentum(student(seed=1), strength=0.9, form=Features())
    one = fit(plain, validation_data=(X, Y)).history
    other = fit(taught, pull, validation_data=(X, Y)).history
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert other["val_loss"] == one["val_loss"]


def test_named_layers_alone_are_compared():
    teacher = student(seed=1)

    def gap(model):
        return tf.reduce_mean((features(model, X)[0] - features(teacher, X)[0]) ** 2)

    expected = descended(student(), lambda model: own_loss(model) + 0.5 * gap(model))
    model = student(keras.optimizers.SGD(RATE))
    pull = MetaMomentum(teacher, 0.5, layers=["first"], form=Features(), fade=ConstantStrength())
    fit(model, pull)
    np.testing.assert_allclose(np.array(model.layers[0].kernel), expected[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Features(), Distillation()])
def test_the_best_earlier_student_teaches_in_these_forms_too(form):
    pull = MetaMomentum("previous", strength=0.9, steps=20, form=form, fade=ConstantStrength())
    fit(student(seed=1), pull, epochs=2)
    model, plain = student(keras.optimizers.SGD(RATE)), student(keras.optimizers.SGD(RATE))
    fit(model, pull, epochs=10)
    fit(plain, epochs=10)
    teacher = student(seed=1)
    teacher.set_weights(list(pull.teacher.weights().arrays))
    gap = feature_gap(teacher) if isinstance(form, Features) else answer_gap(teacher, 2.0)
    assert pull.teacher.episodes == 2
    assert float(gap(model)) < float(gap(plain))
    assert not any("call" in vars(layer) for layer in model.layers)
    assert "compute_loss" not in vars(model)


@pytest.mark.slow
def test_they_compose_with_qan_and_with_several_steps_in_one_call():
    model = student(steps_per_execution=2)
    pull = MetaMomentum(student(seed=1), strength=0.5, form=Features())
    qan = QANCallback(agent=RandomAgent(0))
    fit(model, qan, pull, epochs=5, batch_size=4, validation_data=(X, Y))
    assert qan.episodes == 1


@pytest.mark.slow
def test_answers_that_are_probabilities_are_taken_by_their_logarithms():
    def made(seed, activation):
        return keras.Sequential(
            [
                keras.layers.Input((6, 6, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(
                    2, activation, kernel_initializer=keras.initializers.GlorotUniform(seed)
                ),
            ]
        )

    weights = []
    for activation, from_logits in ((None, True), ("softmax", False)):
        model = made(0, activation)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        model.compile(keras.optimizers.SGD(RATE), loss, jit_compile=False)
        fit(model, MetaMomentum(made(1, activation), strength=0.5, form=Distillation()))
        weights.append(np.array(model.layers[-1].kernel))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-4, atol=1e-6)


class OwnModel(keras.Model):
    """Its layers are made in another order than they are called in."""

    def __init__(self, seed):
        super().__init__()
        kernel = keras.initializers.GlorotUniform(seed)
        self.answer = keras.layers.Dense(2, "softmax", kernel_initializer=kernel)
        self.flatten = keras.layers.Flatten()

    def call(self, x):
        return self.answer(self.flatten(x))


def softmax_by(kind, seed):
    """Models that all compute the same probabilities."""
    if kind == "own model":
        model = OwnModel(seed)
        model(X)
        return model
    activation = {
        "layer": "softmax",
        "tensorflow": tf.nn.softmax,
        "function": lambda logits: keras.activations.softmax(logits),
    }.get(kind)
    inputs = keras.Input((6, 6, 1))
    dense = keras.layers.Dense(
        2, activation, kernel_initializer=keras.initializers.GlorotUniform(seed)
    )
    outputs = dense(keras.layers.Flatten()(inputs))
    if kind == "operation":
        outputs = keras.ops.softmax(outputs)
    elif kind == "layers behind":
        outputs = keras.layers.Reshape((2,))(keras.layers.Softmax()(outputs))
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    "kind", ["layer", "tensorflow", "function", "operation", "layers behind", "own model"]
)
def test_the_gap_of_probabilities_is_the_same_however_the_softmax_is_computed(kind):
    model, teacher = softmax_by(kind, 0), softmax_by(kind, 1)
    model.compile("sgd", "mse")
    bound = Distillation(2.0).bind(model, None)
    bound.teach(MetaMomentum(teacher).teacher)
    flat = np.reshape(X, (len(X), -1))
    kernels = [keras.initializers.GlorotUniform(seed)((36, 2)).numpy() for seed in (0, 1)]
    own, theirs = (flat @ kernel / 2.0 for kernel in kernels)
    p, q = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (theirs, own))
    expected = 2.0**2 * np.mean(np.sum(p * np.log(p / q), axis=1))
    assert float(bound.loss(X, model(X))) == pytest.approx(expected, rel=1e-3)


def test_logits_beside_a_softmax_within_the_network_are_logits():
    inputs = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(inputs)
    gate = keras.layers.Dense(36, "softmax", kernel_initializer="glorot_uniform")(flat)
    outputs = keras.layers.Dense(2)(flat * gate)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    bound = Distillation(1.0).bind(model, None)
    bound.teach(MetaMomentum(keras.models.clone_model(model)).teacher)
    other = bound.network
    p, q = (tf.nn.softmax(one(X)).numpy() for one in (other, model))
    expected = np.mean(np.sum(p * np.log(p / q), axis=1))
    assert float(bound.loss(X, model(X))) == pytest.approx(expected, rel=1e-3)


def test_a_student_that_keras_cannot_copy_is_refused_with_the_way_round():
    pull = MetaMomentum("previous", form=Features())
    for seed in range(2):
        model = OwnModel(seed)
        model(X)
        model.compile("sgd", "sparse_categorical_crossentropy")
        if seed:
            with pytest.raises(ValueError, match=r"cannot make one of a OwnModel.*form=Pull"):
                fit(model, pull)
        else:
            fit(model, pull)


@pytest.mark.parametrize("form", [Features(), Distillation()])
def test_a_model_that_is_not_built_is_refused(form):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"not built yet.*Begin it with keras\.Input"):
        fit(model, MetaMomentum("previous", form=form))


def test_a_loop_that_does_not_say_how_long_it_is_needs_steps():
    model = softmax_by("layer", 0)
    model.compile("sgd", "mse")
    pull = MetaMomentum(softmax_by("layer", 1), form=Features())
    with pytest.raises(ValueError, match="expected steps="):
        keras.callbacks.CallbackList([pull], model=model).on_train_begin()


def flat(units):
    model = keras.Sequential(
        [keras.layers.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(units)]
    )
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("model", "teacher", "more", "message"),
    [
        (flat, flat, {"form": Distillation()}, "two classes or more"),
        (student, student, {"form": Distillation(), "layers": ["first"]}, "answers alone"),
        (student, flat, {"form": Features()}, "has no layers for first, logits"),
        (student, lambda _: flat(3), {"form": Distillation()}, "expected the same classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(model, teacher, more, message):
    one, other = (flat(1) if made is flat else made(None) for made in (model, teacher))
    with pytest.raises(ValueError, match=message):
        fit(one, MetaMomentum(other, 0.5, **more))


def test_a_training_of_unknown_length_needs_steps():
    batches = (pair for pair in [(X, Y)] * 2)
    pull = MetaMomentum(student(), 0.5, form=Features())
    with pytest.raises(ValueError, match="does not know how long"):
        student().fit(batches, verbose=0, shuffle=False, callbacks=[pull])


def test_a_temperature_is_above_zero():
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        Distillation(0.0)
