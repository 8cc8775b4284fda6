"""The end of a training that comes early, by its losses."""

import math

import keras
import numpy as np
import pytest

from keras_qan import QANCallback
from keras_qan.qan.horizon import Overfitting, patience_of, stoppers_of


def first_fall(training, validation):
    """Return the number of epochs after which the rate begins to fall, or None."""
    end = Overfitting()
    for epoch, losses in enumerate(zip(training, validation, strict=True), start=1):
        share = end.end_epoch(*losses)
        assert end.falls_from_here == (share < 1.0)
        if share < 1.0:
            return epoch
    return None


FALLING = [0.9**epoch for epoch in range(40)]


def test_a_clear_rise_of_the_validation_loss_while_the_training_loss_falls_is_overfitting():
    # In logarithms, four epochs at a time: -2.925 is the lowest mean, of the second to the fifth
    # epoch; that of the sixth to the ninth is 0.075 above it, of the seventh to the tenth 0.125.
    logs = [-2.8, -2.9, -2.95, -2.95, -2.9, -2.9, -2.875, -2.85, -2.775, -2.7, -2.6, -2.5]
    assert first_fall(FALLING[:12], np.exp(logs)) == 10


def test_the_rate_falls_over_four_epochs_and_stays():
    end = Overfitting()
    shares = [end.end_epoch(t, 0.5 + 0.1 * e) for e, t in enumerate(FALLING[:16])]
    fall = [share for share in shares if share < 1.0]
    expected = [0.25 * 0.5 * (1.0 + np.cos(np.pi * k / 5.0)) for k in (1, 2, 3, 4)]
    assert fall[:4] == pytest.approx(expected)
    assert fall[4:] == [1e-3] * len(fall[4:])


def test_a_training_loss_that_rises_too_is_no_overfitting():
    validation = [0.5 + 0.05 * epoch for epoch in range(20)]
    assert first_fall(validation, validation) is None


def test_without_validation_nothing_falls():
    assert first_fall(FALLING, [None] * len(FALLING)) is None


@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_noise_from_epoch_to_epoch_is_hardly_ever_a_rise(spread):
    trend = np.linspace(0.0, -0.5, 40)  # a loss that falls slowly
    rng = np.random.default_rng(1)
    series = [np.exp(trend + spread * rng.normal(size=40)) for _ in range(200)]
    assert sum(first_fall(FALLING, losses) is not None for losses in series) <= 6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_epoch_without_a_number_is_left_out(bad):
    validation = [0.5, 0.4, *(0.4 + 0.05 * epoch for epoch in range(12))]
    with_bad = [*validation[:2], bad, *validation[2:]]
    assert first_fall(FALLING[:15], with_bad) == first_fall(FALLING[:14], validation) + 1


def test_losses_that_are_not_positive_are_never_overfitting():
    assert first_fall(FALLING[:14], [-1.0 + 0.1 * epoch for epoch in range(14)]) is None


@pytest.mark.slow
def test_a_fit_that_learns_by_heart_ends_near_its_best_validation_loss(capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 20)).astype("float32")
    y = (x[:, 0] + rng.normal(size=120) > 0.0).astype("float32")  # four in five can be known
    held_out = {"validation_data": (x[60:], y[60:]), "validation_batch_size": 60}
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((20,)), dense(64, "relu"), dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    history = model.fit(
        x[:60], y[:60], batch_size=16, epochs=60, verbose=2, callbacks=[QANCallback()], **held_out
    ).history
    losses = history["val_loss"]
    assert "the validation loss rises while the training loss falls" in capsys.readouterr().out
    assert history["step_backs"][-1] >= 1
    assert losses[-1] < 1.1 * min(losses)


Stopping = keras.callbacks.EarlyStopping


@pytest.mark.parametrize(
    ("callbacks", "epochs", "expected"),
    [
        ([], 20, None),
        ([Stopping(patience=10)], 20, 10),
        ([Stopping(monitor="loss", patience=15), Stopping(patience=3)], 20, 3),
        # At the earliest it ends a fit after its epoch 18 of 0 to 19, then after its last one.
        ([Stopping(patience=18)], 20, 18),
        ([Stopping(patience=19)], 20, None),
        ([Stopping(patience=5, start_from_epoch=13)], 20, 5),
        ([Stopping(patience=5, start_from_epoch=14)], 20, None),
        ([Stopping(patience=30), Stopping(patience=12)], 20, 12),
        ([Stopping(patience=30)], math.inf, 30),
    ],
)
def test_the_patience_is_the_shortest_of_those_that_may_end_a_fit(callbacks, epochs, expected):
    assert patience_of(stoppers_of(callbacks), 0, epochs) == expected


def test_a_resumed_fit_counts_from_its_first_epoch():
    assert patience_of(stoppers_of([Stopping(patience=5)]), 13, 20) == 5
    assert patience_of(stoppers_of([Stopping(patience=5)]), 14, 20) is None


def test_a_class_of_that_name_that_counts_in_its_own_way_is_left_alone():
    own = type("EarlyStopping", (keras.callbacks.Callback,), {})
    assert stoppers_of([own()]) == []
