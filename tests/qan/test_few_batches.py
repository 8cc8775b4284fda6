"""On a few batches that come again and again a raised rate comes down once the loss has fallen."""

import math

import keras
import numpy as np
import pytest
from helpers.fake_model import FakeModel
from helpers.fake_training import Recorder
from sklearn.datasets import load_breast_cancer, load_wine

from keras_qan import QANCallback
from keras_qan.actions import Hold, LinearFall
from keras_qan.observations import CurrentLearningRate, loss_history
from keras_qan.qan.controller import Controller
from keras_qan.qan.episode import Episode
from keras_qan.qan.rewards import LogLossDrop
from keras_qan.qan.rule import DecisionContext


def episode(best, has_few_batches=True):
    history = loss_history.start_history()._replace(best=best)
    rates = np.array([0.01, 0.02])
    return Episode(
        np.zeros(1), initial_rates=rates, history=history, has_few_batches=has_few_batches
    )


def test_rates_are_free_before_the_loss_has_fallen():
    assert np.all(episode(best=-0.4).limit_rates(np.array([1.0, 2.0])) == np.inf)


def test_rates_are_free_where_batches_are_many():
    found = episode(best=-3.0, has_few_batches=False).limit_rates(np.array([1.0, 2.0]))
    assert np.all(found == np.inf)


def test_afterwards_they_are_at_most_twice_the_initial_ones():
    assert episode(best=-0.6).limit_rates(np.array([0.05, 0.1])).tolist() == [0.02, 0.04]


def test_or_a_twelfth_of_those_that_led_there_where_a_training_began_far_too_low():
    found = episode(best=-0.6).limit_rates(np.array([1.2, 2.4]))
    assert found == pytest.approx([0.1, 0.2])


def test_the_limit_stays_what_it_was_and_is_kept_in_a_checkpoint():
    first = episode(best=-0.6)
    first.limit_rates(np.array([1.2, 2.4]))
    first.note_validation(-1.0)
    other = episode(best=0.0)
    other.restore(first.arrays())
    for each in (first, other):
        assert each.limit_rates(np.array([0.05, 0.1])) == pytest.approx([0.2, 0.4])


def test_the_limit_grows_while_the_validation_loss_is_as_low_as_the_training_loss():
    each, rates = episode(best=-0.6), np.array([0.05, 0.1])
    each.note_validation(-2.0)  # nothing is limited yet
    each.limit_rates(rates)
    each.log_loss = -1.0
    found = []
    for validation in (-1.0, -0.95, -0.85, -1.2):
        each.note_validation(validation)
        found.append(each.limit_rates(rates)[0])
    assert found == pytest.approx([0.04, 0.08, 0.02, 0.04])


COSINE = 0.5 * (1.0 + math.cos(math.pi / 8))


@pytest.mark.parametrize(
    ("schedule", "has_few_batches", "share"),
    [
        (LinearFall(0.5), False, 1.0),
        (LinearFall(0.5), True, COSINE),
        (lambda progress: 0.1 * (1.0 - progress), True, 0.0875),  # lower already
        (None, True, 1.0),
    ],
    ids=["many", "few", "few, a lower schedule", "few, no schedule"],
)
def test_the_fall_of_the_rate_begins_at_once(schedule, has_few_batches, share):
    controller = Controller(
        Recorder(), [Hold()], [CurrentLearningRate()], LogLossDrop(), (1e-6, 10.0), schedule
    )
    controller.build(0)
    model = FakeModel((2.0,))
    first = DecisionContext(0.0, num_decisions=4, num_steps=40, interval=10, taken=10)
    controller.begin(model, first, explore=False, has_few_batches=has_few_batches)
    assert model.rates == pytest.approx([2.0 * share])  # of the middle of the first interval


def split(load):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")[order]
    half = len(x) // 2
    return (x[:half], y[order][:half]), (x[half:], y[order][half:])


class Rates(keras.callbacks.Callback):
    """Keeps the rate after each step."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate.numpy()))


def fitted(load, epochs, callbacks, batch_size=32):
    train, held_out = split(load)
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input(train[0].shape[1:]), dense(64, "relu"), dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(*train, batch_size, epochs, verbose=0, callbacks=callbacks)
    return model.evaluate(*held_out, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize(("load", "epochs"), [(load_breast_cancer, 10), (load_wine, 30)])
def test_a_small_table_is_not_learned_by_heart(load, epochs):
    assert fitted(load, epochs, [QANCallback()]) < 1.02 * fitted(load, epochs, [])


@pytest.mark.slow
def test_the_rate_comes_down_within_the_training_and_stays_down():
    rates = Rates()
    fitted(load_breast_cancer, 10, [QANCallback(), rates])  # 90 steps: no schedule applies
    assert max(rates.seen[:20]) > 0.004
    assert max(rates.seen[20:]) <= 0.002 + 1e-9


@pytest.mark.slow
def test_a_few_epochs_are_left_to_the_policy():
    rates = Rates()
    fitted(load_breast_cancer, 4, [QANCallback(), rates])
    assert max(rates.seen[-5:]) > 0.004
