import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan.selection import LossRank, Uniform

pytestmark = pytest.mark.slow  # every test compiles a model and a pipeline

N, B = 40, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype("float32")
Y = RNG.integers(0, 4, N)


def data(y=Y, *more):
    return tf.data.Dataset.from_tensor_slices((X, y, *more))


def linear(
    loss="sparse_categorical_crossentropy", optimizer=None, units=4, activation="softmax", **more
):
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(
                units, activation=activation, kernel_initializer=keras.initializers.Ones()
            ),
        ]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.0), loss, **{"jit_compile": False, **more})
    return model


def fit(model, selector, steps=5, epochs=1, **more):
    callbacks = [selector.callback(), *more.pop("callbacks", [])]
    data = batches(selector, more.pop("buffered", 0))
    arguments = {"shuffle": False, "verbose": 0, **more}
    return model.fit(data, steps_per_epoch=steps, epochs=epochs, callbacks=callbacks, **arguments)


def recorded(selector):
    return selector._table.losses.numpy()


def predicted(model):
    return np.array(model(X))


_pool = {}


def loss_rank():
    """One for the data above, at its beginning again: its pipeline is compiled once."""
    if not _pool:
        _pool["selector"] = LossRank(data(), B)
    _pool["selector"].end()
    _pool["selector"].restart()
    return _pool["selector"]


def batches(selector, buffered):
    if selector is not _pool.get("selector"):
        return selector.dataset(buffered=buffered)
    if buffered not in _pool:
        _pool[buffered] = selector.dataset(buffered=buffered)
    selector._buffered = buffered
    return _pool[buffered]


def crossentropy(model):
    return -np.log(predicted(model)[np.arange(N), Y])


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"steps_per_execution": 5},
        {"run_eagerly": True},
        {"jit_compile": True},
        {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0))},
    ],
    ids=lambda more: next(iter(more), "plain"),
)
def test_the_losses_are_those_of_the_training_step(more):
    """With a rate of 0 the model stays, so that a pass must give what predicting gives."""
    more = copy.deepcopy(more)
    model, selector = linear(**more), loss_rank()
    fit(model, selector)
    np.testing.assert_allclose(recorded(selector), crossentropy(model), rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "y", "expected"),
    [
        (
            keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
            Y,
            lambda p: -np.log(p[np.arange(N), Y]),
        ),
        ("mse", np.eye(4)[Y], lambda p: ((p - np.eye(4)[Y]) ** 2).mean(axis=1)),
        (
            lambda y, p: keras.ops.abs(y - p),  # [B, 4]: the mean over the outputs
            np.eye(4, dtype="float32")[Y],
            lambda p: np.abs(p - np.eye(4)[Y]).mean(axis=1),
        ),
    ],
    ids=["a sum", "by name", "a function"],
)
def test_any_loss_that_tells_examples_apart_will_do(loss, y, expected):
    model, selector = linear(loss), LossRank(data(y), B)
    fit(model, selector)
    found = expected(predicted(model))
    np.testing.assert_allclose(recorded(selector), found, rtol=1e-4)


def test_targets_of_one_column_are_compared_as_keras_does():
    y = RNG.normal(size=N).astype("float32")
    model, selector = linear("mse", units=1, activation=None), LossRank(data(y), B)
    fit(model, selector)
    outputs = predicted(model)[:, 0]
    np.testing.assert_allclose(recorded(selector), (outputs - y) ** 2, rtol=1e-4)


