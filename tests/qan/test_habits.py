"""Habits of people who train Keras models: a fit with the callback is no worse than without."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_qan import QANCallback
from keras_qan.qan.horizon import EarlyEnd

_x, _y = load_digits(return_X_y=True)
_order = np.random.default_rng(0).permutation(len(_x))
X, Y = (_x[_order] / 16).astype("float32"), _y[_order].astype("int32")
TRAIN = X[:1280], Y[:1280]
TEST = X[1280:], Y[1280:]


def network(rate=0.1):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((64,)), dense(32, "relu"), dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    return model


def accuracy(model):
    return float(np.mean(model.predict(TEST[0], verbose=0).argmax(axis=1) == TEST[1]))


def rate_of(model):
    return float(model.optimizer.learning_rate.numpy())


@pytest.mark.slow
def test_the_rate_is_put_back_at_the_end_of_a_fit():
    model = network()
    model.fit(*TRAIN, epochs=2, verbose=0, callbacks=[QANCallback()])
    assert rate_of(model) == pytest.approx(0.1)


class Stop(keras.callbacks.Callback):
    """Ends a `fit` as Ctrl-C does."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("is_same", [True, False])
def test_the_rate_is_put_back_after_a_fit_that_was_broken_off(is_same):
    model, callback = network(), QANCallback()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*TRAIN, epochs=4, verbose=0, callbacks=[callback, Stop()])
    assert rate_of(model) != pytest.approx(0.1, rel=0.2)
    callback = callback if is_same else QANCallback()
    rates = model.fit(*TRAIN, verbose=0, callbacks=[callback]).history["learning_rate"]
    assert [*rates, rate_of(model)] == pytest.approx([0.1, 0.1])


@pytest.mark.slow
def test_a_rate_set_after_a_fit_that_was_broken_off_is_the_rate():
    model, callback = network(), QANCallback()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*TRAIN, epochs=4, verbose=0, callbacks=[callback, Stop()])
    model.optimizer.learning_rate = 0.07
    rates = model.fit(*TRAIN, verbose=0, callbacks=[callback]).history["learning_rate"]
    assert [*rates, rate_of(model)] == pytest.approx([0.07, 0.07])


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
def test_after_a_resumed_training_the_rate_is_the_compiled_one(is_first, tmp_path):
    def fit(*more):
        model = network()
        callbacks = [QANCallback(), keras.callbacks.BackupAndRestore(tmp_path)]
        callbacks = callbacks if is_first else callbacks[::-1]
        history = model.fit(*TRAIN, epochs=6, verbose=0, callbacks=[*callbacks, *more])
        return model, history.history["learning_rate"]

    with pytest.raises(KeyboardInterrupt):
        fit(Stop())
    model, rates = fit()
    assert len(rates) == 3
    assert rates[-1] < 0.1 * rates[0]
    assert rate_of(model) == pytest.approx(0.1)


@pytest.mark.slow
def test_many_fits_of_one_epoch_are_one_training():
    scores, rates = [], []
    for callbacks in ([], [QANCallback()]):
        model = network()
        for _ in range(10):
            history = model.fit(*TRAIN, verbose=0, callbacks=callbacks).history
            rates.append(history.get("learning_rate", [np.nan])[-1])
        scores.append(accuracy(model))
    assert scores[1] >= scores[0] - 0.01
    # The rate falls within the first alone: later ones hold what it found.
    assert len(set(np.round(rates[-9:], 6))) == 1


