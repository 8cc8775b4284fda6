"""The families of keras.applications: all that can grow grows at once and computes the same.

A member of most families stands here; `benchmarks/growth/families.py` sweeps them all.
"""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import double_precision, randomised

import net2net
from net2net.graph import graph_of

MIXING = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D")
MEMBERS = {
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


def member(name, size=None, batch=2):
    settings = {"weights": None, "classes": 5, "classifier_activation": None}
    shape = (size or MEMBERS[name], size or MEMBERS[name], 3)
    model = randomised(getattr(keras.applications, name)(input_shape=shape, **settings))
    generator = np.random.default_rng(0)
    return model, generator.uniform(0, 255, size=(batch, *shape)).astype("float32")


def random_widths(found, generator):
    """Ask every stream of layers for a random width, through the first layer of it."""
    widths, grown = {}, set()
    for path, one in found.items():
        if one and path not in grown:
            steps = int(generator.integers(1, max(2, one.width // one.step // 3)))
            widths[path] = one.width + steps * one.step
            grown.update(one.group)
    return widths


def largest(a, b):
    return float(np.abs(a - b).max() / np.abs(a).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_every_layer_grown_at_once_keeps_the_function(name):
    keras.backend.clear_session()
    model, images = member(name)
    found = net2net.widenable(model)
    layers = dict(graph_of(model).layers())
    mixing = [path for path in found if type(layers[path]).__name__ in MIXING]
    assert sum(bool(found[path]) for path in mixing) >= 0.9 * len(mixing)
    expected = model.predict_on_batch(images)
    wide = net2net.grow(model, random_widths(found, np.random.default_rng(0)))
    assert largest(expected, wide.predict_on_batch(images)) <= 1e-5
    del wide
    deep = [path for path, one in net2net.deepenable(model).items() if one]
    # Every third block is enough here; the benchmark inserts them all.
    deeper = net2net.grow(model, deepen=deep[::3])
    assert len(deeper.weights) > len(model.weights)
    assert largest(expected, deeper.predict_on_batch(images)) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121"])
def test_in_double_precision_both_modes_agree_to_rounding(name):
    """With batches of less than this, batch statistics blow rounding itself up a millionfold."""
    keras.backend.clear_session()
    with double_precision():
        model, images = member(name, size=64, batch=8)
        found = net2net.widenable(model)
        wide = net2net.grow(model, random_widths(found, np.random.default_rng(1)))
        for training in (False, True):
            expected, seen = (np.asarray(m(images, training=training)) for m in (model, wide))
            assert largest(expected, seen) <= 1e-12
