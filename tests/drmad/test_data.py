import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan.drmad.data import BatchRecording


def rows(recording, step):
    return recording.batch(tf.constant(step)).index.numpy().tolist()


def arrays(count=10):
    return np.arange(float(count))[:, None], np.arange(count)


def test_every_epoch_is_another_permutation_and_any_step_can_be_asked_for_again():
    recording = BatchRecording(arrays(), batch_size=5, seed=3, name="train")
    epochs = [rows(recording, 2 * epoch) + rows(recording, 2 * epoch + 1) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert rows(recording, 5) == epochs[2][5:]
    assert rows(BatchRecording(arrays(), 5, 3, "train"), 0) == epochs[0][:5]
    assert rows(BatchRecording(arrays(), 5, 4, "train"), 0) != epochs[0][:5]


def test_a_batch_holds_its_own_rows():
    batch = BatchRecording(arrays(), batch_size=4, seed=0, name="train").batch(tf.constant(1))
    np.testing.assert_array_equal(batch.x[:, 0], tf.cast(batch.index, "float64"))
    np.testing.assert_array_equal(batch.y, batch.index)


def test_shuffled_arrays_leave_out_the_rest_and_ordered_ones_do_not():
    assert BatchRecording(arrays(), 4, 0, "train").num_batches == 2
    ordered = BatchRecording(arrays(), 4, None, "validation")
    assert [rows(ordered, n) for n in range(4)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
        [0, 1, 2, 3],
    ]


def test_a_dataset_keeps_its_batches():
    x, y = arrays()
    weight = np.linspace(0, 1, 10)
    fixed = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(4)
    recording = BatchRecording(fixed, 32, 0, "train")
    assert [rows(recording, n) for n in range(4)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
        [0, 1, 2, 3],
    ]
    np.testing.assert_allclose(recording.batch(tf.constant(2)).weight, weight[8:])


def test_a_shuffle_that_is_the_same_in_each_pass_is_taken():
    data = tf.data.Dataset.from_tensor_slices(arrays())
    shuffled = data.shuffle(10, seed=1, reshuffle_each_iteration=False).batch(5)
    assert BatchRecording(shuffled, 1, 0, "train").num_examples == 10


def test_a_keras_dataset_and_nested_inputs_are_taken():
    class Rows(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return {"a": np.full((3, 1), number), "b": np.ones((3, 2))}, np.full(3, number)

    recording = BatchRecording(Rows(), 1, 0, "train")
    batch = recording.batch(tf.constant(1))
    assert batch.x["a"].numpy().tolist() == [[1], [1], [1]]
    assert batch.x["b"].shape == (3, 2)


def test_an_object_with_x_and_y_is_taken():
    from keras_qan.data import Examples

    examples = Examples(np.zeros((6, 2, 2, 1), "float32"), np.arange(6))
    assert BatchRecording(examples, 3, 0, "train").num_batches == 2


@pytest.mark.parametrize("change", ["x", "order"])
def test_other_data_has_another_fingerprint(change):
    x, y = arrays()
    other = (x + 1, y) if change == "x" else (x[::-1], y[::-1])
    one, two = (BatchRecording(data, 5, 0, "train").fingerprint() for data in ((x, y), other))
    assert one != two
    assert one == BatchRecording((x, y), 5, 0, "train").fingerprint()
