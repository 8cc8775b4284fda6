import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.selection.pipeline import ExampleSource
from keras_qan.selection.statistics import BatchComposition
from keras_qan.selection.stream_state import DelayedValues, EpochSampler, StreamState


def number(value):
    return tf.constant(value, tf.int64)


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 70))
def test_delayed_values_are_those_that_hold_for_a_batch(gaps, asked):
    values = DelayedValues([[100.0], [101.0]])
    changes, since = [(-1, 100.0), (-1, 101.0)], 0
    for place, gap in enumerate(gaps):
        since += gap
        values.append(tf.constant([place], tf.float64), number(since))
        changes.append((since, float(place)))
    expected = [change for change in changes if change[0] <= asked][-2:]
    found = values.at(number(asked)).numpy()
    assert [tuple(row) for row in found] == expected
    assert tuple(values.newest().numpy()) == changes[-1]


def test_delayed_values_keep_what_waits_when_they_are_full():
    values = DelayedValues([[0.0]])
    for place in range(200):
        values.append(tf.constant([place], tf.float64), number(place))
    assert values.at(number(150)).numpy().tolist() == [[150.0, 150.0]]
    values.reset()
    assert values.at(number(150)).numpy().tolist() == [[-1.0, 0.0]]


def test_the_latest_batches_are_recorded_and_no_others():
    stream = StreamState(2, EpochSampler(None, 200), num_counters=1)
    for n in range(100):
        stream.record(number(n), tf.constant([n, n + 1]), tf.constant([10 * n], tf.int64))
    are_known, indices, counters = stream.recorded(number(90), number(3))
    assert bool(are_known)
    assert indices.numpy().tolist() == [[90, 91], [91, 92], [92, 93]]
    assert counters.numpy().tolist() == [[900], [910], [920]]
    for first, count in ((98, 3), (3, 1), (500, 1)):
        assert not bool(stream.recorded(number(first), number(count))[0])
    stream.clear_batches(300)
    assert int(stream.newest) == -1
    assert not bool(stream.recorded(number(99), number(1))[0])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_a_composition_counts_every_batch_whatever_came_in_one_call(calls, seed):
    composition = _COMPOSITION
    composition.reset()
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(8, [0.2, 0.5, 0.3], sum(calls)).astype("float32")
    done = 0
    for size in calls:
        composition.add(number(done), tf.constant(counts[done : done + size]))
        done += size
    found = composition.shares(done)
    np.testing.assert_allclose(found.share, counts / 8, atol=1e-6)
    assert found.edges.tolist() == list(range(done + 1))
    assert composition.recent.numpy().sum() == pytest.approx(1.0, abs=1e-5)


_COMPOSITION = BatchComposition(("a", "b", "c"))


def test_a_long_training_is_told_in_fewer_parts():
    composition = BatchComposition(("a", "b"))
    composition.add(number(0), tf.constant([[1.0, 0.0]] * 300))
    composition.add(number(300), tf.constant([[0.0, 1.0]] * 400))
    found = composition.shares(700)
    assert len(found.share) == 175  # four batches in each of them
    assert found.edges.tolist() == [4.0 * part for part in range(176)]
    assert found.share[:75].tolist() == [[1.0, 0.0]] * 75
    assert found.share[75:].tolist() == [[0.0, 1.0]] * 100


def test_slices_of_tensors_are_used_where_they_are():
    x = tf.random.stateless_uniform([50, 3], [1, 2])
    dataset = tf.data.Dataset.from_tensor_slices((x, tf.range(50)))
    source = ExampleSource(dataset)
    assert source._columns[0] is dataset._tensors[0]
    np.testing.assert_array_equal(source.batch(tf.constant([4, 9]))[0], tf.gather(x, [4, 9]))


def test_any_other_pipeline_is_read_once_in_its_own_dtypes():
    reads = []

    def note(n):
        reads.append(int(n))
        return n

    dataset = tf.data.Dataset.range(2_500).map(
        lambda n: {
            "n": tf.ensure_shape(tf.numpy_function(note, [n], tf.int64), []),
            "text": tf.strings.as_string(n),
            "small": tf.cast(n % 7, tf.uint8)[tf.newaxis],
        }
    )
    source = ExampleSource(dataset)
    assert sorted(reads) == list(range(2_500))
    found = source.batch(tf.constant([2_499, 0, 1_024]))
    assert found["n"].numpy().tolist() == [2_499, 0, 1_024]
    assert found["text"].numpy().tolist() == [b"2499", b"0", b"1024"]
    assert (found["small"].dtype, found["small"].numpy().tolist()) == (tf.uint8, [[0], [0], [2]])
    assert len(reads) == 2_500


def hand_out(stream, *numbers, is_first=False):
    for number in numbers:
        stream.hand_out(
            tf.constant(number, tf.int64), tf.zeros([0], tf.int64), tf.constant(is_first)
        )
        is_first = False


def test_what_a_fits_buffers_fetch_after_its_end_is_not_counted_and_the_next_iterator_is():
    stream = StreamState(2, EpochSampler(None, 10))
    stream.begin(None, 2)
    hand_out(stream, 0, 1, 2, is_first=True)
    stream.advance(tf.constant(2, tf.int64), tf.zeros([0], tf.int64))
    stream.end()
    hand_out(stream, 3, 4)  # the fit's iterator is still there
    assert int(stream.trained) == 2
    hand_out(stream, 2, 3, is_first=True)
    assert int(stream.trained) == 4
