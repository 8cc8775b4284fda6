"""The families of keras.applications: all that can grow grows at once and computes the same.

Every day it is one short member of each way of joining blocks, built by the families' own
functions. `make stress` grows published members, and `benchmarks/growth/families.py` all of them.
"""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import double_precision, random_widths, randomise
from keras.src.applications import convnext, densenet, efficientnet, resnet

import net2net
from net2net.graph import graph_of

MIXING = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D")
SETTINGS = {"weights": None, "classes": 5, "classifier_activation": None}


def short_resnet(**settings):
    def stacks(x):
        for filters, name in ((16, "conv2"), (32, "conv3")):
            x = resnet.stack_residual_blocks_v1(x, filters, 2, name=name)
        return x

    return resnet.ResNet(stacks, preact=False, use_bias=True, **settings)


SHORT = {
    "ResNet": short_resnet,
    "DenseNet": lambda **settings: densenet.DenseNet([2, 3, 2, 2], **settings),
    "EfficientNet": lambda **settings: efficientnet.EfficientNet(0.5, 0.3, 32, **settings),
    "ConvNeXt": lambda **settings: convnext.ConvNeXt([1, 2, 1, 1], [16, 32, 32, 64], **settings),
}
PUBLISHED = {
    "MobileNetV2": 32,
    "VGG16": 32,
    "ResNet50": 32,
    "MobileNet": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "InceptionV3": 75,
    "Xception": 71,
    "ConvNeXtTiny": 32,
}


def build(make, size, batch=2):
    model = randomise(make(input_shape=(size, size, 3), **SETTINGS))
    generator = np.random.default_rng(0)
    return model, generator.uniform(0, 255, size=(batch, size, size, 3)).astype("float32")


def largest(a, b):
    return float(np.abs(a - b).max() / np.abs(a).max())


def check_growth_of_every_layer(model, images):
    found = net2net.widenable(model)
    layers = dict(graph_of(model).layers())
    mixing = [path for path in found if type(layers[path]).__name__ in MIXING]
    assert sum(bool(found[path]) for path in mixing) >= 0.9 * len(mixing)
    expected = np.asarray(model(images, training=False))
    wide = net2net.grow(model, random_widths(found, np.random.default_rng(0)))
    assert largest(expected, np.asarray(wide(images, training=False))) <= 1e-5
    del wide
    deep = [path for path, one in net2net.deepenable(model).items() if one]
    # Every third block is enough here; the benchmark inserts them all.
    deeper = net2net.grow(model, deepen=deep[::3])
    assert len(deeper.weights) > len(model.weights)
    assert largest(expected, np.asarray(deeper(images, training=False))) <= 1e-5


def check_both_modes_to_rounding(make, size, batch=8):
    """With batches of less than this, batch statistics blow rounding itself up a millionfold."""
    with double_precision():
        model, images = build(make, size, batch)
        found = net2net.widenable(model)
        wide = net2net.grow(model, random_widths(found, np.random.default_rng(1)))
        for training in (False, True):
            expected, seen = (np.asarray(m(images, training=training)) for m in (model, wide))
            assert largest(expected, seen) <= 1e-12


@pytest.fixture(autouse=True)
def fresh_names():
    keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_every_layer_of_a_short_member_grown_at_once_keeps_the_function(name):
    check_growth_of_every_layer(*build(SHORT[name], 32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet", "DenseNet"])
def test_both_modes_of_a_short_member_agree_to_rounding_in_double_precision(name):
    check_both_modes_to_rounding(SHORT[name], 64)


@pytest.mark.stress
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_grown_at_once_keeps_the_function(name):
    check_growth_of_every_layer(*build(getattr(keras.applications, name), PUBLISHED[name]))


@pytest.mark.stress
@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121"])
def test_both_modes_agree_to_rounding_in_double_precision(name):
    check_both_modes_to_rounding(getattr(keras.applications, name), 64)
