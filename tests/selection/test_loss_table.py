import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.selection.loss_table import ClassLosses

BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 10.0, width=32)), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


def told(*batches):
    losses = ClassLosses(3)
    for batch in batches:
        labels, values = zip(*batch, strict=True)
        losses.update(tf.constant(labels), tf.constant(values, tf.float32))
    return losses


def test_of_what_was_known_95_percent_stay_with_each_example_of_the_class():
    losses = told([(0, 1.0), (0, 3.0), (1, 5.0)], [(0, 8.0)], [(1, 1.0), (1, 2.0)])
    expected = [0.95 * 2.0 + 0.05 * 8.0, 0.95**2 * 5.0 + (1 - 0.95**2) * 1.5, np.nan]
    np.testing.assert_allclose(losses.means, expected, rtol=1e-6)


@given(BATCHES)
def test_a_mean_lies_among_the_losses_of_its_class(batches):
    means = told(*batches).means.numpy()
    for label in range(3):
        own = [loss for batch in batches for c, loss in batch if c == label]
        if own:
            assert min(own) - 1e-4 <= means[label] <= max(own) + 1e-4
        else:
            assert np.isnan(means[label])


def test_losses_that_are_no_numbers_are_left_out():
    losses = told([(0, 1.0), (1, 2.0)], [(0, np.nan), (1, np.inf), (2, np.nan)])
    np.testing.assert_allclose(losses.means, [1.0, 2.0, np.nan])


def test_the_loss_over_all_data_is_weighed_by_the_classes_that_are_known():
    losses = told([(0, 1.0), (1, 5.0)])
    assert float(losses.over_all(tf.constant([0.6, 0.2, 0.2]))) == pytest.approx(1.6 / 0.8)
    losses.reset()
    assert np.isnan(losses.over_all(tf.constant([0.6, 0.2, 0.2])))
