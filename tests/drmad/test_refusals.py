"""What does not fit is named, with what to do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.drmad_cases import batches, build, data, tuner

from keras_qan import drmad

DENSE = keras.layers.Dense


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def compiled(*layers, loss="sparse_categorical_crossentropy", inputs=(4,)):
    def made():
        model = keras.Sequential([keras.Input(inputs), *[layer() for layer in layers]])
        model.compile(loss=loss)
        return model

    return made


@pytest.mark.slow
def test_a_hyperparameter_that_nothing_depends_on_is_named():
    class Useless(drmad.Hyperparameter):
        default_bounds = (0.1, 10.0)
        default_initial = 1.0

        def shape(self, info):
            return (2,)

    search = tuner([drmad.L2(), Useless()], steps=2)
    with pytest.raises(ValueError, match=r"does not depend on Useless: .* Leave it out"):
        search.search(1)


def test_data_whose_order_changes_is_refused():
    x, y = data()
    shuffled = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(24, seed=1).batch(8)
    with pytest.raises(ValueError, match=r"cannot be replayed: .* reshuffle_each_iteration=False"):
        tuner([drmad.L2()], train=shuffled)
    with pytest.raises(ValueError, match=r"train=generator; expected arrays .* cannot be replayed"):
        tuner([drmad.L2()], train=(pair for pair in [data()]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": None}, "validation=None; expected validation data"),
        ({"train": None}, "train=None; expected train data"),
        ({"train": (np.zeros((0, 4)), np.zeros(0))}, "at least one, in every array"),
        ({"train": (np.zeros((3, 4)), np.zeros(4))}, "same number"),
        ({"train": batches(*data()).repeat()}, r"without end; .* Leave out .repeat\(\)"),
        ({"train": batches(*data()).take(0)}, "empty train data"),
        ({"train": tf.data.Dataset.from_tensor_slices(data()[0]).batch(8)}, r"expected \(x, y\)"),
        ({"train": tf.data.Dataset.from_tensor_slices(data())}, "not batched"),
        ({"hyperparameters": []}, "expected at least one of L2"),
        ({"hyperparameters": ["l2"]}, "expected at least one of L2"),
        ({"hyperparameters": [drmad.Momentum(), drmad.Momentum()]}, "Momentum more than once"),
        ({"method": "magic"}, "method is 'magic'; expected one of 'drmad'"),
        ({"build_model": None}, "build_model=None; expected a function"),
        ({"build_model": lambda: 3}, "returned int; expected a keras.Model"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        tuner(**{"hyperparameters": [drmad.L2()]} | options)


@pytest.mark.parametrize(
    ("build_model", "hyperparameter", "message"),
    [
        (lambda: Subclassed(), drmad.L2(), "no weights yet"),
        (compiled(lambda: DENSE(3, trainable=False)), drmad.L2(), "no trainable weights"),
        (compiled(lambda: DENSE(3), loss=None), drmad.L2(), "loss=None; expected one loss"),
        (
            compiled(lambda: DENSE(3, dtype="mixed_float16")),
            drmad.L2(),
            "dtype policy mixed_float16; expected float32 .* Mixed precision is refused",
        ),
        (
            compiled(lambda: DENSE(3, dtype="float64"), lambda: DENSE(3)),
            drmad.L2(),
            "weights of .* expected one type",
        ),
        (compiled(lambda: DENSE(3)), drmad.L2(layers="none"), r"layers=\('none',\)"),
        (compiled(lambda: DENSE(1), loss="mse"), drmad.LabelSmoothing(), "categorical"),
        (compiled(lambda: DENSE(1), loss="mse"), drmad.LossWeights(), "no classes"),
        (compiled(keras.layers.BatchNormalization), drmad.L2(), "no trainable kernels"),
        (compiled(keras.layers.BatchNormalization), drmad.InitialScale(), "without kernels"),
    ],
)
def test_models_that_do_not_fit(build_model, hyperparameter, message):
    with pytest.raises(ValueError, match=message):
        tuner([hyperparameter], build_model=build_model)


def test_a_model_with_two_outputs_is_refused():
    def made():
        inputs = keras.Input((4,))
        return keras.Model(inputs, [DENSE(3)(inputs), DENSE(3)(inputs)])

    training = drmad.Training(loss="mse")
    with pytest.raises(ValueError, match=r"2 outputs; expected .* one"):
        tuner([drmad.L2()], build_model=made, training=training)


@pytest.mark.slow
def test_randomness_that_no_seed_governs_is_refused():
    class Noise(keras.layers.Layer):
        def call(self, inputs, training=False):
            return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs

    with pytest.raises(ValueError, match=r"two different gradients .*SeedGenerator"):
        tuner([drmad.L2()], build_model=compiled(Noise, lambda: DENSE(3)))


@pytest.mark.slow
def test_the_implicit_method_refuses_what_moves_no_minimum():
    search = tuner([drmad.L2(), drmad.Momentum()], steps=2, method="implicit")
    with pytest.raises(ValueError, match="'implicit' was given with Momentum; expected"):
        search.search(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drmad.L2(per="neuron"), "per is 'neuron'; expected one of layer, unit"),
        (lambda: drmad.L2(bounds=(0.0, 1.0)), r"bounds=\(0.0, 1.0\); expected 0 < low < high"),
        (
            lambda: drmad.Momentum(bounds=(0.1, 1.0)),
            "0 < low < high < 1, as its transform is logit",
        ),
        (lambda: drmad.L2(initial=20.0), "initial=20.0; expected a number within its bounds"),
        (lambda: drmad.L2(initial="high"), "initial='high'"),
        (
            lambda: drmad.LearningRate(schedule_points=0),
            "schedule_points is 0; expected at least 1. 1 is constant",
        ),
        (lambda: drmad.LearningRate(bounds=(1, 2, 3)), "expected two numbers"),
        (lambda: drmad.OuterOptimizer(rule="newton"), "rule is 'newton'; expected one of"),
        (
            lambda: drmad.OuterOptimizer(step_size=0.0),
            "step_size is 0.0; expected a finite number above 0",
        ),
        (lambda: drmad.OuterOptimizer(beta_1=1.0), r"beta_1 is 1.0; expected a number in \[0, 1\)"),
        (lambda: drmad.Training(steps=2.5), "steps is 2.5; expected a whole number"),
        (lambda: drmad.Training(epochs=0), "epochs is 0; expected at least 1"),
        (
            lambda: drmad.Training(learning_rate=-1.0),
            "learning_rate is -1.0; expected a finite number above 0",
        ),
        (lambda: drmad.Training(momentum=1.0), r"momentum is 1.0; expected a number in \[0, 1\)"),
        (lambda: drmad.Training(seed=-1), "seed is -1; expected at least 0"),
        (lambda: drmad.Drmad(legs=0), "legs is 0; expected a number of at least 1"),
        (lambda: drmad.Drmad(legs=(5, 3)), "ascending"),
        (lambda: drmad.Drmad(reverse_steps=0), "reverse_steps is 0; expected at least 1"),
        (lambda: drmad.Drmad(max_growth=0.5), "max_growth is 0.5; expected above 1"),
        (lambda: drmad.Exact(segment=0), "segment is 0; expected at least 1"),
        (lambda: drmad.Implicit(terms=0), "terms is 0; expected at least 1"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_loss_that_takes_the_mean_itself_is_refused():
    training = drmad.Training(loss=lambda y, outputs: tf.reduce_mean(outputs))
    with pytest.raises(ValueError, match="one number for the whole batch"):
        tuner([drmad.L2()], build_model=lambda: build(), training=training)


def test_a_former_name_gives_the_new_class_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"drmad\.Outer is now .*OuterOptimizer"):
        assert drmad.Outer is drmad.OuterOptimizer
