"""The contract of every action and every schedule."""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_qan import actions
from keras_qan.actions import (
    Cosine,
    Decay,
    Follow,
    Hold,
    OneCycle,
    Raise,
    Restart,
    StepBack,
    StepDecay,
    WarmRestarts,
)
from keras_qan.storage import serialization

SCHEDULES = [Cosine(), StepDecay(), StepDecay(0.5, ()), OneCycle(), WarmRestarts()]
ACTIONS = [Decay(), Raise(), Hold(), Restart(), Restart(0.3), StepBack(), *map(Follow, SCHEDULES)]


def _name(value):
    inner = getattr(value, "schedule", value)
    return f"{type(value).__name__} {type(inner).__name__}"


all_actions = pytest.mark.parametrize("action", ACTIONS, ids=_name)
all_schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=_name)


def test_every_registered_action_and_schedule_is_tested_here():
    room = [c for c in serialization._classes.values() if c.__module__.startswith(actions.__name__)]
    assert {type(value) for value in ACTIONS + SCHEDULES} == set(room)


@all_actions
@pytest.mark.parametrize("num_optimizers", [1, 3])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_an_action_gives_a_rate_for_each_optimizer(action, num_optimizers, progress):
    traced = tf.function(action.next_rate, autograph=False)
    rate = tf.constant([0.1, 0.2, 1e-8][:num_optimizers])
    found = traced(rate, 2.0 * rate, tf.constant(progress))
    assert (found.dtype, found.shape) == (tf.float32, [num_optimizers])
    assert np.isfinite(found).all()
    assert (found.numpy() >= -1e-7).all()


@all_actions
def test_an_action_remembers_nothing(action):
    numbers = (tf.constant([0.1]), tf.constant([0.4]), tf.constant(0.3))
    first = action.next_rate(*numbers).numpy()
    action.next_rate(tf.constant([9.0]), tf.constant([9.0]), tf.constant(1.0))
    np.testing.assert_array_equal(action.next_rate(*numbers).numpy(), first)


@all_actions
def test_an_action_has_a_label_and_comes_back_from_its_settings(action):
    assert actions.label(action).startswith(type(action).__name__)
    config = json.loads(json.dumps(serialization.to_config(action)))
    again = serialization.from_config(config)
    assert type(again) is type(action)
    assert serialization.to_config(again) == serialization.to_config(action)
    numbers = (tf.constant([0.1]), tf.constant([0.4]), tf.constant(0.3))
    expected = action.next_rate(*numbers).numpy()
    np.testing.assert_array_equal(again.next_rate(*numbers).numpy(), expected)


@all_schedules
def test_a_schedule_gives_a_share_of_the_peak(schedule):
    traced = tf.function(schedule, autograph=False)
    shares = [traced(tf.constant(p, tf.float32)) for p in np.linspace(0.0, 1.0, 101)]
    assert {(share.dtype, share.shape.rank) for share in shares} == {(tf.float32, 0)}
    numbers = np.array(shares)
    assert np.isfinite(numbers).all()
    assert numbers.min() >= -1e-6
    assert numbers.max() == pytest.approx(1.0, abs=0.01)
