"""The callback that watches the slope ratio and changes nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_qan.diagnostics import SlopeRatio


def fit(optimizer, *callbacks, epochs=3, **compiled):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse", **compiled)
    x = np.random.default_rng(0).normal(size=(160, 4)).astype("float32")
    return model, model.fit(
        x, x[:, :1] * 2.0, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks)
    )


@pytest.mark.slow
def test_a_fit_with_it_is_bit_for_bit_the_fit_without():
    plain, history = fit(keras.optimizers.Adam(0.01))
    watched, watched_history = fit(keras.optimizers.Adam(0.01), SlopeRatio(every=8, window=4))
    assert history.history["loss"] == watched_history.history["loss"]
    for first, second in zip(plain.weights, watched.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


@pytest.mark.slow
def test_its_values_stand_in_the_history_and_in_what_later_callbacks_write(tmp_path):
    table = tmp_path / "log.csv"
    watch = SlopeRatio(every=10, window=5)
    _, history = fit("adam", watch, keras.callbacks.CSVLogger(str(table)))
    ratios = history.history["slope_ratio"]
    assert len(ratios) == 3
    assert np.isfinite(ratios).all()
    # Sixty steps; the first step of a window sets its start.
    assert [step for step, _ in watch.estimates] == [6, 16, 26, 36, 46, 56]
    assert {found.num_pairs for _, found in watch.estimates} == {4}
    assert "slope_ratio,slope_ratio_error" in table.read_text().splitlines()[0]


@pytest.mark.parametrize(("rate", "low", "high"), [(1e-5, 0.5, 1.5), (0.3, -1.5, 0.2)])
def test_the_ratio_tells_a_rate_that_is_too_low_from_one_that_is_too_high(rate, low, high):
    watch = SlopeRatio(every=20, window=19)
    fit(keras.optimizers.SGD(rate), watch, epochs=1)
    (_, found), *_ = watch.estimates
    assert low < found.ratio < high


@pytest.mark.slow
def test_an_optimizer_without_gradients_is_warned_of_once():
    with pytest.warns(RuntimeWarning, match="logs nothing in this fit: Ftrl has no slot") as seen:
        _, history = fit("ftrl", SlopeRatio())
    assert sum("SlopeRatio" in str(each.message) for each in seen) == 1
    assert "slope_ratio" not in history.history


def test_settings_that_make_no_window_are_refused():
    with pytest.raises(ValueError, match=r"window=16 and every=10; expected a window that is"):
        SlopeRatio(every=10)
    with pytest.raises(ValueError, match="window"):
        SlopeRatio(window=50)
