"""The situations: each trains as people do, with or without the callback, and returns its scores.

A situation takes a `Fits`, which gives the callbacks of each `fit`, and a seed. It returns scores
by name: "" for the training itself. All of them are of examples that no step has seen.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
    make_classification,
)
from sklearn.metrics import average_precision_score

from keras_qan import QANCallback, data

Scores = dict[str, float]
Found = dict[str, Scores]
Pair = tuple[np.ndarray, np.ndarray]
Parts = tuple[Pair, Pair]


class RateRange(keras.callbacks.Callback):
    """Notes the lowest and the highest rate that a step was taken with."""

    def __init__(self) -> None:
        super().__init__()
        self.lowest, self.highest = np.inf, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Look at the rate."""
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.lowest, self.highest = min(self.lowest, rate), max(self.highest, rate)


class Fits:
    """Gives the callbacks of each `fit` of one arm.

    Args:
      steered: whether they hold a `QANCallback`.
    """

    def __init__(self, steered: bool) -> None:
        self.steered = steered
        self.made: list[QANCallback] = []
        self.rates = RateRange()

    def callbacks(self, *arguments: Any) -> list[keras.callbacks.Callback]:
        """A new callback; none in the arm without."""
        if not self.steered:
            return []
        self.made.append(QANCallback(*arguments))
        return [self.made[-1], self.rates]

    def facts(self) -> dict[str, Any]:
        """What became of the rate, and how often the last fits stepped back."""
        if not self.steered:
            return {}
        return {
            "step_backs": sum(made.state.controller.guard.count for made in self.made),
            "rates": [self.rates.lowest, self.rates.highest],
        }


# Data.


def split(x: np.ndarray, y: np.ndarray, held_out: int, seed: int) -> Parts:
    """Examples for training, and so many others to score."""
    order = np.random.default_rng([seed, 1]).permutation(len(x))
    kept, left = order[held_out:], order[:held_out]
    return (x[kept], y[kept]), (x[left], y[left])


def digits(seed: int) -> Parts:
    """1,200 digits of 8 x 8 pixels, and 597 others."""
    x, y = load_digits(return_X_y=True)
    return split((x / 16).astype("float32"), y, 597, seed)


@functools.cache
def small_mnist() -> Parts:
    """MNIST's images, averaged down to 8 x 8 pixels: 5,000, and 2,000 others."""
    train = data.load("mnist", train_fraction=0.14).train
    images = train.x[:, 2:26, 2:26, 0]
    means = images.reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4)).reshape(-1, 64)
    means = (means - means.min()) / (means.max() - means.min())
    return split(means[:7_000].astype("float32"), train.y[:7_000], 2_000, 0)


def houses(seed: int, noise: float = 0.3) -> Parts:
    """Made-up prices of 4,000 houses by eight skewed features, half held out; about unit scale.

    As with California's, income counts for most, the way to the coast is not linear, and the noise
    grows with the price.
    """
    rng = np.random.default_rng([seed, 2])
    income, rooms, people = rng.lognormal(0.0, 0.5, (3, 4_000))
    north, west, age = rng.uniform(-1.0, 1.0, (3, 4_000))
    coast = np.exp(-4.0 * np.abs(north + 0.8 * west - 0.2))
    level = 0.6 * income + 0.8 * coast + 0.2 * np.log(rooms / people) + 0.1 * age * north
    y = level - level.mean() + noise * income * rng.normal(size=4_000)
    features = [income, rooms, people, north, west, age, rooms / people, rng.normal(size=4_000)]
    x = np.stack(features, axis=1)
    return split(((x - x.mean(0)) / x.std(0)).astype("float32"), y.astype("float32"), 2_000, seed)


# Models.


def mlp(inputs: int, outputs: int, *hidden: int) -> keras.Model:
    """A perceptron."""
    inner = [layers.Dense(size, activation="relu") for size in hidden or (64,)]
    return keras.Sequential([keras.Input((inputs,)), *inner, layers.Dense(outputs)])


