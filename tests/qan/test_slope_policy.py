"""QANCallback(policy="slope"): the rule in a fit."""

import json
import math

import keras
import numpy as np
import pytest

from keras_qan import QANCallback


def data(count=256):
    x = np.random.default_rng(0).normal(size=(count, 6)).astype("float32")
    return x, np.sin(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3]


def network(optimizer="adam", rate=None, seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(24, activation="tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse")
    if rate is not None:
        model.optimizer.learning_rate.assign(rate)
    return model


def fit(model, *callbacks, epochs=10, **named):
    x, y = data()
    settings = {"batch_size": 16, "epochs": epochs, "verbose": 0, "shuffle": False, **named}
    return model.fit(x, y, callbacks=list(callbacks), **settings)


class Rates(keras.callbacks.Callback):
    """Keeps the rate of every step."""

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


def slope():
    return QANCallback(policy="slope")


@pytest.mark.slow
def test_it_begins_low_rises_to_a_good_rate_and_falls_to_nothing():
    rates, model = Rates(), network(rate=1e-3)
    history = fit(model, slope(), rates).history
    plain = fit(network(rate=1e-3)).history
    assert rates.rates[0] == pytest.approx(1e-5)
    assert 3e-3 < max(rates.rates) < 0.3
    assert rates.rates[-1] < 0.1 * max(rates.rates)
    assert history["loss"][-1] < plain["loss"][-1]
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(1e-3)


@pytest.mark.stress
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "lion"])
def test_from_any_rate_it_ends_where_it_ends_from_a_good_one(optimizer):
    losses = {}
    for rate in (1e-9, 1e-5, 1e-3, 1e-1, 10.0):
        losses[rate] = math.log(
            fit(network(optimizer, rate), slope(), epochs=20).history["loss"][-1]
        )
    start = math.log(fit(network(optimizer, 1e-12), epochs=1).history["loss"][-1])
    assert max(losses.values()) < start - 1.0, losses


@pytest.mark.slow
def test_where_no_gradient_comes_back_the_fit_is_bit_for_bit_the_fit_without():
    plain, steered = network("ftrl", 0.05), network("ftrl", 0.05)
    fit(plain, epochs=2)
    fit(steered, slope(), epochs=2)
    for first, second in zip(plain.weights, steered.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


@pytest.mark.slow
def test_one_line_at_the_end_says_what_it_did(capsys):
    fit(network(rate=1e-3), slope(), epochs=2, verbose=2)
    assert "QAN: peak rate" in capsys.readouterr().out.splitlines()[-1]
    fit(network("ftrl", 0.05), slope(), epochs=1, verbose=2)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("QAN held the rate of 0.05: Ftrl has no slot")
    fit(network(rate=1e-3), slope(), epochs=1)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_decisions_hold_the_ratio(tmp_path):
    callback = QANCallback(tmp_path, policy="slope")
    assert not callback.explore
    fit(network(rate=1e-3), callback, epochs=4)
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    found = [line["slope_ratio"] for line in lines]
    assert found[0] is None  # nothing was measured before the first step
    assert all(isinstance(ratio, float) for ratio in found[1:])
    assert all(line["slope_error"] > 0.0 for line in lines[1:])
    # It learns nothing, and the directory takes another run.
    fit(network(rate=1e-3), QANCallback(tmp_path, policy="slope"), epochs=2)


@pytest.mark.slow
def test_a_trained_model_goes_on_gently_and_no_higher_than_its_own_rate():
    model, rates = network(rate=1e-3), Rates()
    fit(model, epochs=3)
    fit(model, slope(), rates, epochs=6)
    assert rates.rates[0] == pytest.approx(1e-4)
    assert max(rates.rates) == pytest.approx(1e-3, rel=0.3)
    assert max(rates.rates) <= 1e-3 * (1 + 1e-6)


@pytest.mark.slow
def test_a_further_fit_of_the_same_training_holds_the_rate_that_was_found():
    callback, model, rates = slope(), network(rate=1e-3), Rates()
    fit(model, callback)
    fit(model, callback, rates, epochs=3)
    assert len(set(rates.rates)) == 1
    assert rates.rates[0] > 1e-3


@pytest.mark.slow
def test_a_short_fit_is_no_worse_than_the_fit_without():
    steered = fit(network(rate=1e-3), slope(), epochs=4).history["loss"][-1]
    plain = fit(network(rate=1e-3), epochs=4).history["loss"][-1]
    assert steered < 1.02 * plain


@pytest.mark.slow
def test_a_training_that_begins_too_high_is_rolled_back():
    callback = slope()
    losses = fit(network("sgd", 1e4), callback, epochs=10).history["loss"]
    assert losses[-1] < 0.6


def test_a_resumed_fit_whose_slope_is_unknown_keeps_its_rate():
    rates, model = Rates(), network("ftrl", 0.05)
    fit(model, slope(), rates, epochs=4, initial_epoch=3)
    np.testing.assert_allclose(rates.rates, 0.05, rtol=1e-6)


@pytest.mark.slow
def test_the_window_begins_anew_at_every_change_of_however_small_a_rate(tmp_path):
    callback = QANCallback(tmp_path, policy="slope")
    fit(network(rate=1e-8), callback, epochs=2)
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines]
    # Five steps apart, raised each time; an old window would bring other ratios with it.
    assert rates == sorted(rates)
    assert rates[-1] > 100 * rates[0]
