"""Networks over sequences for a whole population: an LSTM, a GRU, a transformer's decoder."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.pretraining.tasks import CHAIN_SYMBOLS, TaskTemplate

#: What Keras's normalisations add to a variance.
NORM_EPSILON = 1e-3

#: Kinds of networks over sequences.
KINDS = ("lstm", "gru", "transformer")


class Parameter(NamedTuple):
    """A weight of the network.

    Attributes:
      shape: `(I, J)`; `(1, J)` of biases and scales.
      initializer: "glorot" (normal), "zeros", "ones", or "places" (normal, deviation 0.05).
    """

    shape: tuple[int, int]
    initializer: str = "glorot"

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw initial values, `[count, I, J]`."""
        shape = (count, *self.shape)
        if self.initializer in ("zeros", "ones"):
            return np.full(shape, float(self.initializer == "ones"))
        glorot = np.sqrt(2.0 / sum(self.shape))
        return rng.normal(size=shape) * (0.05 if self.initializer == "places" else glorot)


def parameters(template: TaskTemplate) -> list[Parameter]:
    """Return the weights of a template's network, in the order of Keras's model.

    Only an LSTM has its inputs' and its state's kernel in one.
    """
    width, *blocks = template.hidden
    if template.kind == "transformer":
        length = template.num_features // CHAIN_SYMBOLS
        found = [*_dense(CHAIN_SYMBOLS, width), Parameter((length, width), "places")]
        for inner in blocks:
            found += _norm(width) + 4 * _dense(width, width)
            found += _norm(width) + _dense(width, inner) + _dense(inner, width)
        found += _norm(width)
    elif template.kind == "gru":
        gates = 3 * width
        found = [Parameter((CHAIN_SYMBOLS, gates)), Parameter((width, gates))]
        found += 2 * [Parameter((1, gates), "zeros")]
    else:
        found = _dense(CHAIN_SYMBOLS + width, 4 * width)
    return found + _dense(width, template.num_outputs)


def _dense(incoming: int, outgoing: int) -> list[Parameter]:
    return [Parameter((incoming, outgoing)), Parameter((1, outgoing), "zeros")]


def _norm(width: int) -> list[Parameter]:
    return [Parameter((1, width), "ones"), Parameter((1, width), "zeros")]


def outputs(template: TaskTemplate, trainable: list[tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """Return the outputs at all places of the sequences.

    Args:
      template: of the network.
      trainable: weights; see `parameters`.
      x: one-hot symbols `[P, B, T · S]`.

    Returns:
      `[P, B · T, O]`.
    """
    population, batch, features = x.shape
    symbols = tf.reshape(x, [population, batch, features // CHAIN_SYMBOLS, CHAIN_SYMBOLS])
    network = {"lstm": _lstm, "gru": _gru, "transformer": _transformer}[template.kind]
    *weights, head, head_bias = trainable
    hidden = network(weights, symbols)
    return tf.matmul(tf.reshape(hidden, [population, -1, head.shape[1]]), head) + head_bias


def _lstm(weights: list[tf.Tensor], symbols: tf.Tensor) -> tf.Tensor:
    """Return the states of an LSTM, `[P, B, T, J]`."""
    kernel, bias = weights
    hidden = cell = tf.zeros([*symbols.shape[:2], kernel.shape[-1] // 4])
    found = []
    for place in tf.unstack(symbols, axis=2):
        gates = tf.matmul(tf.concat([place, hidden], -1), kernel) + bias
        enters, stays, new, leaves = tf.split(gates, 4, axis=-1)
        cell = tf.sigmoid(stays + 1.0) * cell + tf.sigmoid(enters) * tf.tanh(new)
        hidden = tf.sigmoid(leaves) * tf.tanh(cell)
        found.append(hidden)
    return tf.stack(found, axis=2)


def _gru(weights: list[tf.Tensor], symbols: tf.Tensor) -> tf.Tensor:
    """Return the states of a GRU that is reset after the product, `[P, B, T, J]`."""
    kernel, recurrent, bias, recurrent_bias = weights
    hidden = tf.zeros([*symbols.shape[:2], recurrent.shape[1]])
    found = []
    for place in tf.unstack(symbols, axis=2):
        of_input = tf.split(tf.matmul(place, kernel) + bias, 3, axis=-1)
        of_state = tf.split(tf.matmul(hidden, recurrent) + recurrent_bias, 3, axis=-1)
        stays, resets = (tf.sigmoid(of_input[n] + of_state[n]) for n in (0, 1))
        new = tf.tanh(of_input[2] + resets * of_state[2])
        hidden = stays * hidden + (1.0 - stays) * new
        found.append(hidden)
    return tf.stack(found, axis=2)


def _transformer(weights: list[tf.Tensor], symbols: tf.Tensor) -> tf.Tensor:
    """Return what a decoder of one head, normalised before each part, makes, `[P, B, T, J]`."""
    population, batch, length, _ = symbols.shape
    rest = list(weights)

    def dense(x: tf.Tensor) -> tf.Tensor:
        kernel, bias = rest.pop(0), rest.pop(0)
        return tf.matmul(x, kernel) + bias

    def norm(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + NORM_EPSILON) * rest.pop(0) + rest.pop(0)

    def in_sequences(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, [population, batch, length, x.shape[-1]])

    def in_rows(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, [population, batch * length, x.shape[-1]])

    x = dense(in_rows(symbols))
    x = in_rows(in_sequences(x) + rest.pop(0)[:, tf.newaxis])
    later = tf.constant(np.triu(np.full((length, length), -1e9), 1), tf.float32)
    while len(rest) > 2:
        y = norm(x)
        query, key, value = (in_sequences(dense(y)) for _ in range(3))
        scores = tf.matmul(query, key, transpose_b=True) / np.sqrt(x.shape[-1]) + later
        x = x + dense(in_rows(tf.matmul(tf.nn.softmax(scores), value)))
        x = x + dense(tf.nn.gelu(dense(norm(x)), approximate=True))
    return in_sequences(norm(x))
