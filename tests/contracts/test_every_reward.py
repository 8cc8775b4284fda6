"""The contract of every reward."""

import json

import pytest

from keras_qan.qan import rewards
from keras_qan.storage import serialization

REWARDS = [rewards.LogLossDrop(), rewards.Equation9()]

all_rewards = pytest.mark.parametrize("reward", REWARDS, ids=lambda r: type(r).__name__)


def value(reward, before, after, num_decisions=20.0):
    return reward(before, after, num_decisions)


def test_every_registered_reward_is_tested_here():
    room = [c for c in serialization._classes.values() if c.__module__ == rewards.__name__]
    assert {type(reward) for reward in REWARDS} == set(room)


@all_rewards
@pytest.mark.parametrize("num_decisions", [1.0, 2.0, 1000.0])
def test_a_fall_is_good_a_rise_is_bad_and_nothing_is_nothing(reward, num_decisions):
    assert value(reward, -1.0, -1.5, num_decisions) > 0.0
    assert value(reward, -1.5, -1.0, num_decisions) < 0.0
    assert value(reward, -1.5, -1.5, num_decisions) == 0.0


@all_rewards
def test_a_reward_is_one_bounded_number(reward):
    worst = value(reward, -25.0, 2.0, 1.0)
    assert type(worst) is float
    assert -27.0 <= worst < 0.0


@all_rewards
def test_a_reward_comes_back_from_its_settings(reward):
    again = serialization.from_config(json.loads(json.dumps(serialization.to_config(reward))))
    assert type(again) is type(reward)
    assert again.uses_validation is reward.uses_validation
    assert serialization.to_config(again) == serialization.to_config(reward)
