"""A small model in double precision, and the same training unrolled by hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_qan import drmad

ALL = (
    drmad.L2(per="weight", initial=3e-3),
    drmad.L1(per="layer", initial=2e-3),
    drmad.LearningRate(per="layer", schedule_points=3, initial=0.4),
    drmad.Momentum(schedule_points=2, initial=0.7),
    drmad.LabelSmoothing(initial=0.1),
    drmad.LossWeights(per="example", initial=0.9),
    drmad.InitialScale(per="layer", initial=1.1),
)


def data(num_examples: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_examples, 4))
    return x, (x[:, :3] + rng.normal(size=(num_examples, 3))).argmax(axis=1)


def build(seed: int = 0, dtype: str = "float64") -> keras.Model:
    def initializer(number: int) -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=10 * seed + number)

    model = keras.Sequential(
        [
            keras.Input((4,), dtype=dtype),
            keras.layers.Dense(
                5, "tanh", kernel_initializer=initializer(1), dtype=dtype, name="hidden"
            ),
            keras.layers.Dense(3, kernel_initializer=initializer(2), dtype=dtype, name="logits"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def batches(x: np.ndarray, y: np.ndarray, size: int = 8) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


def tuner(hyperparameters=ALL, steps: int = 7, **options) -> drmad.Tuner:
    training = options.pop("training", drmad.Training(steps=steps))
    return drmad.Tuner(
        options.pop("build_model", build),
        options.pop("train", batches(*data())),
        options.pop("validation", data(seed=1)),
        hyperparameters,
        training=training,
        **options,
    )


def averages() -> list[drmad.Hyperparameter]:
    return [drmad.L2(per="weight"), drmad.LearningRate()]


def averages_tuner() -> drmad.Tuner:
    """The tuner that a worker makes to train trials of a search for two averages."""
    return tuner(averages(), steps=8)


def tuner_that_dies_once(mark: str) -> drmad.Tuner:
    """Kills its process, as a lack of memory would, unless that was done before."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return averages_tuner()


def unrolled_loss(unconstrained: list[tf.Tensor], steps: int = 7) -> tf.Tensor:
    """The validation loss of `ALL`'s training, written out in plain TensorFlow."""
    l2, l1 = tf.exp(unconstrained[0]), tf.exp(unconstrained[1])
    rates, momenta = tf.exp(unconstrained[2]), tf.sigmoid(unconstrained[3])
    smoothing, example_weights = tf.sigmoid(unconstrained[4]), tf.exp(unconstrained[5])
    scales = tf.exp(unconstrained[6])
    model = build()
    initial = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    weights = [initial[0] * scales[0], initial[1], initial[2] * scales[1], initial[3]]
    velocity = [tf.zeros_like(w) for w in weights]
    x, y = data()

    def output(w, inputs):
        return tf.tanh(inputs @ w[0] + w[1]) @ w[2] + w[3]

    def training_loss(w, places):
        logs = tf.nn.log_softmax(output(w, x[places]))
        target = (1 - smoothing[0]) * tf.one_hot(y[places], 3, dtype="float64") + smoothing[0] / 3
        losses = -tf.reduce_sum(target * logs, axis=1)
        loss = tf.reduce_sum(losses * tf.gather(example_weights, places)) / len(places)
        loss += tf.reduce_sum(l2[:20] * tf.reshape(w[0], [-1]) ** 2)
        loss += tf.reduce_sum(l2[20:] * tf.reshape(w[2], [-1]) ** 2)
        return loss + l1[0] * tf.reduce_sum(tf.abs(w[0])) + l1[1] * tf.reduce_sum(tf.abs(w[2]))

    for step in range(steps):
        places = np.arange(8) + 8 * (step % 3)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = training_loss(weights, places)
        gradients = tape.gradient(loss, weights)
        progress = step / (steps - 1)
        low = min(int(2 * progress), 1)
        share = 2 * progress - low
        rate = (1 - share) * rates[:, low] + share * rates[:, low + 1]
        gamma = (1 - progress) * momenta[0] + progress * momenta[1]
        velocity = [gamma * v - (1 - gamma) * g for v, g in zip(velocity, gradients, strict=True)]
        weights = [
            w + rate[n // 2] * v for n, (w, v) in enumerate(zip(weights, velocity, strict=True))
        ]
    x, y = data(seed=1)
    logs = tf.nn.log_softmax(output(weights, x))
    return -tf.reduce_mean(tf.reduce_sum(tf.one_hot(y, 3, dtype="float64") * logs, axis=1))
