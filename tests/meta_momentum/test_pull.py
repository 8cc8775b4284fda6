"""The pull on weights: the original's rule, its time, and what it leaves alone."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.students import data, student

from keras_qan import MetaMomentum, QANCallback
from keras_qan.agents.scripted import RandomAgent
from keras_qan.meta_momentum import ConstantStrength, Pull

X, Y = data(64)


def fit(model, *callbacks, epochs=1, batch_size=16, **more):
    return model.fit(
        X, Y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0,
        callbacks=list(callbacks), **more,
    )  # fmt: skip


def kernels(model):
    return [np.array(v) for v in model.weights if len(v.shape) >= 2]


def biases(model):
    return [np.array(v) for v in model.weights if len(v.shape) == 1]


def still(seed=0, **more):
    """A student whose own training moves nothing."""
    return student(keras.optimizers.SGD(0.0), seed=seed, **more)


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_after_each_update_the_kernels_move_toward_the_teachers(steps_per_execution):
    model, teacher = still(steps_per_execution=steps_per_execution), student(seed=1)
    before, there, own = kernels(model), kernels(teacher), biases(model)
    fit(model, MetaMomentum(teacher, strength=0.1, steps=100, fade=ConstantStrength()), epochs=2)
    for w, start, target in zip(kernels(model), before, there, strict=True):
        # Eight steps, each of which leaves nine tenths of the way: 0.9^8 = 0.43046721.
        np.testing.assert_allclose(w - target, 0.43046721 * (start - target), rtol=1e-4, atol=1e-6)
    for bias, start in zip(biases(model), own, strict=True):
        np.testing.assert_array_equal(bias, start)


def test_it_fades_to_nothing_over_its_steps():
    model, teacher = still(), student(seed=1)
    before, there = kernels(model), kernels(teacher)
    fit(model, MetaMomentum(teacher, strength=0.4, steps=2), epochs=2)
    for w, start, target in zip(kernels(model), before, there, strict=True):
        # Shares 1 and 1/2, then none: (1 - 0.4)(1 - 0.2) = 0.48 of the way is left.
        np.testing.assert_allclose(w - target, 0.48 * (start - target), rtol=1e-4, atol=1e-6)


def test_it_lasts_for_one_over_its_strength_where_nothing_is_said():
    assert Pull().default_steps(0.01) == 100
    model, teacher = still(), student(seed=1)
    before, there = kernels(model), kernels(teacher)
    fit(
        model, MetaMomentum(teacher, strength=0.25, fade=ConstantStrength()), epochs=2
    )  # 4 of 8 steps
    for w, start, target in zip(kernels(model), before, there, strict=True):
        np.testing.assert_allclose(w - target, 0.75**4 * (start - target), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_only_the_named_layers_are_pulled_and_the_update_comes_first():
    plain, pulled, teacher = student(), student(), student(seed=1)
    fit(plain, batch_size=64)
    fit(pulled, MetaMomentum(teacher, strength=0.5, layers=["first"]), batch_size=64)
    (first, last), (there, _) = kernels(plain), kernels(teacher)
    np.testing.assert_allclose(kernels(pulled)[0], 0.5 * (first + there), atol=1e-6)
    np.testing.assert_array_equal(kernels(pulled)[1], last)


@pytest.mark.slow
def test_a_strength_of_zero_leaves_a_training_bit_for_bit_as_it_is():
    plain, pulled = student(), student()
    losses = [
        fit(plain, epochs=2).history["loss"],
        fit(pulled, MetaMomentum(student(seed=1), strength=0.0), epochs=2).history["loss"],
    ]
    assert losses[0] == losses[1]
    for one, other in zip(plain.get_weights(), pulled.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_model_is_left_as_it_was_also_after_a_fit_that_was_broken_off():
    model, pull = still(), MetaMomentum(student(seed=1), strength=0.1)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, pull, Stop())
    fit(model, keras.callbacks.Callback(), pull)
    assert "train_step" not in vars(model)
    assert "compute_loss" not in vars(model)
    before = kernels(model)
    fit(model)
    for w, start in zip(kernels(model), before, strict=True):
        np.testing.assert_array_equal(w, start)


@pytest.mark.slow
def test_several_pulls_in_one_fit_all_act_and_all_leave():
    model, one, other = still(), student(seed=1), student(seed=2)
    before, first, second = kernels(model)[0], kernels(one)[0], kernels(other)[0]
    pulls = [MetaMomentum(one, strength=0.5, steps=1), MetaMomentum(other, strength=0.25, steps=1)]
    for _ in range(2):
        fit(model, *pulls, batch_size=64)
        before = 0.75 * (0.5 * before + 0.5 * first) + 0.25 * second
        np.testing.assert_allclose(kernels(model)[0], before, atol=1e-6)
        assert "train_step" not in vars(model)
    functions = {id(pull._patch._patch._kept.own) for pull in pulls}
    fit(model, *pulls, batch_size=64)
    assert functions == {id(pull._patch._patch._kept.own) for pull in pulls}, "compiled anew"


def test_nothing_is_compiled_anew_for_the_next_fit_of_a_model():
    model, pull = still(), MetaMomentum("previous", strength=0.1)
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return x

    model = keras.Sequential([keras.layers.Input((6, 6, 1)), Counting(), *model.layers])
    model.compile(
        keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )  # fmt: skip
    fit(model, pull)
    count = len(traces)
    for _ in range(2):
        fit(model, pull)
    assert len(traces) == count
    assert pull.teacher.episodes == 3


@pytest.mark.slow
def test_it_composes_with_qan_in_either_order():
    teacher = student(seed=1)
    for order in (1, -1):
        model = student()
        qan = QANCallback(agent=RandomAgent(0))
        callbacks = [qan, MetaMomentum(teacher, strength=0.3, steps=50)][::order]
        fit(model, *callbacks, epochs=5, validation_data=(X, Y))
        assert qan.episodes == 1
        apart = np.linalg.norm(kernels(model)[0] - kernels(teacher)[0])
        assert apart < 0.8 * np.linalg.norm(kernels(student())[0] - kernels(teacher)[0])
        assert "train_step" not in vars(model)


@pytest.mark.slow
def test_copies_share_the_teacher_and_nothing_of_a_running_fit():
    pull = MetaMomentum("previous", strength=0.1)
    fit(still(), pull)
    other = copy.deepcopy(pull)
    assert other.teacher is pull.teacher
    assert other._patch is None
    fit(still(), other)
    assert pull.teacher.episodes == 2


@pytest.mark.slow
def test_it_acts_once_on_every_replica():
    devices = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(
            devices[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < 2:
            pytest.skip("the devices of this process are fixed already")
    teacher = student(seed=1)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = still()
    before, there = kernels(model), kernels(teacher)
    fit(model, MetaMomentum(teacher, strength=0.1, steps=100, fade=ConstantStrength()))
    for w, start, target in zip(kernels(model), before, there, strict=True):
        np.testing.assert_allclose(w - target, 0.9**4 * (start - target), rtol=1e-4, atol=1e-6)


def factorisation(seed):
    """A network of embeddings alone."""
    draw = keras.initializers.RandomNormal(seed=seed)
    users, items = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    vectors = [
        keras.layers.Embedding(size, 3, embeddings_initializer=draw, name=name)(one)
        for size, one, name in ((5, users, "users"), (7, items, "items"))
    ]
    model = keras.Model([users, items], keras.layers.Flatten()(keras.layers.Dot(-1)(vectors)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


@pytest.mark.parametrize("layers", [None, ["items"]])
def test_a_model_without_kernels_is_pulled_by_what_is_watched_of_it(layers):
    model, teacher = factorisation(0), factorisation(1)
    before = {v.path.split("/")[-2]: np.array(v) for v in model.weights}
    there = {v.path.split("/")[-2]: np.array(v) for v in teacher.weights}
    pull = MetaMomentum(teacher, strength=0.1, steps=10, layers=layers, fade=ConstantStrength())
    ids = np.zeros((4, 1), "int32")
    model.fit([ids, ids], ids, batch_size=4, verbose=0, callbacks=[pull])
    (watched,) = layers or ["users"]  # the first matrix, as QANCallback watches it
    for variable in model.weights:
        name = variable.path.split("/")[-2]
        share = 0.1 if name == watched else 0.0
        expected = before[name] + share * (there[name] - before[name])
        np.testing.assert_allclose(np.array(variable), expected, atol=1e-7)


def test_matrices_that_the_teacher_lacks_are_named():
    model, teacher = factorisation(0), student()
    ids = np.zeros((4, 1), "int32")
    with pytest.raises(ValueError, match=r"users/embeddings \(5, 3\): the teacher has none"):
        model.fit([ids, ids], ids, verbose=0, callbacks=[MetaMomentum(teacher)])
