"""A training in which the model grows is one training: history, callbacks, optimizer, backup."""

import keras
import numpy as np
import pytest

import net2net

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = X[:, :1] * 2


def make(rate=0.01):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "relu", name="a"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "mse", run_eagerly=True)
    return model


def wider(units, **when):
    return net2net.Growth(lambda model: net2net.widen(model, "a", units), **when)


def fit(growths, epochs, callbacks=(), model=None, **settings):
    return net2net.fit_and_grow(
        model or make(), X, Y, growths=growths, epochs=epochs, callbacks=callbacks, verbose=0,
        shuffle=False, batch_size=16, **settings,
    )  # fmt: skip


@pytest.mark.slow
def test_growths_at_epochs_are_one_training():
    rates = []

    def halve(epoch, rate):
        rates.append(epoch)
        return rate * 0.5

    done = fit([wider(6, at_epoch=1), wider(9, at_epoch=3)], 4,
               [keras.callbacks.LearningRateScheduler(halve)])  # fmt: skip
    assert done.grown_at == (1, 3)
    assert done.model.get_layer("a").units == 9
    assert done.history.epoch == [0, 1, 2, 3] == rates
    assert len(done.history.history["loss"]) == 4
    assert int(done.model.optimizer.iterations) == 4 * 2
    assert float(done.model.optimizer.learning_rate) == pytest.approx(0.01 / 2**4, rel=1e-4)


@pytest.mark.slow
def test_the_first_epoch_after_a_growth_begins_where_the_model_was():
    plain = make()
    plain.fit(X, Y, epochs=2, verbose=0, shuffle=False, batch_size=16)
    expected = plain.evaluate(X, Y, verbose=0)
    seen = []
    growth = net2net.Growth(lambda m: seen.append(net2net.widen(m, "a", 7)) or seen[-1], at_epoch=2)
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            seen.append(float(seen[-1].evaluate(X, Y, verbose=0))) if epoch == 2 else None
        )
    )
    fit([growth], 3, [watch])
    assert seen[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_growth_waits_until_the_loss_no_longer_falls():
    done = fit([wider(6, monitor="loss", patience=2)], 6, model=make(rate=1e-12))
    # The first epoch is the best; two more without a fall of the given size end the wait.
    assert done.grown_at == (3,)
    never = fit([wider(6, monitor="loss", patience=9)], 2)
    assert never.grown_at == (None,)
    assert never.model.get_layer("a").units == 4


@pytest.mark.slow
def test_early_stopping_keeps_its_count_over_a_growth_and_ends_the_training():
    stop = keras.callbacks.EarlyStopping("loss", patience=3, min_delta=1, restore_best_weights=True)
    done = fit([wider(6, at_epoch=2)], 9, [stop], model=make(rate=1e-12))
    assert done.history.epoch == [0, 1, 2, 3]
    assert done.model.get_layer("a").units == 6


@pytest.mark.slow
def test_a_callback_of_ones_own_sees_a_training_for_each_size():
    class Seen(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.begun = []

        def on_train_begin(self, logs=None):
            self.begun.append(self.model.get_layer("a").units)

    seen = Seen()
    fit([wider(6, at_epoch=1)], 2, [seen])
    assert seen.begun == [4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, killed_after):
    growths = [wider(6, at_epoch=2)]
    whole = fit(growths, 4)

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == killed_after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(growths, 4, [Kill()], backup_dir=tmp_path)
    again = fit(growths, 4, backup_dir=tmp_path)
    assert again.grown_at == whole.grown_at == (2,)
    assert again.history.epoch == [0, 1, 2, 3]
    np.testing.assert_allclose(again.history.history["loss"], whole.history.history["loss"])
    for one, other in zip(again.model.weights, whole.model.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"at_epoch or monitor"):
        wider(6)
    with pytest.raises(ValueError, match=r"at_epoch to be 1 or more"):
        wider(6, at_epoch=0)
    with pytest.raises(ValueError, match=r"Leave initial_epoch out"):
        fit([], 1, initial_epoch=1)
    with pytest.raises(ValueError, match=r"Use backup_dir="):
        fit([], 1, [keras.callbacks.BackupAndRestore(tmp_path)])
    with pytest.raises(ValueError, match=r"'val_loss', which is not among the logs \(loss\)"):
        fit([wider(6, monitor="val_loss")], 1)
    with pytest.raises(TypeError, match=r"instead of a compiled model"):
        fit([net2net.Growth(lambda m: None, at_epoch=1)], 2)


class KillBefore(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_the_patience_of_a_growth_goes_on_after_kills(tmp_path):
    growths = [wider(6, monitor="loss", patience=3)]
    whole = fit(growths, 6, model=make(rate=0.0))
    for epoch in range(1, 6):
        with pytest.raises(KeyboardInterrupt):
            fit(growths, 6, [KillBefore(epoch)], make(rate=0.0), backup_dir=tmp_path)
    again = fit(growths, 6, model=make(rate=0.0), backup_dir=tmp_path)
    assert again.grown_at == whole.grown_at == (4,)
    assert again.history.epoch == list(range(6))


@pytest.mark.slow
def test_a_backup_holds_metrics_that_are_vectors(tmp_path):
    model = make()
    model.compile("adam", "mse", metrics=[keras.metrics.F1Score(threshold=0.5)])
    data = np.abs(X[:, :1]) > 0.5
    growths = [wider(6, at_epoch=1)]
    settings = {"growths": growths, "epochs": 3, "verbose": 0, "backup_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        net2net.fit_and_grow(model, X, data, callbacks=[KillBefore(2)], **settings)
    done = net2net.fit_and_grow(model, X, data, **settings)
    assert [len(value) for value in done.history.history["f1_score"]] == [1, 1, 1]


@pytest.mark.slow
def test_epochs_without_validation_say_nothing_about_a_validation_loss():
    growths = [wider(6, monitor="val_loss", patience=1)]
    settings = {"validation_data": (X, Y), "validation_freq": 2, "model": make(rate=0.0)}
    assert fit(growths, 6, **settings).grown_at == (4,)
    with pytest.raises(ValueError, match=r"'val_los', which is not among the logs"):
        fit([wider(6, monitor="val_los")], 6, **settings)


@pytest.mark.slow
def test_callbacks_may_be_none_or_one():
    assert fit([], 1, None).history.epoch == [0]
    seen = KillBefore(1)
    with pytest.raises(KeyboardInterrupt):
        fit([], 2, seen)


@pytest.mark.slow
def test_keras_callbacks_and_random_layers_go_on_after_a_kill(tmp_path):
    def dropping():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(4, "relu", name="a"), keras.layers.Dropout(0.5, seed=1)]
        model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
        return model

    def go(*more, **settings):
        halve = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=9.0)
        stop = keras.callbacks.EarlyStopping("loss", patience=5, min_delta=9.0)
        return fit([wider(6, at_epoch=2)], 9, [halve, *more, stop], dropping(), **settings)

    whole = go()
    with pytest.raises(KeyboardInterrupt):
        go(KillBefore(4), backup_dir=tmp_path)
    again = go(backup_dir=tmp_path)
    assert whole.history.epoch == again.history.epoch == list(range(6))
    for name in ("loss", "learning_rate"):
        np.testing.assert_allclose(again.history.history[name], whole.history.history[name])
    assert again.history.history["learning_rate"][-1] == pytest.approx(0.0025, rel=1e-4)
