"""The contract of every observation."""

import json

import keras
import numpy as np
import pytest

from keras_qan import observations
from keras_qan.observations import (
    CurrentLearningRate,
    Generalisation,
    ObservationContext,
    SlopeDynamics,
    SlopeObservation,
    TrainingDynamics,
    TrainingState,
    WeightStatistics,
    loss_history,
)
from keras_qan.qan.slope_ratio import SlopeEstimate
from keras_qan.storage import serialization

OBSERVATIONS = [
    WeightStatistics(),
    WeightStatistics(["conv", 1]),
    CurrentLearningRate(),
    TrainingState(),
    TrainingDynamics(),
    SlopeDynamics(),
    Generalisation(),
    SlopeObservation(),
]
KERNELS = [
    np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for shape in ([3, 3, 2, 4], [5, 3])
]

all_observations = pytest.mark.parametrize(
    "observation", OBSERVATIONS, ids=lambda part: type(part).__name__
)


def context(kernels, rate=0.1, log_losses=(-1.0, 0.5, 0.0)):
    now, before, best = log_losses
    return ObservationContext(
        kernels=[keras.ops.convert_to_tensor(kernel) for kernel in kernels],
        rate=rate,
        initial_rate=0.1,
        progress=0.5,
        log_losses=np.array(log_losses),
        decisions_in_part=1.0,
        history=loss_history.start_history()._replace(now=now, before=before, best=best),
        motion=np.array([-9.0, 1.0, 0.5]),
        optimizer=np.array([0.0, 2.3, 1.0]),
        num_steps=40.0,
        interval=2.0,
        slope=SlopeEstimate(0.4, 0.1, -1.0, 4, 5, 1e-3),
    )


def test_every_registered_observation_is_tested_here():
    room = [
        c for c in serialization._classes.values() if c.__module__.startswith(observations.__name__)
    ]
    assert {type(part) for part in OBSERVATIONS} == set(room)


@pytest.mark.slow
@all_observations
@pytest.mark.parametrize("num_kernels", [1, 2])
def test_an_observation_is_as_long_as_it_says(observation, num_kernels):
    found = observation(context(KERNELS[:num_kernels]))
    assert isinstance(found, np.ndarray)
    assert found.dtype.kind == "f"
    assert found.shape == (observation.size(num_kernels),)
    assert np.isfinite(found).all()


@all_observations
@pytest.mark.parametrize("rate", [0.0, 1e-30, 1e6])
@pytest.mark.parametrize("weight", [0.0, 1e-20, 1e6])
def test_an_observation_is_finite_in_extreme_situations(observation, rate, weight):
    kernels = [np.full([3, 3, 2, 4], weight, np.float32), np.float32(weight) * KERNELS[1]]
    extreme = context(kernels, rate, (2.0, -25.0, 2.0))
    assert np.isfinite(observation(extreme)).all()


@all_observations
def test_an_observation_comes_back_from_its_settings(observation):
    again = serialization.from_config(json.loads(json.dumps(serialization.to_config(observation))))
    assert type(again) is type(observation)
    assert again.layers == observation.layers