class Rates(keras.callbacks.Callback):
    """Keeps the rate after each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(rate_of(self.model))


@pytest.mark.slow
def test_a_fit_that_is_over_before_anything_is_measured_is_left_alone():
    plain, steered, rates = network(), network(), Rates()
    for model, callbacks in ((plain, []), (steered, [QANCallback(), rates])):
        model.fit(X[:288], Y[:288], batch_size=32, shuffle=False, verbose=0, callbacks=callbacks)
    assert rates.seen == pytest.approx([0.1] * 9)
    for ours, theirs in zip(steered.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_in_a_short_fit_the_rate_does_not_fall_along_the_schedule():
    short, long = Rates(), Rates()
    network().fit(*TRAIN, epochs=2, verbose=0, callbacks=[QANCallback(), short])  # 80 steps
    network().fit(*TRAIN, epochs=3, verbose=0, callbacks=[QANCallback(), long])
    assert short.seen[-1] > 0.099
    assert long.seen[-1] < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("patience", [0, 1])
def test_beside_an_impatient_early_stopping_the_rate_is_not_raised(patience):
    rates, stopping = Rates(), keras.callbacks.EarlyStopping(patience=patience)
    callbacks = [QANCallback(), stopping, rates]
    network(0.001).fit(*TRAIN, epochs=4, validation_data=TEST, verbose=0, callbacks=callbacks)
    assert max(rates.seen) <= 0.001 * 1.0001


@pytest.mark.slow
def test_a_rate_that_the_user_sets_between_fits_is_the_rate():
    model, callback = network(), QANCallback()
    model.fit(*TRAIN, epochs=1, verbose=0, callbacks=[callback])
    model.optimizer.learning_rate = 1e-4
    history = model.fit(*TRAIN, epochs=3, verbose=0, callbacks=[callback]).history
    assert max(history["learning_rate"]) <= 1.01e-4


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True], ids=["one_callback", "a_new_one_each_time"])
def test_models_that_are_trained_in_turn_are_trainings_of_their_own(fresh):
    models, callback = [network(0.01), network(0.02)], QANCallback()
    rates = []
    for _ in range(3):
        for model in models:
            callbacks = [QANCallback() if fresh else callback]
            history = model.fit(*TRAIN, epochs=1, verbose=0, callbacks=callbacks).history
            rates.append(history["learning_rate"][-1])
    # From the second fit on, each holds the rate that its own first one found.
    assert rates[4:] == pytest.approx(rates[2:4])


@pytest.mark.slow
def test_weights_set_between_fits_make_another_training_at_the_users_rate():
    model, callback = network(), QANCallback()
    model.fit(*TRAIN, epochs=1, verbose=0, callbacks=[callback])
    model.set_weights([0.9 * w for w in model.get_weights()])
    history = model.fit(*TRAIN, epochs=2, verbose=0, callbacks=[callback]).history
    assert history["learning_rate"] == pytest.approx([0.1, 0.1])


@pytest.mark.slow
def test_a_network_trained_elsewhere_keeps_its_rate_but_for_step_backs():
    model = network()
    model.fit(*TRAIN, epochs=3, verbose=0)
    history = model.fit(*TRAIN, epochs=3, verbose=0, callbacks=[QANCallback()]).history
    assert history["learning_rate"] == pytest.approx([0.1] * 3)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["backup", "qan"])
def test_a_training_that_is_resumed_goes_on_falling_and_does_not_rise(first, tmp_path):
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    def callbacks(*more):
        both = [keras.callbacks.BackupAndRestore(tmp_path / "backup"), QANCallback()]
        return [*both[:: 1 if first == "backup" else -1], *more]

    with pytest.raises(KeyboardInterrupt):
        network().fit(*TRAIN, epochs=8, verbose=0, callbacks=callbacks(Break()))
    model = network()
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(rate_of(model))
    )
    history = model.fit(*TRAIN, epochs=8, verbose=0, callbacks=callbacks(note)).history
    assert len(history["loss"]) == 4
    assert seen == sorted(seen, reverse=True)
    assert accuracy(model) > 0.9


@pytest.mark.slow
def test_a_train_step_that_reports_its_own_loss_is_steered_by_it():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.top = keras.layers.Dense(32, "relu"), keras.layers.Dense(10)

        def call(self, x):
            return self.top(self.hidden(x))

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                losses = keras.losses.sparse_categorical_crossentropy(y, self(x), from_logits=True)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    scores = []
    for callbacks in ([], [QANCallback()]):
        keras.utils.set_random_seed(0)
        model = Own()
        model(X[:1])
        model.compile(keras.optimizers.SGD(0.1))
        model.fit(*TRAIN, epochs=3, verbose=0, callbacks=callbacks)
        scores.append(accuracy(model))
    assert scores[1] >= scores[0] - 0.01


class Line(keras.Model):
    """A line that is to be one everywhere."""

    def __init__(self):
        super().__init__()
        self.top = keras.layers.Dense(1)

    def call(self, x):
        return self.top(x)

    def loss_and_gradients(self, data):
        x, _ = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x) - 1.0))
        return loss, tape.gradient(loss, self.trainable_variables)


class TwoOptimizers(Line):
    """A model whose optimizers `compile` does not know, and whose losses bear other names."""

    def __init__(self):
        super().__init__()
        self.own = keras.optimizers.SGD(0.01)

    def train_step(self, data):
        loss, gradients = self.loss_and_gradients(data)
        self.own.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"d_loss": loss, "g_loss": loss}


class Accumulating(Line):
    """A model whose train step adds up the gradients of four batches."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.sums = [tf.Variable(tf.zeros(shape), trainable=False) for shape in ((64, 1), (1,))]

    def train_step(self, data):
        loss, gradients = self.loss_and_gradients(data)
        for total, gradient in zip(self.sums, gradients, strict=True):
            total.assign_add(gradient / 4.0)
        self.number += 1
        if self.number % 4 == 0:
            self.optimizer.apply(list(self.sums), self.trainable_variables)
            for total in self.sums:
                total.assign(tf.zeros_like(total))
        return {"loss": loss}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TwoOptimizers, Accumulating])
