"""Hyperband with rungs that stop by prediction."""

from __future__ import annotations

import numpy as np
import pytest

from keras_qan.early_stopping import CurvePredictor, Hyperband

LEARN = {"predictor": CurvePredictor(["least_squares"])}


def sample(rng):
    return {"end": rng.uniform(0.3, 0.9), "speed": rng.uniform(1.0, 4.0)}


def train(configuration):
    step = 0
    while True:
        step += 1
        yield configuration["end"] * (1 - np.exp(-step / configuration["speed"]))


def test_brackets_are_hyperbands():
    # Li et al. (2018), table 1: R = 81, η = 3.
    assert Hyperband(81).brackets() == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


def test_without_prediction_every_rung_is_run_in_full():
    result = Hyperband(9, confidence=None).run(sample, train)
    # 9·1 + 3·2 + 1·6, 5·3 + 1·6, 3·9
    assert result.epochs_spent == 21 + 21 + 27
    assert len(result.trials) == 9 + 5 + 3
    assert result.stopped == []
    assert result.best.best("max") == max(max(one.values) for one in result.trials)


@pytest.mark.slow
def test_prediction_spends_less_and_finds_as_good_a_one():
    plain = Hyperband(27, confidence=None, seed=3).run(sample, train, rounds=3)
    quick = Hyperband(27, confidence=0.9, seed=3, **LEARN).run(sample, train, rounds=3)
    assert quick.epochs_spent < plain.epochs_spent
    assert quick.stopped
    assert quick.best.values[-1] == pytest.approx(plain.best.values[-1], abs=0.02)


def test_whoever_is_spared_is_never_stopped():
    result = Hyperband(27, confidence=0.9, always_finish=1.0, seed=3, **LEARN).run(
        sample, train, rounds=2
    )
    assert result.stopped == []


@pytest.mark.slow
def test_losses_are_the_mirror_image():
    def loss(configuration):
        return (1 - value for value in train(configuration))

    up = Hyperband(9, confidence=0.9, seed=1, **LEARN).run(sample, train, rounds=6)
    down = Hyperband(9, confidence=0.9, seed=1, mode="min", **LEARN).run(sample, loss, rounds=6)
    assert up.epochs_spent == down.epochs_spent
    assert up.best.configuration == down.best.configuration


def test_what_diverged_is_neither_promoted_nor_learned_from():
    def diverging(configuration):
        for value in train(configuration):
            yield value if configuration["end"] < 0.8 else float("nan")

    result = Hyperband(9, seed=2).run(sample, diverging)
    assert result.best.configuration["end"] < 0.8
    assert all(len(one.values) == 1 for one in result.trials if np.isnan(one.values[-1]))


def test_a_training_that_ends_too_soon_is_refused():
    with pytest.raises(ValueError, match="ended after 2 epochs"):
        Hyperband(9).run(sample, lambda configuration: iter([0.1, 0.2]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"max_epochs": 9, "eta": 1}, "eta is 1"),
        ({"max_epochs": 9, "always_finish": 2.0}, "always_finish is 2.0"),
        ({"max_epochs": 9, "confidence": 1.5}, "confidence is 1.5"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Hyperband(**arguments)
