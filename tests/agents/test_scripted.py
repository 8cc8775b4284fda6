import numpy as np
import pytest

from keras_qan.agents import ConstantAgent, RandomAgent

STATE = np.zeros(3, np.float32)


def actions(agent, count):
    return [agent.act(STATE, True).action for _ in range(count)]


def test_always_takes_its_action():
    agent = ConstantAgent(2)
    agent.build(3, 4)
    assert actions(agent, 5) == [2] * 5


@pytest.mark.parametrize("action", [4, 9])
def test_always_refuses_an_action_that_there_is_not(action):
    with pytest.raises(ValueError, match=r"expected an index from 0 to 3, as there are 4 actions"):
        ConstantAgent(action).build(3, 4)


@pytest.mark.parametrize("action", [-1, 0.5])
def test_always_refuses_what_is_no_index(action):
    with pytest.raises(ValueError, match=r"ConstantAgent's action is .*; expected .*at least 0"):
        ConstantAgent(action)


def test_random_takes_every_action_as_often():
    agent = RandomAgent(1)
    agent.build(3, 4)
    counts = np.bincount(actions(agent, 800), minlength=4)
    # A binomial's standard deviation is 12.
    assert np.abs(counts - 200).max() < 50


def test_random_repeats_with_its_seed_and_goes_on_where_it_was():
    one, two, other = RandomAgent(5), RandomAgent(5), RandomAgent(6)
    for agent in (one, two, other):
        agent.build(3, 4)
    told = actions(one, 30)
    assert told == actions(two, 30) != actions(other, 30)
    kept = one.arrays()
    later = actions(one, 10)
    two.restore(kept)
    assert actions(two, 10) == later


def test_neither_learns_or_values_anything():
    for agent in (ConstantAgent(0), RandomAgent(0)):
        agent.build(3, 2)
        assert np.isnan(agent.learn(STATE, 1, 1.0, 0.0))
        assert np.isnan(agent.act(STATE, True).q_values).all()
