"""restore_best: the weights of the lowest validation loss at the end of a fit."""

import copy

import keras
import numpy as np
import pytest

from keras_qan import QANCallback


def fit(callback, validate=True, epochs=12):
    """Fit ten examples of noise: the validation loss rises after a while."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 8)).astype("float32"), rng.normal(size=(60, 1)).astype("float32")
    history = model.fit(
        x[:20], y[:20], batch_size=10, epochs=epochs, verbose=0, callbacks=[callback],
        validation_data=(x[20:], y[20:]) if validate else None,
    ).history  # fmt: skip
    return history, model.evaluate(x[20:], y[20:], verbose=0)


@pytest.mark.slow
def test_the_weights_of_the_lowest_validation_loss_stand_at_the_end():
    history, last = fit(QANCallback(restore_best=True))
    assert last == pytest.approx(min(history["val_loss"]), rel=1e-5)
    assert last < history["val_loss"][-1]
    plain, last = fit(QANCallback())
    assert plain["val_loss"] == history["val_loss"]  # the training itself is the same
    assert last == pytest.approx(plain["val_loss"][-1], rel=1e-5)


@pytest.mark.slow
def test_copies_restore_them_too():
    history, last = fit(copy.deepcopy(QANCallback(restore_best=True)))
    assert last == pytest.approx(min(history["val_loss"]), rel=1e-5)


@pytest.mark.slow
def test_without_a_validation_loss_the_last_weights_stay_with_a_warning():
    with pytest.warns(RuntimeWarning, match="restore_best=True.*no finite 'val_loss'"):
        fit(QANCallback(restore_best=True), validate=False, epochs=1)


def test_what_is_no_flag_is_refused():
    with pytest.raises(ValueError, match="restore_best is 'yes'; expected True or False"):
        QANCallback(restore_best="yes")
