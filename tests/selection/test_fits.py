"""Selectors in the fits that people write: masks, class weights, short fits, broken fits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan import selection
from keras_qan.meta_momentum import Features, MetaMomentum

pytestmark = pytest.mark.slow  # every test compiles a model and a pipeline

L = keras.layers
N, B, T = 40, 8, 5
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(1, 6, (N, T))
TOKENS[:, 2:] *= RNG.integers(0, 2, (N, 1))  # half of them end after two steps
LABELS = RNG.integers(0, 3, (N, T))
X = RNG.normal(size=(N, 4)).astype("float32")
Y = RNG.integers(0, 3, N)


def data(*parts):
    return tf.data.Dataset.from_tensor_slices(parts)


def tagger(loss="sparse_categorical_crossentropy", mask_zero=True):
    inputs = keras.Input((T,), dtype="int32")
    outputs = L.Dense(3, activation="softmax")(L.Embedding(6, 4, mask_zero=mask_zero)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    return model


def classifier(rate=0.0, **more):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="softmax", name="only")])
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", **more)
    return model


_made = {}


def batches_of(selector):
    """The selector's pipeline, compiled once."""
    return _made.setdefault(id(selector), (selector, selector.dataset()))[1]


def fit(model, selector, *callbacks, **more):
    return model.fit(
        batches_of(selector),
        steps_per_epoch=selector.steps_per_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, selector.callback()],
        **more,
    )


def negative_log(chances, labels):
    return -np.log(np.take_along_axis(chances, labels[..., None], axis=-1))[..., 0]


@pytest.mark.parametrize("kind", ["LossRank", "Prune"])
def test_steps_that_are_masked_do_not_count(kind):
    """Prune's batches carry weights, which Keras must not take for weights of the steps."""
    selector, model = getattr(selection, kind)(data(TOKENS, LABELS), T), tagger()
    fit(model, selector, epochs=2)
    losses, is_real = negative_log(np.asarray(model(TOKENS)), LABELS), TOKENS > 0
    expected = (losses * is_real).sum(axis=1) / is_real.sum(axis=1)
    np.testing.assert_allclose(selector._table.losses, expected, rtol=1e-5)


def test_steps_of_an_ignored_class_do_not_count():
    model = tagger(keras.losses.SparseCategoricalCrossentropy(ignore_class=2), mask_zero=False)
    selector = selection.LossRank(data(TOKENS, LABELS), B)
    fit(model, selector)
    losses, is_real = negative_log(np.asarray(model(TOKENS)), LABELS), LABELS != 2
    count = is_real.sum(axis=1)
    expected = (losses * is_real).sum(axis=1) / np.maximum(count, 1)
    np.testing.assert_allclose(selector._table.losses, expected, rtol=1e-5)


def test_class_weights_are_multiplied_with_the_selectors_own():
    """The mean loss of a pass is that of all data; the table holds the class's weight alone."""
    of_class = {0: 1.0, 1: 5.0, 2: 0.5}
    selector, model = selection.Prune(data(X, Y), B), classifier()
    losses = fit(model, selector, epochs=4, class_weight=of_class).history["loss"]
    weights = np.array([of_class[y] for y in Y])
    expected = weights * negative_log(np.asarray(model(X)), Y)
    np.testing.assert_allclose(selector._table.losses, expected, rtol=1e-4, atol=1e-6)
    assert losses[0] == pytest.approx(expected.mean(), rel=1e-4)
    assert selector.recent_shares()


def test_a_prefetch_without_a_size_is_left_out_and_one_with_a_size_stays():
    selector = selection.Uniform(data(X, Y), B)
    batches = selector.dataset()
    assert batches.prefetch(tf.data.AUTOTUNE) is batches
    assert batches.map(lambda x, y: (2 * x, y)).prefetch(-1).element_spec == batches.element_spec
    assert batches.prefetch(3) is not batches
    model = classifier()
    model.fit(
        batches.map(lambda x, y: (x + 1, y)).prefetch(tf.data.AUTOTUNE),
        steps_per_epoch=5,
        shuffle=False,
        verbose=0,
        callbacks=[selector.callback()],
    )
    assert selector.trained == 5


def ratios_kept(**more):
    selector, model = selection.Prune(data(X, (X[:, 0] > 0).astype(int)), B, **more), classifier()
    found = []
    for _ in range(6):
        fit(model, selector)
        found.append(float(selector.summary()[-1]))
    return found


def test_fits_of_one_epoch_are_one_training_to_prune():
    found = ratios_kept()
    assert found[0] == 1.0  # nothing is known in the first pass
    assert max(found[2:]) < 1.0


def test_a_training_of_several_fits_whose_length_is_told_ends_with_all_examples():
    found = ratios_kept(total_steps=6 * 5)
    assert min(found[1:5]) < 1.0
    assert found[-1] == 1.0


def test_the_pressure_of_several_fits_falls_by_the_length_that_is_told():
    told = selection.LossRank(data(X, Y), B, total_steps=15)
    model = classifier()
    for epoch in range(1, 4):
        fit(model, told)
        assert float(told.summary()[-1]) == pytest.approx(np.log(100) * (1 - epoch / 3), abs=1e-5)


def test_the_pressure_stays_in_further_fits_of_a_model():
    unknown, model = selection.LossRank(data(X, Y), B), classifier()
    for _ in range(2):
        fit(model, unknown)
    assert float(unknown.summary()[-1]) == pytest.approx(np.log(100))
    fit(classifier(), unknown)  # another model's training has an end of its own
    assert float(unknown.summary()[-1]) == pytest.approx(0.0, abs=1e-5)


def test_total_steps_are_checked():
    with pytest.raises(ValueError, match=r"total_steps is 0; expected .*at least 1"):
        selection.Prune(data(X, Y), B, total_steps=0)


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


def replaced(model):
    return {"compute_loss", "train_step", "make_train_function"} & set(vars(model))


@pytest.mark.parametrize("selector_first", [True, False])
@pytest.mark.parametrize("is_broken", [True, False])
def test_two_callbacks_that_replace_a_loss_come_off_in_any_order(selector_first, is_broken):
    model, selector = classifier(), selection.LossRank(data(X, Y), B)
    pull = MetaMomentum(classifier(), strength=0.5, form=Features())
    both = [selector.callback(), pull] if selector_first else [pull, selector.callback()]
    plain = model.make_train_function() or model.train_function
    more = [Interrupt()] if is_broken else []
    try:
        model.fit(
            selector.dataset(),
            steps_per_epoch=5,
            shuffle=False,
            verbose=0,
            callbacks=[*both, *more],
        )
    except KeyboardInterrupt:
        assert replaced(model)
        model.train_on_batch(X, Y)  # larger than the selector's batches
    assert replaced(model) == set()
    assert model.train_function is plain


def test_a_loop_of_ones_own_after_a_broken_fit_may_have_larger_batches():
    model, selector = classifier(), selection.LossRank(data(X, Y), B)
    with pytest.raises(KeyboardInterrupt):
        fit(model, selector, Interrupt())
    with tf.GradientTape() as tape:
        loss = model.compute_loss(X, Y, model(X, training=True))
    assert tape.gradient(loss, model.trainable_weights)[0] is not None


def test_a_list_of_callbacks_that_knows_no_steps_is_refused_and_not_left_without_a_selector():
    selector = selection.LossRank(data(*np.ones((2, 8, 3), "float32")), 4)
    model = classifier()
    callbacks = keras.callbacks.CallbackList([selector.callback()], model=model)
    with pytest.raises(ValueError, match=r"with a list of callbacks\. In a loop of your own"):
        callbacks.on_train_begin()
