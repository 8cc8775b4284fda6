import math

import numpy as np
import pytest
import tensorflow as tf

from keras_qan import observations
from keras_qan.observations import (
    CurrentLearningRate,
    ObservationContext,
    TrainingState,
    WeightStatistics,
    loss_history,
)
from keras_qan.observations.weight_statistics import kernel_features


def situation(**other):
    values = {
        "kernels": [],
        "rate": tf.constant(0.02),
        "initial_rate": tf.constant(0.1),
        "progress": tf.constant(0.25),
        "log_losses": tf.constant([-1.5, -1.0, -0.75]),
        "pace": tf.constant(2.0),
        "track": loss_history.start(),
        "motion": tf.zeros([3]),
        "optimizer": tf.zeros([2]),
        "num_steps": tf.constant(100.0),
        "interval": tf.constant(5.0),
    }
    return ObservationContext(**(values | other))


def test_training_state_by_hand():
    # Slope (-1.5 + 1.0) · 2, curvature (-1.5 + 2 · 1.0 - 0.75) · 2.
    expected = [math.log(0.02), math.log(0.2), 0.25, -1.5, -1.0, -0.5]
    assert TrainingState()(situation()).numpy().tolist() == pytest.approx(expected, rel=1e-5)


def test_training_state_is_finite_at_a_rate_of_zero():
    zero = tf.constant(0.0)
    assert np.isfinite(TrainingState()(situation(rate=zero, initial_rate=zero)).numpy()).all()


def test_learning_rate_is_the_rate():
    assert CurrentLearningRate()(situation()).numpy().tolist() == [np.float32(0.02)]


def test_weight_statistics_go_kernel_by_kernel():
    first, second = tf.random.stateless_normal([2, 3, 2], [0, 1]), tf.ones([2, 2])
    found = WeightStatistics()(situation(kernels=[first, second])).numpy()
    np.testing.assert_array_equal(found[:192], kernel_features(first).numpy())
    np.testing.assert_array_equal(found[192:], kernel_features(second).numpy())


def test_the_default_state_has_the_papers_features_and_six_more():
    assert sum(part.size(1) for part in observations.default()) == 192 + 1 + 6


def test_watched_layers_are_given_as_a_list():
    assert WeightStatistics().layers is None
    assert WeightStatistics(["a", 1]).layers == ("a", 1)
    for wrong in ("conv", 0):
        with pytest.raises(ValueError, match=r"expected a list\. Write \["):
            WeightStatistics(wrong)
    with pytest.raises(ValueError, match="empty list of layers"):
        WeightStatistics([])