def test_losses_over_time_steps_are_averaged_for_each_example():
    y = RNG.normal(size=(N, 5, 2)).astype("float32")
    inputs = keras.Input((3,))
    outputs = keras.layers.Reshape((5, 2))(keras.layers.Dense(10)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    selector = LossRank(data(y), B)
    fit(model, selector)
    expected = ((predicted(model) - y) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(recorded(selector), expected, rtol=1e-4)


@pytest.mark.parametrize("form", ["list", "dict", "one loss for all"])
def test_the_losses_of_several_outputs_add_up_with_their_weights(form):
    inputs = keras.Input((3,))
    a = keras.layers.Dense(1, name="a")(inputs)
    b = keras.layers.Dense(2, name="b")(inputs)
    targets = {
        "a": RNG.normal(size=(N, 1)).astype("float32"),
        "b": RNG.normal(size=(N, 2)).astype("float32"),
    }
    second = "mse" if form == "one loss for all" else "mae"
    if form == "dict":
        model = keras.Model(inputs, {"a": a, "b": b})
        loss, weights, y = {"a": "mse", "b": "mae"}, {"a": 3.0, "b": 0.5}, targets
    else:
        model = keras.Model(inputs, [a, b])
        loss = ["mse", "mae"] if form == "list" else "mse"
        weights, y = ([3.0, 0.5] if form == "list" else None), tuple(targets.values())
    model.compile(keras.optimizers.SGD(0.0), loss, loss_weights=weights, jit_compile=False)
    selector = LossRank(data(y), B)
    fit(model, selector)
    found = model(X)
    found = [np.array(part) for part in (found.values() if form == "dict" else found)]
    first = ((found[0] - targets["a"]) ** 2).mean(axis=1)
    difference = found[1] - targets["b"]
    other = (difference**2 if second == "mse" else np.abs(difference)).mean(axis=1)
    expected = first + other if weights is None else 3.0 * first + 0.5 * other
    np.testing.assert_allclose(recorded(selector), expected, rtol=1e-4)


def test_weights_of_examples_and_classes_count():
    own = RNG.uniform(0.5, 2.0, N).astype("float32")
    model, selector = linear(), LossRank(data(Y, own), B)
    fit(model, selector)
    np.testing.assert_allclose(recorded(selector), own * crossentropy(model), rtol=1e-5)
    model, selector = linear(), loss_rank()
    of_class = {0: 1.0, 1: 5.0, 2: 2.0, 3: 0.1}
    fit(model, selector, class_weight=of_class)
    weights = np.array([of_class[y] for y in Y])
    np.testing.assert_allclose(recorded(selector), weights * crossentropy(model), rtol=1e-5)


def test_losses_of_a_validation_are_not_noted():
    class Own(keras.Model):
        """Its compute_loss does not know whether it is training."""

        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4, activation="softmax")

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return super().compute_loss(x, y, y_pred, sample_weight)

    model = Own()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", jit_compile=False)
    selector = loss_rank()
    fit(model, selector, epochs=2, validation_data=(X[:8], Y[:8]), validation_batch_size=4)
    np.testing.assert_allclose(recorded(selector), crossentropy(model), rtol=1e-5)


def test_a_training_step_of_ones_own_is_read_where_it_computes_the_loss():
    class Own(keras.Sequential):
        def train_step(self, batch):
            x, y = batch
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            return {"loss": loss}

    model = Own([keras.layers.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", jit_compile=False)
    selector = loss_rank()
    fit(model, selector)
    np.testing.assert_allclose(recorded(selector), crossentropy(model), rtol=1e-5)


def test_a_training_step_that_computes_no_loss_is_reported():
    class Silent(keras.Sequential):
        def train_step(self, batch):
            self(batch[0])
            return {"loss": tf.constant(1.0)}

    model = Silent([keras.layers.Input((3,)), keras.layers.Dense(4)])
    model.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(RuntimeError, match=r"0 batches .* in 1 training steps.*compute_loss"):
        fit(model, loss_rank())


@pytest.mark.parametrize(
    ("loss", "says"),
    [(None, "without a loss"), (lambda y, p: keras.ops.mean(p), "one number for the whole batch")],
)
def test_a_loss_that_does_not_tell_examples_apart_is_refused(loss, says):
    class Penalised(keras.layers.Dense):
        def call(self, x):
            self.add_loss(keras.ops.mean(x))
            return super().call(x)

    model = keras.Sequential([keras.layers.Input((3,)), Penalised(4)])
    model.compile("sgd", loss, jit_compile=False)
    with pytest.raises(ValueError, match=says):
        fit(model, loss_rank())


def test_the_training_is_bit_for_bit_what_it_is_without_recording():
    def trained(selector, **more):
        model = linear(optimizer=keras.optimizers.Adam(0.01))
        model.fit(selector.dataset(), steps_per_epoch=7, epochs=2, shuffle=False, verbose=0, **more)
        return model.get_weights()

    plain = trained(Uniform(data(), B))
    recording = LossRank(data(), B, pressure=1.0, refresh_every=1000)
    recording._next_ranking.assign(10**6)  # it walks, as Uniform does, to the end
    for a, b in zip(plain, trained(recording, callbacks=[recording.callback()]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_is_left_as_it_was_and_its_compiled_step_is_kept():
    model, selector = linear(), loss_rank()
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    before = model.train_function
    traces = []
    original = model.compute_loss

    def counting(*arguments, **named):
        traces.append(1)
        return original(*arguments, **named)

    model.compute_loss = counting
    for _ in range(2):
        fit(model, selector)
        assert model.compute_loss is counting
        assert model.train_function is before
        assert traces == [1]


def test_one_model_goes_through_several_fits_and_compilations():
    model, selector = linear(), loss_rank()
    for optimizer in (None, "sgd"):
        if optimizer:
            model.compile(keras.optimizers.SGD(0.0), "mae", jit_compile=False)
            y = np.eye(4, dtype="float32")[Y]
            selector = LossRank(data(y), B)
        for _ in range(2):
            fit(model, selector)
        assert np.isfinite(recorded(selector)).all()
        assert selector.trained == 10
    expected = np.abs(predicted(model) - y).mean(axis=1)
    np.testing.assert_allclose(recorded(selector), expected, rtol=1e-4)


def test_a_fit_that_was_broken_off_leaves_nothing_behind():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model, selector = linear(), loss_rank()
    with pytest.raises(KeyboardInterrupt):
        fit(model, selector, callbacks=[Interrupt()])
    assert selector.trained == 3
    fit(model, selector)
    assert selector.trained == 8
    np.testing.assert_allclose(recorded(selector), crossentropy(model), rtol=1e-5)
    assert "compute_loss" not in vars(model)


def test_two_callbacks_for_one_selector_do_its_work_once():
    model, selector = linear(), loss_rank()
    fit(model, selector, callbacks=[selector.callback()])
    assert selector.trained == 5
    fit(model, selector, callbacks=[copy.deepcopy(selector.callback())])
    assert selector.trained == 10


def test_losses_that_are_not_numbers_leave_the_earlier_ones():
    selector = loss_rank()
    indices = tf.constant([[0, 1, 2, 0]])
    selector._table.update(indices, tf.constant([[1.0, 2.0, 3.0, 4.0]]))
    selector._table.update(indices, tf.constant([[np.nan, np.inf, 5.0, np.nan]]))
    assert recorded(selector)[:3].tolist() == [4.0, 2.0, 5.0]  # the later one of example 0 stayed