def test_where_nothing_can_be_steered_it_says_so_once_and_changes_nothing(kind):
    weights, told = [], []
    for callbacks in ([], [QANCallback()]):
        keras.utils.set_random_seed(0)
        model = kind()
        model(X[:1])
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(*TRAIN, epochs=2, verbose=0, callbacks=callbacks)
        told.append([w for w in caught if "steers nothing" in str(w.message)])
        weights.append(model.get_weights())
    for with_callback, without in zip(*weights, strict=True):
        np.testing.assert_array_equal(with_callback, without)
    assert [len(each) for each in told] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
def test_an_evaluation_within_an_epoch_is_no_loss_of_the_training(is_first):
    def fit(evaluates):
        class Evaluate(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if evaluates and batch % 10 == 9:
                    self.model.evaluate(50.0 * TEST[0], TEST[1], batch_size=len(X), verbose=0)

        model, callback, losses = network(), QANCallback(), []
        callback.state.record_decision = lambda decision, **_: losses.append(decision.loss)
        callbacks = [Evaluate(), callback]
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            model.fit(
                *TRAIN, epochs=4, verbose=0, callbacks=callbacks if is_first else callbacks[::-1]
            )
        return losses

    expected, found = fit(False), np.array(fit(True))
    assert len(found) == len(expected)
    # Of the same steps or fewer, those since the last evaluation; of none where it was just now.
    is_known = np.isfinite(found)
    assert np.mean(is_known) > 0.7
    np.testing.assert_allclose(found[is_known], np.array(expected)[is_known], rtol=0.6)


@pytest.mark.slow
def test_a_loop_of_ones_own_over_train_on_batch_is_steered():
    scores = []
    for make in (list, lambda: [QANCallback()]):
        model = network()
        own_loop(model, make(), epochs=4, steps=40, verbose=0)
        scores.append(accuracy(model))
    assert scores[1] >= scores[0] - 0.01


def own_loop(model, callbacks, **params):
    callbacks = keras.callbacks.CallbackList(callbacks, model=model, **params)
    callbacks.on_train_begin()
    for epoch in range(4):
        callbacks.on_epoch_begin(epoch)
        for batch in range(40):
            rows = slice(32 * batch, 32 * batch + 32)
            logs = model.train_on_batch(TRAIN[0][rows], TRAIN[1][rows], return_dict=True)
            callbacks.on_train_batch_end(batch, logs)
        callbacks.on_epoch_end(epoch, {})
    callbacks.on_train_end()


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"verbose": 0}, {"steps": 40}])
def test_a_loop_that_does_not_say_how_long_it_is_is_told_so_and_its_rate_does_not_fall(params):
    rates = Rates()
    with pytest.warns(RuntimeWarning, match="not told how many epochs") as told:
        own_loop(network(), [QANCallback(), rates], **params)
    assert sum("how many epochs" in str(each.message) for each in told) == 1
    assert min(rates.seen[40:]) >= 0.099


@pytest.mark.slow
def test_a_loop_that_says_only_its_steps_in_all_is_one_training():
    rates = Rates()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own_loop(network(), [QANCallback(total_steps=160), rates])
    assert rates.seen[-1] < 0.02


