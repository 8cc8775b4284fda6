"""A training that takes several calls of `fit`, with `total_steps`."""

import copy

import keras
import numpy as np
import pytest

from keras_qan import QANCallback

RNG = np.random.default_rng(0)
X = RNG.normal(size=(320, 6)).astype("float32")
Y = (X[:, :1] * X[:, 1:2] > 0.0).astype("float32")


def network():
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((6,)), dense(8, "relu"), dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", run_eagerly=False)
    return model


@pytest.fixture(scope="module")
def compiled():
    """One model for all tests, its weights and slots set back for each."""
    model = network()
    first = model.get_weights()
    model.fit(X, Y, batch_size=32, verbose=0)

    def fresh():
        model.set_weights(first)
        for variable in model.optimizer.variables:
            if variable is not model.optimizer._learning_rate:
                variable.assign(np.zeros(variable.shape))
        model.optimizer.learning_rate = 0.01
        return model

    return fresh


def train(model, callback, epochs):
    fitted = model.fit(
        X, Y, batch_size=32, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback]
    )
    return fitted.history["learning_rate"]


def test_fits_of_one_epoch_are_the_same_training_as_one_long_fit(compiled):
    model = compiled()
    expected = train(model, QANCallback(), 12)
    weights = model.get_weights()
    model, callback = compiled(), QANCallback(total_steps=120)
    found = [rate for _ in range(12) for rate in train(model, callback, 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert expected[-1] < 0.1 * expected[1]  # the rate has fallen, once


def test_between_the_fits_the_model_has_its_own_rate(compiled):
    model, callback = compiled(), QANCallback(total_steps=60)
    train(model, callback, 1)
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.01)


def test_an_episode_ends_with_the_last_of_its_steps(tmp_path, compiled):
    callback = QANCallback(tmp_path / "run", total_steps=20)
    model, counts = compiled(), []
    for _ in range(4):
        train(model, callback, 1)
        counts.append(callback.episodes)
    assert counts == [0, 1, 1, 2]


def test_another_model_in_between_ends_the_training(compiled):
    model, callback = compiled(), QANCallback(total_steps=60)
    train(model, callback, 1)
    train(network(), callback, 1)
    rates = train(model, callback, 1)
    assert callback.state.controller.num_begun == 3
    assert np.all(np.isfinite(rates))


def test_a_fit_that_another_callback_stops_ends_the_training(compiled):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model, callback = compiled(), QANCallback(total_steps=60)
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[callback, Stop()])
    train(model, callback, 1)
    assert callback.state.controller.num_begun == 2


def test_copies_keep_the_length():
    callback = copy.deepcopy(QANCallback(total_steps=60))
    model = network()
    train(model, callback, 1)
    train(model, callback, 1)
    assert callback.state.controller.num_begun == 1


def test_fits_beyond_the_length_are_told_and_counted(compiled):
    with pytest.warns(RuntimeWarning, match="total_steps=15.* have 20 steps"):
        train(compiled(), QANCallback(total_steps=15), 2)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "100"])
def test_a_length_that_is_none_is_an_error(wrong):
    with pytest.raises((ValueError, TypeError), match="total_steps"):
        QANCallback(total_steps=wrong)
