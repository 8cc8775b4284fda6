"""Multiply-adds against numbers worked out by hand."""

from __future__ import annotations

import keras
import pytest

from keras_qan.rally import Cost, multiply_adds, register_cost

L = keras.layers


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def test_a_perceptron():
    # 5·4 and 4·3 forward. Backward: 20 for the first kernel, 12 for the second and 12 for what
    # goes into it; nobody asks for the gradient of the examples.
    model = sequential((5,), L.Dense(4, "relu"), L.Dense(3))
    assert multiply_adds(model) == Cost(forward=32, backward=44)
    assert multiply_adds(model).training == 76


def test_a_convolutional_network():
    # conv: 28·28 places, 3·3·1 weights into each of 8 channels: 56,448. Pooled to 14·14.
    # second: 14·14·16 values from 3·3·8 weights: 225,792. Pooled to 7·7·16 = 784; dense 784·10.
    model = sequential(
        (28, 28, 1),
        L.Conv2D(8, 3, padding="same", activation="relu"),
        L.MaxPooling2D(),
        L.Conv2D(16, 3, padding="same", activation="relu"),
        L.MaxPooling2D(),
        L.Flatten(),
        L.Dense(10),
    )
    assert multiply_adds(model) == Cost(56_448 + 225_792 + 7_840, 56_448 + 2 * (225_792 + 7_840))


@pytest.mark.parametrize(
    ("shape", "layer", "forward"),
    [
        ((9, 9, 2), L.Conv2D(4, 3), 7 * 7 * 4 * 3 * 3 * 2),
        ((9, 9, 2), L.Conv2D(4, 3, strides=2, padding="same"), 5 * 5 * 4 * 18),
        ((9, 9, 6), L.Conv2D(4, 3, groups=2), 7 * 7 * 4 * 9 * 3),
        ((10, 3), L.Conv1D(5, 4), 7 * 5 * 12),
        ((4, 4, 4, 2), L.Conv3D(3, 2), 27 * 3 * 16),
        ((5, 5, 3), L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 25 * 6 * 9),
        ((4, 4, 3), L.Conv2DTranspose(5, 2, strides=2), 16 * 3 * 4 * 5),
        ((7, 3), L.Dense(4), 7 * 3 * 4),
        ((7, 3), L.EinsumDense("abc,cd->abd", (None, 4)), 7 * 3 * 4),
        ((7, 6), L.EinsumDense("abc,cde->abde", (None, 2, 5)), 7 * 6 * 10),
        ((6, 6, 2), L.BatchNormalization(), 72),
        ((6,), L.LayerNormalization(), 6),
        ((5,), L.PReLU(), 5),
    ],
)
def test_a_first_layer_costs_as_much_backward_as_forward(shape, layer, forward):
    assert multiply_adds(sequential(shape, layer)) == Cost(forward, forward)


def test_a_separable_convolution_has_two_parts():
    # depthwise: 5·5·3·2 values of 9; pointwise: 25·6·4. The second one's input has a gradient.
    first, second = 25 * 6 * 9, 25 * 6 * 4
    model = sequential((5, 5, 3), L.SeparableConv2D(4, 3, padding="same", depth_multiplier=2))
    assert multiply_adds(model) == Cost(first + second, first + 2 * second)


def test_recurrent_layers_and_their_wrappers():
    # An LSTM of 5 units over 7 steps of 3 numbers: four gates, 3·20 and 5·20 a step.
    model = sequential((7, 3), L.LSTM(5))
    assert multiply_adds(model) == Cost(7 * 60 + 7 * 100, 7 * 60 + 2 * 7 * 100)
    both = sequential((7, 3), L.Bidirectional(L.SimpleRNN(5)))
    assert multiply_adds(both) == Cost(2 * 7 * (15 + 25), 2 * 7 * (15 + 2 * 25))
    every = sequential((7, 3), L.TimeDistributed(L.Dense(5)))
    assert multiply_adds(every) == Cost(105, 105)


def test_attention():
    x = keras.Input((6, 8))
    model = keras.Model(x, L.MultiHeadAttention(2, 4)(x, x))
    projections, scores, mixed, out = 3 * 6 * 8 * 8, 2 * 36 * 4, 2 * 36 * 4, 6 * 8 * 8
    forward = projections + scores + mixed + out
    assert multiply_adds(model) == Cost(forward, projections + 2 * (scores + mixed + out))


def test_frozen_layers_have_no_weight_gradient_and_nothing_before_the_first_trained_one_any():
    model = sequential((5,), L.Dense(4, name="a"), L.Dense(3, name="b"), L.Dense(2, name="c"))
    model.get_layer("a").trainable = False
    model.get_layer("c").trainable = False
    # a: none. b: its weights alone, 12. c: what goes into it alone, 6.
    assert multiply_adds(model) == Cost(20 + 12 + 6, 12 + 6)


def test_branches_nested_models_and_shared_layers():
    x = keras.Input((4,))
    shared = L.Dense(4, name="shared")
    inner = sequential((4,), L.Dense(3), L.Dense(2))
    y = inner(L.Add()([shared(shared(x)), x]))
    # shared: 16 twice, the second with an input gradient; inner: 12 and 6, both with one.
    assert multiply_adds(keras.Model(x, y)) == Cost(16 + 16 + 12 + 6, 16 + 32 + 24 + 12)


def test_a_layer_nobody_knows_is_refused_until_it_is_said_what_it_costs():
    class Scaled(L.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), name="scale")

        def call(self, x):
            return x * self.scale

    model = sequential((5,), Scaled(name="mine"))
    with pytest.raises(ValueError, match=r"'mine' \(Scaled\) costs is not known"):
        multiply_adds(model)
    register_cost(Scaled, lambda layer, inputs, outputs: [inputs[0][-1]])
    assert multiply_adds(model) == Cost(5, 5)


def test_shapes_have_to_be_fixed():
    with pytest.raises(ValueError, match="expected fixed ones"):
        multiply_adds(sequential((None, None, 1), L.Conv2D(2, 3)))
