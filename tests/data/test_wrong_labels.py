import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.data import Examples


def examples(labels):
    return Examples(np.arange(len(labels), dtype=np.float32)[:, np.newaxis], np.asarray(labels))


@given(st.integers(2, 6), st.integers(0, 1000))
def test_what_is_mislabelled_has_another_class_that_exists(num_classes, seed):
    right = examples(np.arange(200) % num_classes)
    wrong = right.with_wrong_labels(0.999, num_classes=num_classes, seed=seed)
    assert (wrong.y != right.y).mean() > 0.95
    assert set(wrong.y) <= set(range(num_classes))
    assert wrong.x is right.x
    assert right.y.tolist() == (np.arange(200) % num_classes).tolist()  # as it was


def test_the_share_is_kept_and_every_other_class_is_as_likely():
    right = examples(np.zeros(20_000, np.int64))
    wrong = right.with_wrong_labels(0.2, num_classes=5)
    counts = np.bincount(wrong.y, minlength=5)
    # Binomial: 4,000 wrong ones, deviation 57; 1,000 of each class, deviation 31.
    assert abs(counts[1:].sum() - 4_000) < 5 * 57
    assert (np.abs(counts[1:] - 1_000) < 5 * 31).all()


def test_labels_follow_from_the_seed():
    right = examples(np.arange(100) % 10)
    one, same, other = (
        right.with_wrong_labels(0.3, num_classes=10, seed=seed).y for seed in (1, 1, 2)
    )
    assert one.tolist() == same.tolist() != other.tolist()


def test_a_share_of_none_changes_nothing():
    right = examples(np.arange(100) % 10)
    assert right.with_wrong_labels(0.0, num_classes=10).y.tolist() == right.y.tolist()


@pytest.mark.parametrize(("name", "value"), [("share", 1.0), ("share", -0.1), ("num_classes", 1)])
def test_a_share_or_number_of_classes_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; expected"):
        examples([0, 1]).with_wrong_labels(**{"share": 0.2, "num_classes": 10, name: value})