@pytest.mark.slow
def test_a_fit_may_be_given_a_list_of_callbacks_of_keras():
    callbacks = keras.callbacks.CallbackList(
        [QANCallback()], add_history=True, model=(model := network()), epochs=3, steps=40
    )
    rates = model.fit(*TRAIN, epochs=3, verbose=0, callbacks=callbacks).history["learning_rate"]
    assert rates[-1] < rates[0]


@pytest.mark.slow
def test_a_validation_loss_that_is_nan_changes_no_weight():
    x = TEST[0].copy()
    x[0] = np.nan
    model = network()
    ends = []
    watcher = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: ends.append(model.get_weights())
    )
    model.fit(
        *TRAIN,
        epochs=3,
        verbose=0,
        validation_data=(x, TEST[1]),
        callbacks=[watcher, QANCallback()],
    )
    for last, final in zip(ends[-1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(last, final)


@pytest.mark.slow
def test_a_trained_model_goes_on_gently():
    model = network()
    model.fit(*TRAIN, epochs=15, verbose=0)
    before = model.evaluate(*TRAIN, verbose=0)[0]
    history = model.fit(*TRAIN, epochs=4, verbose=0, callbacks=[QANCallback()]).history
    assert max(history["loss"]) < 1.3 * before
    assert max(history["learning_rate"]) <= 0.1 * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["text", None, [1, 2], np.eye(2)])
def test_logs_of_other_callbacks_may_hold_anything(value, tmp_path):
    class Put(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["note"] = value

    network().fit(*TRAIN, epochs=1, verbose=0, callbacks=[Put(), QANCallback(tmp_path)])


def test_bounds_and_intervals_of_ones_own_keep_the_shipped_policy():
    shipped = QANCallback().settings
    own = QANCallback(rate_bounds=(1e-6, 0.05), decide_every=7).settings
    assert own.rate_bounds == (1e-6, 0.05)
    assert own.decide_every == 7
    assert [type(action) for action in own.actions] == [type(action) for action in shipped.actions]


def test_with_early_stopping_the_rate_falls_after_the_losses_have_stopped_falling():
    end = EarlyEnd(patience=10)
    losses = [1.0, 0.8, 0.7, 0.71, 0.72, 0.73, 0.74, 0.69]
    shares = [end.end_epoch(0.0, loss) for loss in losses]
    # Four epochs without a lower loss; then the fall goes on whatever comes.
    assert shares[:6] == [1.0] * 6
    assert 1.0 > shares[6] > shares[7] > 0.0
    for _ in range(10):
        last = end.end_epoch(0.0, 0.6)
    assert last == pytest.approx(1e-3)


def test_epochs_without_a_validation_are_epochs_without_a_lower_loss():
    # A training loss counts while there was no validation at all; it is no measure beside one.
    end = EarlyEnd(patience=10)
    assert [end.end_epoch(0.1, None), end.end_epoch(0.05, 0.9)] == [1.0, 1.0]
    for validation in (None, 0.8, None, None, None):
        assert end.end_epoch(0.01, validation) == 1.0
    assert not end.falls_from_here
    assert end.end_epoch(0.01, 0.85) < 1.0
    assert end.falls_from_here


@pytest.mark.slow
def test_beside_early_stopping_a_rate_whose_loss_goes_on_falling_falls_by_the_calendar_too():
    callbacks = [QANCallback(), keras.callbacks.EarlyStopping(patience=2)]
    history = network(0.01).fit(
        *TRAIN, epochs=4, validation_data=TEST, verbose=0, callbacks=callbacks
    )
    rates = history.history["learning_rate"]
    assert len(rates) == 4  # it was not stopped
    assert rates[-1] < 0.1 * max(rates)


@pytest.mark.slow
def test_an_early_stopping_that_cannot_end_a_fit_changes_nothing():
    found = []
    for more in ([], [keras.callbacks.EarlyStopping(patience=4)]):
        callbacks = [QANCallback(), *more]
        model = network(0.01)
        history = model.fit(*TRAIN, epochs=4, validation_data=TEST, verbose=0, callbacks=callbacks)
        found.append(history.history)
    assert found[0] == found[1]
    assert found[1]["learning_rate"][-1] < 0.5 * max(found[1]["learning_rate"])


@pytest.mark.slow
def test_with_early_stopping_the_fall_begins_from_the_best_weights(capsys):
    x, y = X[:60], Y[:60]  # so few that the network learns their noise
    model = network(1.0)
    stop = keras.callbacks.EarlyStopping(patience=10)
    validation = {"validation_data": TEST, "validation_batch_size": len(X)}
    history = model.fit(
        x, y, epochs=100, verbose=2, callbacks=[stop, QANCallback()], **validation
    ).history
    losses = history["val_loss"]
    assert "before the learning rate falls to its end" in capsys.readouterr().out
    assert losses[-1] == pytest.approx(min(losses), abs=0.05)


@pytest.mark.slow
def test_callbacks_at_an_epochs_end_find_the_weights_that_its_logs_were_measured_with():
    x, y = X[:60], Y[:60]  # so few that the network learns their noise
    model, told, found = network(1.0), [], []

    def look(epoch, logs):
        told.append(logs["val_loss"])
        found.append(float(model.loss(TEST[1], model(TEST[0], training=False))))

    callbacks = [
        keras.callbacks.EarlyStopping(patience=10),
        QANCallback(),
        keras.callbacks.LambdaCallback(on_epoch_end=look),
    ]
    validation = {"validation_data": TEST, "validation_batch_size": len(X)}
    history = model.fit(x, y, epochs=100, verbose=0, callbacks=callbacks, **validation).history
    assert history["step_backs"][-1] > 0
    np.testing.assert_allclose(found, told, rtol=1e-4)


class Jump(keras.callbacks.Callback):
    """Makes the weights useless in the middle of an epoch, as too large a step does."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = (epoch, batch)
        self.epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            self.model.set_weights([100.0 * w for w in self.model.get_weights()])


@pytest.mark.slow
def test_a_step_back_is_told_and_stands_in_the_history(capsys):
    model = network()
    history = model.fit(*TRAIN, epochs=4, verbose=2, callbacks=[Jump(2, 5), QANCallback()]).history
    assert history["step_backs"][:2] == [0, 0]
    assert history["step_backs"][-1] >= 1
    printed = capsys.readouterr().out
    assert printed.count("the weights of the lowest loss are restored") == history["step_backs"][-1]


@pytest.mark.slow
def test_the_last_validation_loss_is_that_of_the_weights_that_the_user_gets():
    model = network()
    # The jump comes when no decision is left that could take it back.
    callbacks = [Jump(3, 36), QANCallback()]
    history = model.fit(
        *TRAIN, epochs=4, verbose=0, validation_data=TEST, callbacks=callbacks
    ).history
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(*TEST, verbose=0)[0], rel=1e-5)
    assert accuracy(model) > 0.8


@pytest.mark.slow
def test_a_loss_below_zero_is_held_still_and_told_once():
    def fit(callbacks):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        model.compile(keras.optimizers.SGD(0.01), keras.losses.CosineSimilarity())
        targets = X[:1280] @ np.random.default_rng(0).normal(size=(64, 10))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss = model.fit(X[:1280], targets, epochs=5, verbose=0, callbacks=callbacks).history
        return loss["loss"][-1], [w for w in caught if "expected a positive one" in str(w.message)]

    without, _ = fit([])
    with_callback, told = fit([QANCallback()])
    assert len(told) == 1
    assert with_callback <= without + 0.02


@pytest.mark.slow
def test_short_fits_with_a_loss_below_zero_are_left_alone_and_told_once():
    def fit(callbacks):
        model = network()
        rng = np.random.default_rng(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(20):
                rows = rng.integers(0, len(TRAIN[0]), 32)
                model.fit(
                    TRAIN[0][rows],
                    TRAIN[1][rows],
                    sample_weight=np.full(32, -0.01),
                    verbose=0,
                    callbacks=callbacks(),
                )
        return model, [w for w in caught if "expected a positive one" in str(w.message)]

    (alone, _), (model, told) = fit(list), fit(lambda: [QANCallback()])
    assert len(told) == 1
    assert rate_of(model) == pytest.approx(0.1)
    assert model.optimizer.iterations.numpy() == 20
    # The first step was taken at another rate, and is taken back; the others are as without.
    before = np.linalg.norm(network().get_weights()[0] - alone.get_weights()[0])
    after = np.linalg.norm(model.get_weights()[0] - alone.get_weights()[0])
    assert after < 0.2 * before


@pytest.mark.slow
def test_a_loss_that_becomes_negative_holds_the_rate_along_its_schedule():
    def likelihood(y, outputs):
        mean, scale = outputs[:, :1], keras.ops.softplus(outputs[:, 1:]) + 1e-3
        return keras.ops.log(scale) + 0.5 * ((y - mean) / scale) ** 2

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.01), likelihood)
    targets = 0.05 * X[:1280, :10].sum(axis=1, keepdims=True)
    with pytest.warns(RuntimeWarning, match="holds the rate from here on"):
        history = model.fit(X[:1280], targets, epochs=12, verbose=0, callbacks=[QANCallback()])
    losses, rates = history.history["loss"], history.history["learning_rate"]
    below = next(n for n, loss in enumerate(losses) if loss < 0)
    assert losses[-1] < losses[below]
    assert all(a >= b for a, b in zip(rates[below + 1 :], rates[below + 2 :], strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("behind", [False, True])
def test_reporters_of_keras_write_the_learning_rate_wherever_they_stand(behind, tmp_path):
    reporter = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    callbacks = [reporter, QANCallback()]
    network().fit(*TRAIN, epochs=2, verbose=0, callbacks=callbacks[:: -1 if behind else 1])
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert "learning_rate" in header
    assert len(rows) == 2


def test_a_rate_of_zero_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="learning rate is 0; expected one above 0"):
        network(0.0).fit(*TRAIN, verbose=0, callbacks=[QANCallback()])


@pytest.mark.slow
def test_an_interval_longer_than_the_training_is_told():
    with pytest.warns(RuntimeWarning, match="decide_every=10000, and this fit has 40 steps"):
        network().fit(*TRAIN, verbose=0, callbacks=[QANCallback(policy=None, decide_every=10_000)])


@pytest.mark.slow
def test_where_the_data_change_the_training_is_not_taken_back_again_and_again():
    def batches():
        rng = np.random.default_rng(0)
        for number in range(400):
            rows = rng.integers(0, len(TRAIN[0]), 32)
            yield TRAIN[0][rows], (TRAIN[1][rows] + 3 * (number < 200)) % 10

    scores = []
    for callbacks in ([], [QANCallback()]):
        model = network()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fitted = model.fit(
                batches(), steps_per_epoch=40, epochs=10, verbose=0, callbacks=callbacks
            )
        scores.append(accuracy(model))
    assert scores[1] > scores[0] - 0.1
    assert fitted.history["step_backs"][-1] <= 1
    told = [str(each.message) for each in caught if "step back" in str(each.message)]
    assert len(told) == fitted.history["step_backs"][-1]
    assert all("data that came since" in each for each in told)


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
def test_a_model_saved_within_a_fit_holds_the_compiled_rate(is_first, tmp_path):
    model, seen = network(), []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(rate_of(model)),
        on_epoch_end=lambda epoch, logs: seen.append(rate_of(model)),
    )
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    resumable = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    callbacks = [saver, QANCallback()] if is_first else [QANCallback(), resumable, saver]
    history = model.fit(*TRAIN, epochs=4, verbose=0, callbacks=[*callbacks, watch]).history
    assert rate_of(keras.models.load_model(tmp_path / "model.keras")) == pytest.approx(0.1)
    assert len(history["loss"]) == 4
    # All others see the rate that was used.
    assert seen[40::41] == pytest.approx(history["learning_rate"])
    assert seen[41::41] == pytest.approx(history["learning_rate"][:-1])
    assert seen[-1] < 0.02


@pytest.mark.slow
def test_weights_saved_within_a_fit_bring_the_compiled_rate_back(tmp_path):
    path = tmp_path / "best.weights.h5"
    saver = keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_best_only=True)
    model = network(0.01)
    callbacks = [saver, QANCallback()]
    model.fit(*TRAIN, epochs=4, validation_data=TEST, verbose=0, callbacks=callbacks)
    model.load_weights(path)
    assert rate_of(model) == pytest.approx(0.01)
    fresh = network(0.01)
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(path)
    assert rate_of(fresh) == pytest.approx(0.01)
