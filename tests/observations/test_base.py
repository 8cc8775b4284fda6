import math

import keras
import numpy as np
import pytest

from keras_qan import observations
from keras_qan.observations import (
    CurrentLearningRate,
    ObservationContext,
    TrainingState,
    WeightStatistics,
    loss_history,
)
from keras_qan.observations.weight_statistics import kernel_features


def context(**other):
    values = {
        "kernels": [],
        "rate": 0.02,
        "initial_rate": 0.1,
        "progress": 0.25,
        "log_losses": np.array([-1.5, -1.0, -0.75]),
        "decisions_in_part": 2.0,
        "history": loss_history.start_history(),
        "motion": np.zeros(3),
        "optimizer": np.zeros(2),
        "num_steps": 100.0,
        "interval": 5.0,
    }
    return ObservationContext(**(values | other))


def test_training_state_by_hand():
    # Slope (-1.5 + 1.0) · 2, curvature (-1.5 + 2 · 1.0 - 0.75) · 2.
    expected = [math.log(0.02), math.log(0.2), 0.25, -1.5, -1.0, -0.5]
    assert TrainingState()(context()).tolist() == pytest.approx(expected, rel=1e-5)


def test_training_state_is_finite_at_a_rate_of_zero():
    assert np.isfinite(TrainingState()(context(rate=0.0, initial_rate=0.0))).all()


def test_learning_rate_is_the_rate():
    assert CurrentLearningRate()(context()).tolist() == [0.02]


@pytest.mark.slow
def test_weight_statistics_go_kernel_by_kernel():
    first = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=[2, 3, 2]))
    second = keras.ops.ones([2, 2])
    found = WeightStatistics()(context(kernels=[first, second]))
    np.testing.assert_array_equal(found[:192], kernel_features(first))
    np.testing.assert_array_equal(found[192:], kernel_features(second))


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
