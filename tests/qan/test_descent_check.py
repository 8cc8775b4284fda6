"""Where the loss does not fall as its slopes say, the rate is left as it was compiled."""

import math
import warnings

import keras
import numpy as np
import pytest
from helpers.students import data, student
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from keras_qan import QANCallback
from keras_qan.qan.descent_check import DescentCheck
from keras_qan.qan.episode import Episode
from keras_qan.qan.slope_ratio import SlopeEstimate, estimate_of


def slope(drop, error=0.0):
    """An estimate that promises a drop for each step, with an error of it."""
    return SlopeEstimate(ratio=drop, error=error, slope=-1.0, num_pairs=9, num_steps=10)


def test_a_loss_that_falls_as_promised_is_no_contradiction():
    check = DescentCheck(first_loss=2.0)
    # 0.05 a step: means of 10 steps each.
    assert not any(check.contradicts(slope(0.05), 10, loss) for loss in (1.75, 1.25, 0.75, 0.25))


def test_promises_of_more_than_twice_what_is_seen_and_a_quarter_of_the_loss_contradict_it():
    check = DescentCheck(first_loss=2.0)
    # To the middle of the second interval 15 steps: 0.75 promised, 0.1 seen, 2 · 0.1 + 0.5 < 0.75.
    assert not check.contradicts(slope(0.05), 10, 2.0)
    assert check.contradicts(slope(0.05), 10, 1.9)
    check = DescentCheck(first_loss=2.0)
    check.contradicts(slope(0.05), 10, 2.0)
    assert not check.contradicts(slope(0.05), 10, 1.8)


def test_of_accumulated_gradients_one_step_counts_for_its_batches():
    check = DescentCheck(first_loss=2.0)
    assert not check.contradicts(slope(0.05)._replace(batches_a_step=4), 40, 2.0)
    # To the middle of the second interval 15 steps: 0.75 promised.
    assert check.contradicts(slope(0.05)._replace(batches_a_step=4), 40, 1.9)


def test_what_may_be_noise_of_the_slopes_promises_nothing():
    check = DescentCheck(first_loss=2.0)
    assert not any(check.contradicts(slope(0.05, error=0.026), 10, 2.0) for _ in range(100))


def test_a_loss_that_comes_down_from_a_peak_is_no_contradiction():
    check = DescentCheck(first_loss=2.0)
    assert not any(check.contradicts(slope(2.0), 10, loss) for loss in (40.0, 20.0, 2.0))


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_says_nothing(loss):
    check = DescentCheck(first_loss=2.0)
    assert not check.contradicts(slope(9.0), 10, loss)


def test_an_estimate_that_is_not_known_says_nothing():
    assert not DescentCheck(first_loss=2.0).contradicts(SlopeEstimate(), 10, 2.0)


def test_a_first_batch_that_was_an_easy_one_is_no_contradiction():
    # As of the 96 examples of tests/helpers/students.py in batches of 8, in the order of seed 9.
    check = DescentCheck(first_loss=0.584)
    first = SlopeEstimate(ratio=0.48, error=0.03, slope=-0.227, num_pairs=4, num_steps=5)
    assert not check.contradicts(first, 5, 0.773)
    assert not check.contradicts(first._replace(num_pairs=9), 5, 0.12)
    assert check.contradicts(first._replace(num_pairs=9), 5, 0.773)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 22, 41])
def test_a_small_shuffled_training_is_told_nothing_of_an_order(seed):
    # Three of the first sixty orders: in each the first batch is an easy one.
    x, y = data()
    order = np.random.default_rng(seed).permutation(len(x))
    steer = {"callbacks": [QANCallback()], "shuffle": False, "verbose": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        student().fit(x[order], y[order], batch_size=8, **steer)


def test_a_checkpoint_written_before_batches_were_counted_is_read():
    check, other = DescentCheck(first_loss=2.0), DescentCheck()
    check.contradicts(slope(0.05), 10, 2.0)
    other.restore(check.array()[:4])
    assert other.contradicts(slope(0.05), 10, 1.9)


def test_after_a_contradiction_the_sum_begins_anew():
    check = DescentCheck(first_loss=2.0)
    said = [check.contradicts(slope(0.05), 10, 2.0) for _ in range(5)]
    # 0.25 · 2.0 is exceeded 15 steps after the start, and 15 after the second interval's middle.
    assert said == [False, True, False, True, False]
    assert check.count == 2


def test_a_network_that_had_learned_is_left_its_rates_at_the_first_change():
    episode = Episode(np.zeros(1), initial_rates=np.array([0.1]))
    assert episode.leave_alone(np.array([0.5])) == 0.1
    episode.history = episode.history._replace(best=-1.5)
    assert episode.leave_alone(np.array([0.5])) == 0.5
    assert episode.holds_still
    assert not episode.anneals
    episode.descent.count = 2
    assert episode.leave_alone(np.array([0.5])) == 0.1
    assert episode.leave_alone(np.array([0.01])) == 0.01


def test_its_state_goes_on_from_an_array():
    check, other = DescentCheck(first_loss=2.0), DescentCheck()
    check.contradicts(slope(0.05), 10, 2.0)
    other.restore(check.array())
    assert other.contradicts(slope(0.05), 10, 1.9)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(1e-3, 1.9),
    noise=st.floats(0.0, 2.0),
    momentum=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 2**16),
)
def test_shuffled_batches_of_a_parabola_are_never_a_contradiction(rate, noise, momentum, seed):
    # The loss of a batch is ½‖w - b‖² with b drawn anew; curvature 1, so that it falls below 2.
    rng = np.random.default_rng(seed)
    w, update = rng.normal(size=20) * 3.0, np.zeros(20)
    check, rows, losses = None, [], []
    for step in range(1, 201):
        batch = noise * rng.normal(size=20)
        losses.append(0.5 * float(np.sum((w - batch) ** 2)))
        gradient, last = w - batch, update
        update = momentum * update - rate * (1.0 - momentum) * gradient
        w = w + update
        rows.append([gradient @ update, gradient @ last, update @ update, w @ w])
        check = check or DescentCheck(losses[0])
        if step % 10 == 0:
            found = estimate_of(np.array(rows[-8:]))
            assert not check.contradicts(found, 10, float(np.mean(losses[-10:])))


def digits_by_class():
    x, y = load_digits(return_X_y=True)
    order = np.argsort(y[:1280], kind="stable")
    return (x[:1280][order] / 16).astype("float32"), y[:1280][order], x[1280:] / 16, y[1280:]


def train(x, y, callbacks, epochs=8):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((64,)), dense(64, "relu"), dense(64, "relu"), dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return model


@pytest.mark.slow
def test_data_sorted_by_class_are_trained_on_at_the_compiled_rate():
    x, y, *held_out = digits_by_class()
    _, accuracy = train(x, y, []).evaluate(*held_out, verbose=0)
    rates = []
    noted = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rates.append(logs["learning_rate"])
    )
    with pytest.warns(RuntimeWarning, match="come in an order.*Shuffle the data") as heard:
        steered = train(x, y, [QANCallback(), noted])
    assert len([each for each in heard if "QAN" in str(each.message)]) == 1
    assert rates[1:] == pytest.approx([1e-3] * 7)
    assert steered.evaluate(*held_out, verbose=0)[1] > accuracy - 0.05


@pytest.mark.slow
def test_the_same_data_shuffled_are_no_contradiction():
    x, y, *_ = digits_by_class()
    order = np.random.default_rng(0).permutation(len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        train(x[order], y[order], [QANCallback()])
