"""Chains of ten operations on random graphs compute what they did before."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import (
    double_precision,
    largest_difference,
    randomise,
    some_inputs,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import net2net

L = keras.layers


def _convolved(x, other, width):
    return L.Conv2D(width, 3, padding="same", activation="relu")(x)


def _summed(x, other, width):
    return L.Add()([x, L.Conv2D(x.shape[-1], 1)(other)])


def _gated(x, other, width):
    gate = L.Dense(x.shape[-1], "sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    return L.Multiply()([x, gate])


PIECES = {
    "convolution": _convolved,
    "sum": _summed,
    "gate": _gated,
    "join": lambda x, other, width: L.Concatenate()([x, other]),
    "depthwise": lambda x, other, width: L.DepthwiseConv2D(3, padding="same")(x),
    "separable": lambda x, other, width: L.SeparableConv2D(width, 3, padding="same")(x),
    "batch": lambda x, other, width: L.BatchNormalization()(x),
    "layer": lambda x, other, width: L.LayerNormalization()(x),
    "instance": lambda x, other, width: L.GroupNormalization(-1)(x),
    "grouped": lambda x, other, width: L.Conv2D(2 * x.shape[-1], 1, groups=x.shape[-1])(x),
    "activation": lambda x, other, width: L.Activation("tanh")(x),
    "largest": lambda x, other, width: L.Maximum()([x, L.Conv2D(x.shape[-1], 1)(other)]),
    "pooling": lambda x, other, width: L.MaxPooling2D(3, strides=1, padding="same")(x),
    "dense": lambda x, other, width: L.Dense(width, "gelu")(x),
}

chains = st.lists(
    st.tuples(st.sampled_from(list(PIECES)), st.integers(0, 9), st.integers(1, 5)),
    min_size=10,
    max_size=10,
)


def built(chain):
    inputs = keras.Input((4, 4, 3))
    made = [L.Conv2D(3, 1)(inputs)]
    for name, back, width in chain:
        made.append(PIECES[name](made[-1], made[-1 - back % len(made)], width))
    x = L.Dense(3)(L.Flatten()(made[-1]))
    return randomise(keras.Model(inputs, [x, L.Dense(2)(L.GlobalMaxPooling2D()(made[5]))]))


def check(chain, seed):
    """Widen every layer that can be, one after another in one plan, and deepen every other."""
    keras.backend.clear_session()
    with double_precision():
        model = built(chain)
        generator = np.random.default_rng(seed)
        big, widened = model, 0
        for name in generator.permutation(list(net2net.widenable(model)))[:5]:
            found = net2net.widenable(big)[name]
            if found:
                more = found.step * int(generator.integers(1, 3))
                if found.width + more > 200:
                    continue
                big = net2net.widen(big, str(name), found.width + more, seed=seed)
                widened += 1
        deep = [name for name, one in net2net.deepenable(big).items() if one][:3]
        big = net2net.grow(big, deepen=deep, seed=seed)
        inputs = some_inputs(model)
        assert largest_difference(model, big, inputs) <= 1e-11
        assert largest_difference(model, big, inputs, training=True) <= 1e-9
    return widened


relaxed = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.stress
@given(chain=chains, seed=st.integers(0, 9))
@settings(max_examples=4, derandomize=True, **relaxed)
def test_random_chains_keep_their_function(chain, seed):
    check(chain, seed)


@pytest.mark.stress
@given(chain=chains, seed=st.integers(0, 9))
@settings(max_examples=30, **relaxed)
def test_many_random_chains_keep_their_function(chain, seed):
    check(chain, seed)
