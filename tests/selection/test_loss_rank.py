import math

import numpy as np
import pytest
import tensorflow as tf
from helpers.selectors import Training, dataset, loss_of, ready
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.selection import LossRank


@pytest.fixture(scope="module")
def large():
    return LossRank(dataset(200), 50, pressure=100.0, anneal=False, unbiased=True)


@pytest.fixture
def ranked(large):
    """A selector that has ranked 200 examples, the last one's loss being the highest."""
    large.end()
    large.restart()
    training = Training(large, prefetch=0)
    training.steps(4)
    return large, training


@pytest.mark.slow
def test_at_first_everything_is_walked_over_once():
    numbers = Training(ready("LossRank")).steps(7)  # 56 of 60
    assert len(set(numbers.ravel())) == 56


@pytest.mark.slow
def test_examples_are_drawn_with_exponential_probabilities_of_their_rank(ranked):
    _, training = ranked
    drawn = training.steps(800).ravel()
    # p_i ∝ exp(-log(100) i / 200); example 199 has rank 0.
    expected = np.exp(-math.log(100) * np.arange(200) / 200)[::-1]
    expected *= len(drawn) / expected.sum()
    found = np.bincount(drawn, minlength=200)
    chi_square = ((found - expected) ** 2 / expected).sum()
    assert chi_square < 260  # 199 degrees of freedom: mean 199, deviation 20


@pytest.mark.slow
def test_a_pressure_below_one_is_the_same_law_with_the_ranks_turned_round(ranked):
    selector, training = ranked
    selector.press(1e-4)  # from 100 to 1/100
    training.steps(2)
    drawn = training.steps(800).ravel()
    # The probability of the example of rank i is now that of rank 199 - i before.
    p = np.exp(-math.log(100) * np.arange(200) / 200)
    p /= p.sum()
    expected, found = p * len(drawn), np.bincount(drawn, minlength=200)
    assert ((found - expected) ** 2 / expected).sum() < 260
    numbers = training.steps(1)[0]
    np.testing.assert_allclose(training.last[2], 1 / (200 * p[numbers]), rtol=1e-4)


def test_weights_are_one_over_n_p(ranked):
    _, training = ranked
    p = np.exp(-math.log(100) * np.arange(200) / 200)[::-1]
    p /= p.sum()
    numbers = training.steps(1)[0]
    _, _, weight = training.last
    np.testing.assert_allclose(weight, 1 / (200 * p[numbers]), rtol=1e-4)


@pytest.mark.slow
def test_weighted_means_are_unbiased(ranked):
    _, training = ranked
    means = []
    for _ in range(300):
        numbers = training.step()[0]
        means.append(np.mean(training.last[2].numpy() * loss_of(numbers)))
    error = float(np.std(means)) / math.sqrt(len(means))
    assert float(np.mean(means)) == pytest.approx(100.5, abs=4 * error)  # the mean of 1 … 200


@given(st.floats(-18.4, 18.4).map(math.exp), st.integers(0, 10_000))
def test_ranks_stay_within_the_examples_and_weights_are_finite(pressure, number):
    selector = ready("LossRank")
    selector._pressures.append(
        tf.constant([math.log(pressure)], tf.float64), tf.constant(0, tf.int64)
    )
    rank, weight = selector._draw_ranks(tf.constant(number, tf.int64))
    assert 0 <= rank.numpy().min() <= rank.numpy().max() < 60
    assert np.isfinite(weight).all()
    assert (weight.numpy() > 0).all()


def test_without_pressure_every_example_is_as_likely():
    selector = ready("LossRank")
    selector.press(1 / 100)
    rank, weight = selector._draw_ranks(tf.constant(9, tf.int64))
    np.testing.assert_allclose(weight, 1.0, rtol=1e-5)
    assert len(set(rank.numpy())) > 4


def test_ranks_are_found_anew_after_every_pass():
    selector = ready("LossRank")
    training = Training(selector, prefetch=0)
    training.steps(8)
    low = training.steps(8)  # high losses are high numbers
    training.steps(8, losses=lambda numbers: -numbers.astype("float32"))
    turned = training.steps(8, losses=lambda numbers: -numbers.astype("float32"))
    assert low.mean() > 35
    assert turned.mean() < low.mean() - 5


def test_pressure_falls_to_none_at_the_end_of_the_training():
    selector = ready("LossRank")
    Training(selector, num_steps=40)
    at = [float(selector.log_pressure(tf.constant(n, tf.int64))) for n in (0, 10, 40, 90)]
    assert at == pytest.approx([math.log(100), 0.75 * math.log(100), 0.0, 0.0])
    selector.end()
    selector.restart()
    Training(selector)  # of unknown length
    assert float(selector.log_pressure(tf.constant(30, tf.int64))) == pytest.approx(math.log(100))


def test_actions_move_the_pressure_within_its_bounds():
    selector = ready("LossRank")
    Training(selector, prefetch=0)
    now = tf.constant(0, tf.int64)
    found = []
    for action in selector.raw_actions():
        action.select()
        found.append(math.exp(float(selector.log_pressure(now))))
    assert found == pytest.approx([6.25, 1.5625, 1.5625, 6.25, 100.0])
    for factor, bound in ((1e-12, 1e-8), (1e17, 1e8)):
        selector.press(factor)
        assert math.exp(float(selector.log_pressure(now))) == pytest.approx(bound)


def test_what_is_drawn_more_often_shows_in_the_shares_of_the_tenths(ranked):
    selector, training = ranked
    training.steps(100)
    share = selector.shares().share
    assert share[:4].sum() == 0  # before there were ranks
    late = share[-20:].mean(axis=0)
    assert late[0] > 4 * late[9]
    assert (np.diff(late) < 0.03).all()
    assert selector.summary_size == 11
    assert selector.summary().numpy()[-1] == pytest.approx(math.log(100))


def test_a_pressure_or_interval_that_makes_no_sense_is_refused():
    for pressure in (0.0, -2.0, 1e-9, 1e9, float("nan")):
        with pytest.raises(ValueError, match="pressure is"):
            LossRank(dataset(), 8, pressure=pressure)
    with pytest.raises(ValueError, match="refresh_every is 0"):
        LossRank(dataset(), 8, refresh_every=0)


def test_silence_about_losses_is_noted_in_the_log(caplog):
    selector = ready("LossRank")
    for _ in selector.dataset().take(20):
        pass
    assert "Add selector.callback()" in caplog.text


def test_actions_are_pressure_down_and_up():
    selector = ready("LossRank")
    before = float(selector.log_pressure(tf.constant(0, tf.int64)))
    for action, factor in zip(selector.actions(), (0.25, 4.0), strict=True):
        selector.restart()
        action.select()
        after = float(selector.log_pressure(tf.constant(10, tf.int64)))
        assert after - before == pytest.approx(np.log(factor))
