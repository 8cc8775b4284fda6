"""The contract of every observation."""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_qan import observations
from keras_qan.observations import (
    CurrentLearningRate,
    Generalisation,
    ObservationContext,
    TrainingDynamics,
    TrainingState,
    WeightStatistics,
    loss_history,
)
from keras_qan.storage import serialization

OBSERVATIONS = [
    WeightStatistics(),
    WeightStatistics(["conv", 1]),
    CurrentLearningRate(),
    TrainingState(),
    TrainingDynamics(),
    Generalisation(),
]
KERNELS = [tf.random.stateless_normal(shape, [0, 1]) for shape in ([3, 3, 2, 4], [5, 3])]

all_observations = pytest.mark.parametrize(
    "observation", OBSERVATIONS, ids=lambda part: type(part).__name__
)


def situation(kernels, rate=0.1, log_losses=(-1.0, 0.5, 0.0)):
    numbers = [tf.constant(n) for n in (rate, 0.1, 0.5, log_losses, 1.0)]
    memory = loss_history.start()._replace(
        now=numbers[3][0], before=numbers[3][1], best=numbers[3][2]
    )
    motion, optimizer = tf.constant([-9.0, 1.0, 0.5]), tf.constant([0.0, 2.3])
    lengths = tf.constant(40.0), tf.constant(2.0)
    return ObservationContext(kernels, *numbers, memory, motion, optimizer, *lengths)


def test_every_registered_observation_is_tested_here():
    room = [
        c for c in serialization._classes.values() if c.__module__.startswith(observations.__name__)
    ]
    assert {type(part) for part in OBSERVATIONS} == set(room)


@all_observations
@pytest.mark.parametrize("num_kernels", [1, 2])
def test_an_observation_is_as_long_as_it_says(observation, num_kernels):
    traced = tf.function(observation.__call__, autograph=False)
    found = traced(situation(KERNELS[:num_kernels]))
    assert (found.dtype, found.shape) == (tf.float32, [observation.size(num_kernels)])
    assert np.isfinite(found).all()


@all_observations
@pytest.mark.parametrize("rate", [0.0, 1e-30, 1e6])
@pytest.mark.parametrize("weight", [0.0, 1e-20, 1e6])
def test_an_observation_is_finite_in_extreme_situations(observation, rate, weight):
    kernels = [tf.fill([3, 3, 2, 4], weight), weight * KERNELS[1]]
    extreme = situation(kernels, rate, (2.0, -25.0, 2.0))
    assert np.isfinite(observation(extreme)).all()


@all_observations
def test_an_observation_comes_back_from_its_settings(observation):
    again = serialization.from_config(json.loads(json.dumps(serialization.to_config(observation))))
    assert type(again) is type(observation)
    assert again.layers == observation.layers
