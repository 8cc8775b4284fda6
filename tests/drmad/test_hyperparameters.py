import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_qan import drmad
from keras_qan.drmad.data import Batch
from keras_qan.drmad.hyperparameters.base import at_progress
from keras_qan.drmad.hyperparameters.transforms import Log, Logit
from keras_qan.drmad.losses import ExampleLoss
from keras_qan.drmad.model_info import ModelInfo


def info(**changes):
    settings = {
        "paths": ("conv/kernel", "conv/bias", "dense/kernel", "dense/bias"),
        "shapes": ((3, 3, 2, 4), (4,), (8, 5), (5,)),
        "layers": ("conv", "dense"),
        "layer_of": (0, 0, 1, 1),
        "dtype": tf.float64,
        "input_shape": (4, 4, 2),
        "num_examples": 7,
        "num_classes": 5,
        "loss": ExampleLoss("sparse_categorical_crossentropy"),
        "learning_rate": 0.2,
        "momentum": 0.8,
    }
    return ModelInfo(**(settings | changes))


@pytest.mark.parametrize(
    ("per", "count"), [("weight", 72 + 40), ("unit", 2 + 8), ("layer", 2), ("universal", 1)]
)
def test_a_penalty_has_so_many_numbers_and_spreads_each_over_its_own_weights(per, count):
    penalty = drmad.L2(per=per)
    assert penalty.shape(info()) == (count,)
    values = np.arange(1.0, count + 1)
    conv, dense = penalty.spread(tf.constant(values), info())
    conv = np.broadcast_to(conv.numpy(), (3, 3, 2, 4))
    dense = np.broadcast_to(dense.numpy(), (8, 5))
    for index in np.ndindex(3, 3, 2, 4):
        place = np.ravel_multi_index(index, (3, 3, 2, 4))
        number = {"weight": place + 1, "unit": index[2] + 1}.get(per, 1)
        assert conv[index] == number
    for row, column in np.ndindex(8, 5):
        number = {"weight": 73 + 5 * row + column, "unit": 3 + row, "layer": 2}.get(per, 1)
        assert dense[row, column] == number


def test_penalties_are_kerass_own():
    import keras

    rng = np.random.default_rng(0)
    weights = [tf.constant(rng.normal(size=shape)) for shape in info().shapes]
    value = tf.constant([0.3], tf.float64)
    for ours, keras_own in ((drmad.L2, keras.regularizers.L2), (drmad.L1, keras.regularizers.L1)):
        found = ours(per="universal").penalty(value, weights, info())
        # In Keras's own precision, which not every version casts to.
        own = sum(float(keras_own(0.3)(tf.cast(weights[n], tf.float32))) for n in (0, 2))
        assert float(found) == pytest.approx(own, rel=1e-6)


def test_biases_and_layers_can_be_chosen():
    assert drmad.L2(per="unit", biases=True).shape(info()) == (2 + 4 + 8 + 5,)
    assert drmad.L2(per="unit", layers="dense").shape(info()) == (8,)


def test_shapes_and_starts_of_the_others():
    assert drmad.LearningRate(schedule_points=10).initial_unconstrained(info()).shape == (2, 10)
    assert drmad.LearningRate("universal").initial_unconstrained(info()) == pytest.approx(
        np.log(0.2)
    )
    assert drmad.Momentum().initial_unconstrained(info()) == pytest.approx(np.log(4.0))
    assert drmad.LossWeights("class").shape(info()) == (5,)
    assert drmad.LossWeights("example").shape(info()) == (7,)
    assert drmad.InitialScale().shape(info()) == (2,)
    assert drmad.LabelSmoothing().shape(info()) == (1,)


@given(st.floats(1e-6, 1 - 1e-6))
def test_transforms_come_back(value):
    for transform in (Log(), Logit()):
        assert float(transform.value(tf.constant(transform.unconstrained(value)))) == pytest.approx(
            value
        )


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_a_schedule_is_linear_between_its_points(points, progress):
    found = at_progress(tf.constant([points], tf.float64), tf.constant(progress, tf.float64))
    places = np.linspace(0, 1, len(points)) if len(points) > 1 else [0.0]
    assert float(found[0]) == pytest.approx(np.interp(progress, places, points), abs=1e-9)


@pytest.mark.parametrize("from_logits", [True, False])
def test_label_smoothing_is_kerass_own(from_logits):
    import keras

    rng = np.random.default_rng(1)
    logits = rng.normal(size=(6, 5)).astype("float32")
    outputs = tf.constant(logits if from_logits else tf.nn.softmax(logits).numpy())
    y = np.eye(5, dtype="float32")[rng.integers(0, 5, 6)]
    plain = ExampleLoss(keras.losses.CategoricalCrossentropy(from_logits=from_logits))
    smooth = keras.losses.CategoricalCrossentropy(
        from_logits=from_logits, label_smoothing=0.2, reduction="none"
    )
    own = info(loss=plain, dtype=tf.float32)
    batch = Batch(None, y, None, tf.range(6))
    found = drmad.LabelSmoothing().weigh(tf.constant([0.2]), plain(y, outputs), outputs, batch, own)
    np.testing.assert_allclose(found, smooth(y, outputs), rtol=1e-5)


def test_class_weights_go_by_the_label_sparse_or_not():
    y = np.array([3, 0, 3])
    value = tf.constant([2.0, 1.0, 1.0, 5.0, 1.0])
    for loss, targets in (
        ("sparse_categorical_crossentropy", y),
        ("categorical_crossentropy", np.eye(5)[y]),
    ):
        batch = Batch(None, tf.constant(targets), None, tf.constant([4, 5, 6]))
        own = info(loss=ExampleLoss(loss))
        found = drmad.LossWeights("class").weigh(value, tf.ones(3), None, batch, own)
        assert found.numpy().tolist() == [5.0, 2.0, 5.0]


def test_example_weights_go_by_the_place():
    batch = Batch(None, tf.constant([0, 0]), None, tf.constant([6, 1]))
    found = drmad.LossWeights("example").weigh(
        tf.range(7.0), tf.constant([2.0, 3.0]), None, batch, info()
    )
    assert found.numpy().tolist() == [12.0, 3.0]
