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


# A parabola w^2 of one weight: a step with the rate r leaves 1 - 2 r of it.


def descend(*callbacks, rate=0.05, steps=20, **settings):
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")]
    )
    model.compile(keras.optimizers.SGD(rate, **settings), "mse")
    x = np.ones((steps, 1), "float32")
    model.fit(x, 0.0 * x, batch_size=1, verbose=0, callbacks=list(callbacks))


def next_rate(step):
    return 0.05 if step % 2 else 0.15


@pytest.mark.parametrize("is_first", [True, False])
def test_each_step_is_measured_with_its_own_rate_wherever_the_callbacks_stand(is_first):
    class SetRate(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.learning_rate = next_rate(batch)

    watch = SlopeRatio(every=18, window=16)
    descend(*([watch, SetRate()] if is_first else [SetRate(), watch]))
    w, starts, ends, before = 1.0, [], [], None
    for step in range(17):
        gradient = 2.0 * w
        if step > 1:
            ends.append(gradient * before)
        before = -(0.05 if step == 0 else next_rate(step - 1)) * gradient
        w += before
        if 0 < step < 16:
            starts.append(gradient * before)
    ((step, found),) = watch.estimates
    assert step == 17
    assert found.num_pairs == len(starts) == len(ends) == 15
    assert found.ratio == pytest.approx(np.mean(ends) / np.mean(starts), rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5}])
def test_weights_that_another_callback_changes_are_no_step(settings):
    class Change(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 8:
                self.model.layers[0].kernel.assign([[5.0]])

    plain, changed = SlopeRatio(every=18, window=16), SlopeRatio(every=18, window=16)
    descend(plain, **settings)
    descend(changed, Change(), **settings)
    ((_, found),), ((_, without),) = changed.estimates, plain.estimates
    assert found.num_pairs == without.num_pairs - 1
    if not settings:
        assert [found.ratio, without.ratio] == pytest.approx([1.0 - 2.0 * 0.05] * 2, rel=1e-4)
    assert found.slope < 0.0
