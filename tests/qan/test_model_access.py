import keras
import pytest
import tensorflow as tf

from keras_qan.qan.model_access import LossSums


@pytest.fixture
def model():
    made = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", jit_compile=False)
    return made


def values(sums):
    return float(sums.total), float(sums.count)


def test_sums_that_keras_keeps_are_left_to_keras(model):
    x, y = tf.zeros([8, 1]), tf.ones([8, 1])
    model.fit(x, y, batch_size=4, verbose=0)
    sums = LossSums(model)
    kept = values(sums)
    assert kept[1] == 8.0  # Keras counts examples
    sums.add(3.0)
    sums.end_epoch()
    assert values(sums) == kept


def test_sums_of_a_training_step_that_keeps_none_begin_anew_with_each_epoch():
    class Own(keras.Model):
        metrics = property(lambda self: [])

    sums = LossSums(Own())
    sums.add(3.0)
    sums.add(5.0)
    assert values(sums) == (8.0, 2.0)
    sums.end_epoch()
    sums.add(2.0)
    assert values(sums) == (2.0, 1.0)


def test_sums_that_a_selector_estimates_take_the_place_of_keras_own(model):
    total, count = tf.Variable(6.0), tf.Variable(2.0)
    sums = LossSums(model, (total, count))
    sums.add(100.0)
    assert values(sums) == (6.0, 2.0)
    sums.end_epoch()
    assert (float(total), float(count)) == (0.0, 0.0)
