import numpy as np
import pytest
import tensorflow as tf

from keras_qan.selection import ClassMix

X = np.zeros((40, 2), "float32")
CLASSES = np.arange(40) % 4


def mix(y, **more):
    data = tf.data.Dataset.from_tensor_slices((X[: len(y)], y))
    return ClassMix(data, **{"num_classes": 4, "batch_size": 4, "slots": 2, **more})


@pytest.mark.parametrize(
    "y",
    [
        CLASSES,
        CLASSES.astype("uint8"),
        CLASSES.astype("float32"),
        CLASSES[:, np.newaxis],
        np.eye(4, dtype="float32")[CLASSES],
        np.eye(4, dtype="int64")[CLASSES],
        0.9 * np.eye(4, dtype="float32")[CLASSES] + 0.025,  # smoothed
    ],
    ids=["int", "uint8", "float", "column", "one-hot", "whole one-hot", "smoothed"],
)
def test_classes_are_found_however_they_are_written(y):
    selector = mix(y)
    assert selector._walks.sizes.numpy().tolist() == [10] * 4
    np.testing.assert_array_equal(CLASSES[selector._walks._by_group], np.repeat(range(4), 10))


def test_booleans_are_two_classes():
    assert mix(CLASSES > 1, num_classes=2)._walks.sizes.numpy().tolist() == [20, 20]


def test_a_function_says_where_the_class_is():
    data = tf.data.Dataset.from_tensor_slices({"image": X, "digit": CLASSES})
    selector = ClassMix(data, 4, 4, slots=2, label=lambda example: example["digit"])
    assert selector._walks.sizes.numpy().tolist() == [10] * 4
    pairs = tf.data.Dataset.from_tensor_slices((X, {"a": CLASSES, "b": CLASSES}))
    selector = ClassMix(pairs, 2, 4, slots=2, label=lambda x, y: y["a"] // 2)
    assert selector._walks.sizes.numpy().tolist() == [20, 20]


@pytest.mark.parametrize(
    ("y", "more", "says"),
    [
        (CLASSES % 3, {}, r"no examples of class 3 \(1 of 4"),
        (CLASSES + 1, {}, r"the label 4 .*classes from 0 to 3"),
        (CLASSES - 1, {}, "the label -1"),
        (np.linspace(0, 1, 40), {}, r"no whole numbers.*LossRank or selection\.Prune"),
        (np.full(40, np.nan), {}, "no whole numbers"),
        (np.random.default_rng(0).normal(size=(40, 4)), {}, "do not add up to 1.*LossRank"),
        (np.eye(6)[np.arange(40) % 6], {}, r"shape \(6,\).*num_classes=4"),
        (np.zeros((40, 3, 3)), {}, r"shape \(3, 3\)"),
        (CLASSES.astype(str), {}, "StringLookup"),
        (CLASSES, {"num_classes": 1}, "num_classes=1.*Uniform"),
        (CLASSES, {"label": lambda x, y: {"a": y}}, "expected one tensor"),
        (CLASSES, {"slots": 0}, "slots=0"),
        (CLASSES, {"slots": 5}, "slots=5 and batch_size=4"),
        (np.repeat([0, 1, 2, 3], [17, 17, 5, 1]), {"batch_size": 8}, "got 1 examples of class 3"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_a_way_out(y, more, says):
    with pytest.raises(ValueError, match=says):
        mix(y, **more)


@pytest.mark.parametrize(
    "data",
    [
        tf.data.Dataset.from_tensor_slices(X),
        tf.data.Dataset.from_tensor_slices({"x": X, "y": CLASSES}),
        tf.data.Dataset.from_tensor_slices((X, {"a": CLASSES})),
    ],
    ids=["inputs alone", "a dictionary", "several targets"],
)
def test_where_the_class_is_has_to_be_said_if_it_is_not_plain(data):
    with pytest.raises(ValueError, match="label=lambda"):
        ClassMix(data, 4, 4, slots=2)