def cross_entropy() -> keras.Loss:
    """That of classes, from logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier(optimizer: Any, *, inputs: int = 64, classes: int = 10) -> keras.Model:
    """A compiled perceptron."""
    model = mlp(inputs, classes)
    model.compile(optimizer, cross_entropy())
    return model


# Scores.


def outputs_of(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """What a model says, float64."""
    return np.asarray(ops.convert_to_numpy(model(x, training=False)), np.float64)


def score(model: keras.Model, held_out: Pair) -> Scores:
    """Log loss and percentage right of a classifier with logits."""
    x, y = held_out
    logits = outputs_of(model, x)
    top = logits.max(axis=1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    right = 100.0 * float(np.mean(logits.argmax(axis=1) == y))
    return {"loss": -float(np.mean(log_p[np.arange(len(y)), y])), "points": right}


def score_binary(model: keras.Model, held_out: Pair) -> Scores:
    """Log loss, and area under precision and recall in percent, of one logit."""
    x, y = held_out
    logit = outputs_of(model, x)[:, 0]
    loss = float(np.mean(np.logaddexp(0.0, logit) - y * logit))
    return {"loss": loss, "points": 100.0 * float(average_precision_score(y, logit))}


def score_regression(model: keras.Model, held_out: Pair) -> Scores:
    """Log loss of a normal distribution about the prediction, but for a constant."""
    x, y = held_out
    return {"loss": 0.5 * float(np.log(np.mean((outputs_of(model, x)[:, 0] - y) ** 2)))}


# Train steps, loops and fits of one's own.


class OwnStep(keras.Model):
    """A model with a train step of its own, as guides write it; no tracker is updated."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 10)

    def call(self, x: Any) -> Any:
        """The logits."""
        return self.net(x)

    def train_step(self, batch: Any) -> dict[str, Any]:
        """One step of the optimizer."""
        import tensorflow as tf

        x, y = batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(y, self(x), from_logits=True)
            )
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables))
        return {"loss": loss}


