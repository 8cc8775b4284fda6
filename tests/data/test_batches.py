import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.data import Examples
from keras_qan.data.order import epoch_order


def numbered(count):
    """Examples whose input and class both say which one it is."""
    y = np.arange(count, dtype=np.int64)
    return Examples(np.stack([y, -y], axis=1).astype(np.float32), y)


def visited(dataset):
    return [int(label) for _, labels in dataset for label in labels.numpy()]


@given(st.integers(0, 50), st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_visits_every_example_once(count, seed, epoch):
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(count))
    assert order.dtype == np.int64


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 25), st.booleans(), st.one_of(st.none(), st.just(3)))
def test_batches_hold_every_example_once_in_batches_of_the_size(count, size, drop, seed):
    if drop and size > count:
        return
    dataset = numbered(count).batches(size, seed=seed, drop_remainder=drop)
    batches = [y.numpy() for _, y in dataset]
    assert len(dataset) == len(batches)
    assert all(len(batch) == size for batch in batches[:-1])
    kept = count - count % size if drop else count
    seen = np.concatenate(batches)
    assert len(seen) == len(set(seen.tolist())) == kept
    assert set(seen.tolist()) <= set(range(count))


def test_inputs_stay_with_their_classes():
    for x, y in numbered(10).batches(3, seed=1):
        assert np.array_equal(x.numpy(), np.stack([y, -y], axis=1).astype(np.float32))
        assert x.dtype == tf.float32
        assert y.dtype == tf.int64


def test_without_a_seed_the_order_is_that_of_the_arrays_in_every_epoch():
    dataset = numbered(5).batches(2)
    assert visited(dataset) == [0, 1, 2, 3, 4]
    assert visited(dataset) == [0, 1, 2, 3, 4]


def test_each_epoch_has_another_order_and_a_second_dataset_repeats_them():
    examples = numbered(64)
    once, again = examples.batches(8, seed=5), examples.batches(8, seed=5)
    epochs = [visited(once) for _ in range(3)]
    assert epochs == [visited(again) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert visited(examples.batches(8, seed=6)) != epochs[0]


def test_the_global_seeds_play_no_part_and_stay_as_they_were():
    examples = numbered(32)
    tf.random.set_seed(1)
    np.random.seed(1)
    first = visited(examples.batches(4, seed=0))
    untouched = np.random.random()
    tf.random.set_seed(2)
    np.random.seed(1)
    assert np.random.random() == untouched
    assert visited(examples.batches(4, seed=0)) == first


@pytest.mark.slow
def test_another_process_sees_the_same_order():
    code = (
        "import numpy as np; from keras_qan.data import Examples\n"
        "data = Examples(np.zeros((32, 1), np.float32), np.arange(32)).batches(8, seed=11)\n"
        "print([[int(i) for _, y in data for i in y.numpy()] for _ in range(2)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    dataset = numbered(32).batches(8, seed=11)
    assert ran.stdout.strip() == str([visited(dataset) for _ in range(2)])


def test_the_shape_is_known_where_the_remainder_is_dropped():
    assert numbered(10).batches(4, drop_remainder=True).element_spec[0].shape == (4, 2)
    assert numbered(10).batches(4).element_spec[0].shape.as_list() == [None, 2]


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
def test_a_batch_size_below_one_or_not_whole_is_refused(batch_size):
    with pytest.raises(ValueError, match=r"batch_size is .*at least 1.*Choose"):
        numbered(4).batches(batch_size)


def test_a_batch_larger_than_the_data_is_refused_where_the_remainder_is_dropped():
    with pytest.raises(ValueError, match="expected at least one batch"):
        numbered(4).batches(5, drop_remainder=True)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed is -1; expected at least 0"):
        numbered(4).batches(2, seed=-1)


def test_inputs_and_classes_of_different_length_are_refused():
    with pytest.raises(ValueError, match="Received 3 inputs and 2 classes"):
        Examples(np.zeros((3, 1), np.float32), np.zeros(2, np.int64))
