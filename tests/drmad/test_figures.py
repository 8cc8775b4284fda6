"""The figures of a search, from its data."""

import numpy as np
import pytest
import tensorflow as tf

from keras_qan import drmad
from keras_qan.drmad.figures import penalty_images, rates_by_layer
from keras_qan.drmad.losses import ExampleLoss
from keras_qan.drmad.model_info import ModelInfo
from keras_qan.plots import tuning


def info(input_shape, shapes):
    return ModelInfo(
        paths=("a/kernel", "b/kernel"),
        shapes=shapes,
        layers=("a", "b"),
        layer_of=(0, 1),
        dtype=tf.float64,
        input_shape=input_shape,
        num_examples=3,
        num_classes=2,
        loss=ExampleLoss("mse"),
        learning_rate=0.1,
        momentum=0.9,
    )


@pytest.mark.parametrize("input_shape", [(2, 3, 1), (2, 3)])
def test_penalties_of_units_are_the_pixels_in_their_places(input_shape):
    own = info(input_shape, ((6, 4), (4, 2)))
    value = np.arange(1.0, 11.0)
    images = penalty_images([drmad.L2("unit")], {"l2": value}, own)
    np.testing.assert_allclose(images["l2"], [[1, 2, 3], [4, 5, 6]])


def test_penalties_of_weights_and_channels_are_averaged_geometrically():
    own = info((2, 2, 2), ((8, 2), (2, 2)))
    value = np.array([1.0, 4.0] * 8 + [1.0] * 4)
    images = penalty_images([drmad.L2("weight")], {"l2": value}, own)
    np.testing.assert_allclose(images["l2"], np.full((2, 2), 2.0))


@pytest.mark.parametrize(
    ("input_shape", "shapes", "per"),
    [
        ((4,), ((4, 2), (2, 2)), "layer"),
        ((2, 2, 1), ((3, 3, 1, 2), (8, 2)), "unit"),
        (None, ((4, 2), (2, 2)), "unit"),
    ],
)
def test_what_is_no_image_is_not_drawn(input_shape, shapes, per):
    own = info(input_shape, shapes)
    penalty = drmad.L2(per)
    assert penalty_images([penalty], {"l2": np.ones(penalty.shape(own))}, own) == {}


def test_a_large_flat_input_may_be_a_square_image():
    own = info((256,), ((256, 2), (2, 2)))
    images = penalty_images([drmad.L1("unit")], {"l1": np.arange(1.0, 259.0)}, own)
    np.testing.assert_allclose(images["l1"], np.arange(1.0, 257.0).reshape(16, 16))


@pytest.mark.parametrize("features", [5, 64])
def test_features_of_a_table_are_bars_one_for_each(features):
    own = info((features,), ((features, 2), (2, 2)))
    values = np.arange(1.0, features + 3.0)
    images = penalty_images([drmad.L2("unit")], {"l2": values}, own)
    np.testing.assert_allclose(images["l2"], [values[:features]])
    (axes,) = tuning.penalties_figure(images).axes
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], values[:features])


def test_rates_are_named_by_layer():
    own = info((4,), ((4, 2), (2, 2)))
    value = np.array([[0.1, 0.2], [0.3, 0.4]])
    found = rates_by_layer([drmad.LearningRate(schedule_points=2)], {"rate": value}, own)
    assert {layer: line.tolist() for layer, line in found.items()} == {
        "a": [0.1, 0.2],
        "b": [0.3, 0.4],
    }


def test_figures_show_what_they_are_given():
    figure = tuning.losses_figure({"one": [[3.0, 2.0, 1.0], [5.0, 4.0]], "two": [[2.0, 2.0]]})
    lines = figure.axes[0].get_lines()
    strong = [line for line in lines if line.get_linewidth() == 2]
    assert [line.get_label() for line in strong] == ["one (2)", "two (1)"]
    np.testing.assert_allclose(strong[0].get_ydata(), [4.0, 3.0])
    assert len(tuning.penalties_figure({"a": np.ones((2, 2)), "b": np.eye(2) + 1}).axes) == 4
    rates = tuning.rates_figure(np.array([0.0, 1.0]), {"a": np.array([0.1, 0.2])})
    np.testing.assert_allclose(rates.axes[0].get_lines()[0].get_ydata(), [0.1, 0.2])