def own_train_step(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    model = OwnStep()
    model(x[:1])
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    model.fit(x, y, epochs=10, verbose=0, callbacks=fits.callbacks())
    return {"": score(model, held_out)}


def own_loop(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    model = classifier(keras.optimizers.Adam(1e-3))
    starts = range(0, len(x), 32)
    calls = keras.callbacks.CallbackList(
        fits.callbacks(), model=model, epochs=10, steps=len(starts), verbose=0
    )
    rng = np.random.default_rng(seed)
    calls.on_train_begin()
    for epoch in range(10):
        calls.on_epoch_begin(epoch)
        order = rng.permutation(len(x))
        for number, start in enumerate(starts):
            calls.on_train_batch_begin(number)
            rows = order[start : start + 32]
            logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
            calls.on_train_batch_end(number, logs)
        calls.on_epoch_end(epoch, logs)
    calls.on_train_end(logs)
    return {"": score(model, held_out)}


def twenty_fits(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    model = classifier(keras.optimizers.SGD(0.1))
    callbacks = fits.callbacks()
    for _ in range(20):
        model.fit(x, y, epochs=1, verbose=0, callbacks=callbacks)
    return {"": score(model, held_out)}


def stream(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    model = classifier(keras.optimizers.SGD(0.1))
    callbacks = fits.callbacks()
    rng = np.random.default_rng(seed)
    for _ in range(60):
        rows = rng.integers(0, len(x), 64)
        model.fit(x[rows], y[rows], batch_size=64, verbose=0, callbacks=callbacks)
    return {"": score(model, held_out)}


# Breaks and early ends.


class PowerCut(keras.callbacks.Callback):
    """Ends a `fit` by an error at the beginning of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """End it at the chosen epoch."""
        if epoch == self.epoch:
            raise InterruptedError


def resume(
    fits: Fits, seed: int, *, at: int, optimizer: Callable[[], Any] = keras.optimizers.Adam
) -> Found:
    (x, y), held_out = digits(seed)

    with tempfile.TemporaryDirectory() as folder:

        def fit(*more: keras.callbacks.Callback) -> keras.Model:
            keras.utils.set_random_seed(seed)
            model = classifier(optimizer())
            backup = keras.callbacks.BackupAndRestore(folder)
            model.fit(x, y, epochs=12, verbose=0, callbacks=[*fits.callbacks(), backup, *more])
            return model

        with contextlib.suppress(InterruptedError):
            fit(PowerCut(at))
        return {"": score(fit(), held_out)}


def early_stopping(fits: Fits, seed: int) -> Found:
    x, y = make_classification(
        n_samples=6_000,
        n_features=40,
        n_informative=12,
        n_redundant=8,
        n_classes=4,
        flip_y=0.03,
        random_state=seed,
    )
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    rest, held_out = split(x, y, 3_000, seed)
    train, validation = split(*rest, 1_000, seed)
    model = classifier(keras.optimizers.Adam(1e-3), inputs=40, classes=4)
    stopping = keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True)
    model.fit(
        *train,
        epochs=200,
        verbose=0,
        validation_data=validation,
        callbacks=[stopping, *fits.callbacks()],
    )
    return {"": score(model, held_out)}


# Models that know something already.


@functools.cache
def trained_on_mnist(seed: int) -> list[np.ndarray]:
    """Weights of a perceptron that knows MNIST's images, trained without the callback."""
    keras.utils.set_random_seed(seed)
    model = mlp(64, 10, 64, 64)
    model.compile(keras.optimizers.Adam(1e-3), cross_entropy())
    model.fit(*small_mnist()[0], epochs=8, verbose=0)
    return model.get_weights()


def fine_tuning(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    weights = trained_on_mnist(seed)
    keras.utils.set_random_seed(seed)
    model = mlp(64, 10, 64, 64)
    model.set_weights(weights)
    model.compile(keras.optimizers.Adam(1e-4), cross_entropy())
    model.fit(x, y, epochs=10, verbose=0, callbacks=fits.callbacks())
    source = score(model, small_mnist()[1])
    return {"": score(model, held_out), "score on the source": source}


def going_on(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    model = classifier(keras.optimizers.Adam(1e-3))
    model.fit(x, y, epochs=10, verbose=0)
    model.fit(x, y, epochs=6, verbose=0, callbacks=fits.callbacks())
    return {"": score(model, held_out)}


def one_directory(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        callbacks = fits.callbacks(folder)
        for number, name in enumerate(("first", "second", "third")):
            keras.utils.set_random_seed(10 * seed + number)
            model = classifier(keras.optimizers.Adam(1e-3))
            model.fit(x, y, epochs=8, verbose=0, callbacks=callbacks)
            found[name] = score(model, held_out)
    return found


def frozen_untrained(fits: Fits, seed: int) -> Found:
    (x, y), (x_held_out, y_held_out) = digits(seed)
    shape = (-1, 8, 8, 1)
    backbone = keras.Sequential(
        [
            keras.Input(shape[1:]),
            *(layers.Conv2D(size, 3, padding="same", activation="relu") for size in (8, 16, 32)),
            layers.GlobalAveragePooling2D(),
        ]
    )
    backbone.trainable = False
    model = keras.Sequential([backbone, layers.Dense(10)])
    model.compile(keras.optimizers.Adam(1e-3), cross_entropy())
    model.fit(x.reshape(shape), y, epochs=8, verbose=0, callbacks=fits.callbacks())
    return {"": score(model, (x_held_out.reshape(shape), y_held_out))}


def frozen_trained(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    weights = trained_on_mnist(seed)
    keras.utils.set_random_seed(seed)
    model = mlp(64, 10, 64, 64)
    model.set_weights([*weights[:-2], *model.get_weights()[-2:]])
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile(keras.optimizers.Adam(1e-3), cross_entropy())
    model.fit(x, y, epochs=10, verbose=0, callbacks=fits.callbacks())
    return {"": score(model, held_out)}


# Data and losses that are not as in the books.


def rare_class(fits: Fits, seed: int) -> Found:
    rng = np.random.default_rng([seed, 3])
    x = rng.normal(size=(30_000, 10)).astype("float32")
    level = 2 * x[:, 0] + x[:, 1] + 0.3 * rng.normal(size=len(x))
    y = (level > np.quantile(level, 0.995)).astype("float32")
    train, held_out = split(x, y, 20_000, seed)
    share = train[1].mean()
    log_odds = keras.initializers.Constant(np.log(share / (1 - share)))
    inner = [layers.Dense(16, activation="relu"), layers.Dense(1, bias_initializer=log_odds)]
    model = keras.Sequential([keras.Input((10,)), *inner])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(*train, epochs=5, verbose=0, callbacks=fits.callbacks())
    return {"": score_binary(model, held_out)}


def by_difficulty(fits: Fits, seed: int) -> Found:
    rng = np.random.default_rng([seed, 4])
    x = rng.normal(size=(8_000, 10)).astype("float32")
    level = 2 * x[:, 0] + x[:, 1] * x[:, 2]
    y = (level + 0.5 * rng.normal(size=len(x)) > 0).astype("int64")
    (x_train, y_train), held_out = split(x, y, 4_000, seed)
    clear = np.abs(2 * x_train[:, 0] + x_train[:, 1] * x_train[:, 2])
    order = np.argsort(-clear)
    model = classifier(keras.optimizers.Adam(1e-3), inputs=10, classes=2)
    model.fit(
        x_train[order], y_train[order], epochs=8, shuffle=False, verbose=0,
        callbacks=fits.callbacks(),
    )  # fmt: skip
    return {"": score(model, held_out)}


def by_class(fits: Fits, seed: int) -> Found:
    (x, y), held_out = digits(seed)
    order = np.argsort(y, kind="stable")
    model = classifier(keras.optimizers.Adam(1e-3))
    model.fit(
        x[order], y[order], epochs=20, shuffle=False, verbose=0, callbacks=fits.callbacks()
    )  # fmt: skip
    return {"": score(model, held_out)}


def labels_that_change(fits: Fits, seed: int) -> Found:
    (x, y), (x_held_out, y_held_out) = digits(seed)
    rng = np.random.default_rng([seed, 6])
    new = rng.permutation(10)
    passes = [rng.permutation(len(y)) for _ in range(20)]
    labels = [y[rows] if number < 10 else new[y[rows]] for number, rows in enumerate(passes)]
    model = classifier(keras.optimizers.Adam(1e-3))
    model.fit(
        x[np.concatenate(passes)], np.concatenate(labels), epochs=1, shuffle=False, verbose=0,
        callbacks=fits.callbacks(),
    )  # fmt: skip
    return {"": score(model, (x_held_out, new[y_held_out]))}


def outliers(fits: Fits, seed: int) -> Found:
    (x, y), held_out = houses(seed)
    wrong = np.random.default_rng([seed, 5]).permutation(len(y))[: len(y) // 100]
    y = y.copy()
    y[wrong] *= 30.0
    model = mlp(8, 1)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.fit(x, y, epochs=10, verbose=0, callbacks=fits.callbacks())
    return {"": score_regression(model, held_out)}


def gaussian_nll(fits: Fits, seed: int) -> Found:
    train, (x, y) = houses(seed, noise=0.05)

    def loss(y_true: Any, y_pred: Any) -> Any:
        mean, log_variance = y_pred[:, :1], y_pred[:, 1:]
        square = (ops.reshape(y_true, (-1, 1)) - mean) ** 2
        return 0.5 * (log_variance + square * ops.exp(-log_variance))

    model = mlp(8, 2)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(*train, epochs=12, verbose=0, callbacks=fits.callbacks())
    said = loss(y, model(x, training=False))
    return {"": {"loss": float(np.mean(ops.convert_to_numpy(said)))}}


def cosine_similarity(fits: Fits, seed: int) -> Found:
    (x, _), (x_held_out, _) = digits(seed)
    model = mlp(32, 32)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.CosineSimilarity())
    model.fit(x[:, :32], x[:, 32:], epochs=12, verbose=0, callbacks=fits.callbacks())
    said, lower = outputs_of(model, x_held_out[:, :32]), x_held_out[:, 32:]
    lengths = np.linalg.norm(said, axis=1) * np.linalg.norm(lower, axis=1)
    cosines = (said * lower).sum(axis=1) / np.maximum(lengths, 1e-12)
    return {"": {"loss": -float(cosines.mean())}}


def small_table(fits: Fits, seed: int, *, load: Callable[..., Any]) -> Found:
    """A few hundred rows, with dropout and validation data, for many more epochs than it takes."""
    x, y = load(return_X_y=True)
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    is_regression = load is load_diabetes
    y = ((y - y.mean()) / y.std() if is_regression else y).astype("float32")
    rest, held_out = split(x, y, len(x) // 5, seed)
    train, validation = split(*rest, len(x) // 5, seed)
    inner = [layers.Dense(64, activation="relu"), layers.Dropout(0.3, seed=seed)]
    outer = [layers.Dense(64, activation="relu"), layers.Dense(1)]
    model = keras.Sequential([keras.Input(x.shape[1:]), *inner, *outer])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("adam", "mse" if is_regression else loss)
    model.fit(*train, epochs=60, verbose=0, validation_data=validation, callbacks=fits.callbacks())
    score_of = score_regression if is_regression else score_binary
    return {"": score_of(model, held_out)}


def noisy_classes(**_: Any) -> Pair:
    """400 rows of three classes, one label in ten drawn anew."""
    found: Pair = make_classification(
        400, 20, n_informative=6, n_classes=3, flip_y=0.1, random_state=1
    )
    return found


def table_for_some_epochs(fits: Fits, seed: int, *, load: Callable[..., Any], epochs: int) -> Found:
    """Half of a few hundred rows, as people begin: Adam's default rate, no validation."""
    x, y = load(return_X_y=True)
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    is_regression = load is load_diabetes
    y = ((y - y.mean()) / y.std()).astype("float32") if is_regression else y.astype("int32")
    train, held_out = split(x, y, len(x) // 2, seed)
    inner = [layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu")]
    outputs = 1 if is_regression else int(y.max()) + 1
    model = keras.Sequential([keras.Input(x.shape[1:]), *inner, layers.Dense(outputs)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", "mse" if is_regression else loss)
    model.fit(*train, epochs=epochs, verbose=0, callbacks=fits.callbacks())
    score_of = score_regression if is_regression else score
    return {"": score_of(model, held_out)}


def bag_of_words(fits: Fits, seed: int) -> Found:
    """Made-up reviews of 60 words out of 2,000; an embedding and its mean, and no validation."""
    rng = np.random.default_rng([seed, 6])
    y = rng.integers(0, 2, 3_000)
    tone, common = 0.25 * rng.normal(size=2_000), np.log(np.arange(2_000) + 5.0)
    chances = np.exp(np.stack([-tone, tone]) - common)
    chances /= chances.sum(axis=1, keepdims=True)
    x = np.stack([rng.choice(2_000, 60, p=chances[label]) for label in y])
    train, held_out = split(x, y, 800, seed)
    inner = [layers.Embedding(2_000, 16), layers.GlobalAveragePooling1D()]
    outer = [layers.Dense(16, activation="relu"), layers.Dense(1)]
    model = keras.Sequential([keras.Input((60,)), *inner, *outer])
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(*train, epochs=10, verbose=0, callbacks=fits.callbacks())
    return {"": score_binary(model, held_out)}


def small_numbers(fits: Fits, seed: int) -> Found:
    """An autoencoder of images whose pixels are between 0 and 0.05."""
    (x, _), (x_held_out, _) = digits(seed)
    model = mlp(64, 64, 32, 16, 32)
    model.compile("adam", "mse")
    model.fit(0.05 * x, 0.05 * x, epochs=30, verbose=0, callbacks=fits.callbacks())
    errors = outputs_of(model, 0.05 * x_held_out) - 0.05 * x_held_out
    return {"": {"loss": 0.5 * float(np.log(np.mean(errors**2)))}}


def attention(fits: Fits, seed: int) -> Found:
    """How many different numbers are among 16; two blocks of attention."""
    rng = np.random.default_rng([seed, 7])
    x = rng.integers(0, 20, (3_000, 16))
    y = np.clip([len(set(row)) - 6 for row in x.tolist()], 0, 9)
    train, held_out = split(x, y, 600, seed)
    inputs = keras.Input((16,), dtype="int32")
    hidden = layers.Embedding(20, 32)(inputs) + layers.Embedding(16, 32)(ops.arange(16))
    for _ in range(2):
        normal = layers.LayerNormalization()(hidden)
        hidden = hidden + layers.MultiHeadAttention(2, 16)(normal, normal)
        wide = layers.Dense(64, "gelu")(layers.LayerNormalization()(hidden))
        hidden = hidden + layers.Dense(32)(wide)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden))
    model = keras.Model(inputs, layers.Dense(10)(pooled))
    model.compile(keras.optimizers.AdamW(1e-3), cross_entropy())
    model.fit(*train, epochs=8, verbose=0, callbacks=fits.callbacks())
    return {"": score(model, held_out)}


def default_rate(
    fits: Fits, seed: int, *, optimizer: Callable[[], Any], inverted: bool = False
) -> Found:
    (x, y), (x_held_out, y_held_out) = digits(seed)
    if inverted:
        x, x_held_out = 1 - x, 1 - x_held_out
    model = classifier(optimizer())
    model.fit(x, y, epochs=12, verbose=0, callbacks=fits.callbacks())
    return {"": score(model, (x_held_out, y_held_out))}


OPTIMIZERS = (
    "SGD", "Adam", "AdamW", "Nadam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Ftrl", "Lion",
    "Lamb", "Muon",
)  # fmt: skip

Situation = Callable[[Fits, int], Found]
SITUATIONS: dict[str, Situation] = {
    "custom train step": own_train_step,
    "own loop over train_on_batch": own_loop,
    "twenty fits of one epoch": twenty_fits,
    "60 fits of one batch": stream,
    "resumed at a third, Adam": functools.partial(resume, at=4),
    "resumed at half, Adam": functools.partial(resume, at=6),
    "resumed at half, SGD 0.1": functools.partial(
        resume, at=6, optimizer=functools.partial(keras.optimizers.SGD, 0.1)
    ),
    "EarlyStopping(patience=10), 200 epochs": early_stopping,
    "fine-tuning": fine_tuning,
    "going on with a trained model": going_on,
    "one directory": one_directory,
    "frozen untrained backbone": frozen_untrained,
    "frozen trained backbone": frozen_trained,
    "rare class, 1 in 200": rare_class,
    "data in order of difficulty": by_difficulty,
    "sorted by class, not shuffled": by_class,
    "labels that change halfway": labels_that_change,
    "regression with outliers": outliers,
    "Gaussian NLL": gaussian_nll,
    "cosine similarity": cosine_similarity,
    "table with validation, breast cancer": functools.partial(small_table, load=load_breast_cancer),
    "table with validation, diabetes": functools.partial(small_table, load=load_diabetes),
    "breast cancer for 10 epochs": functools.partial(
        table_for_some_epochs, load=load_breast_cancer, epochs=10
    ),
    "wine for 30 epochs": functools.partial(table_for_some_epochs, load=load_wine, epochs=30),
    "noisy classes for 10 epochs": functools.partial(
        table_for_some_epochs, load=noisy_classes, epochs=10
    ),
    "diabetes for 10 epochs": functools.partial(
        table_for_some_epochs, load=load_diabetes, epochs=10
    ),
    "bag of words, no validation": bag_of_words,
    "autoencoder of small numbers": small_numbers,
    "attention": attention,
    "SGD with momentum 0.9": functools.partial(
        default_rate, optimizer=functools.partial(keras.optimizers.SGD, momentum=0.9)
    ),
} | {
    f"{name} at its default rate": functools.partial(
        default_rate, optimizer=getattr(keras.optimizers, name)
    )
    for name in OPTIMIZERS
}
# Keras's Adafactor makes weights of inputs that are zero in a batch NaN, with the callback or not.
SITUATIONS["Adafactor at its default rate"] = functools.partial(
    default_rate, optimizer=keras.optimizers.Adafactor, inverted=True
)
