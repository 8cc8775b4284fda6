"""One number learned on top of a policy: which lean brings the best returns."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_qan.agents import BIASED_ACTIONS, DQN, ThompsonDQN

DIRECTIONS = (-0.7, 0.0, 1.6)


def made(seed=0):
    """A policy that finds all actions nearly equal, and so follows its lean."""
    agent = ThompsonDQN(DQN(hidden=(4,), seed=3), DIRECTIONS, seed)
    agent.build(2, 3)
    return agent


def one_training(agent, worth, rng):
    """A training of three decisions whose return depends on the lean that it was made with."""
    lean = BIASED_ACTIONS[int(agent._current.numpy())]
    total = worth(lean) + 0.1 * rng.normal()
    state, action = tf.zeros([2]), tf.constant(0, tf.int64)
    for reward, goes_on in ((0.0, 1.0), (total / 2, 1.0), (total / 2, 0.0)):
        agent.learn(state, action, tf.constant(reward, tf.float32), tf.constant(goes_on))
    return lean


def greedy_lean(agent):
    """The lean that the greedy policy acts by, read from its values."""
    choice = agent.act(tf.zeros([2]), tf.constant(False))
    known = agent.agent.act(tf.zeros([2]), tf.constant(False))
    return float((choice.q_values - known.q_values)[2]) / DIRECTIONS[2]


def test_before_it_has_learned_it_is_the_policy_itself():
    agent = made()
    state = tf.constant([0.3, -1.0])
    ours, theirs = (each.act(state, tf.constant(False)) for each in (agent, agent.agent))
    np.testing.assert_allclose(ours.q_values, theirs.q_values)
    assert int(ours.action) == int(theirs.action)


def test_its_first_training_follows_the_policy():
    assert one_training(made(), lambda lean: 1.0, np.random.default_rng(0)) == 0.0


@pytest.mark.parametrize("best", [-0.04, 0.0, 0.02])
def test_it_finds_the_lean_that_brings_the_best_returns(best):
    agent, rng = made(), np.random.default_rng(1)
    tried = [
        one_training(agent, lambda lean: 2.0 - 20.0 * abs(lean - best), rng) for _ in range(40)
    ]
    assert greedy_lean(agent) == pytest.approx(best, abs=0.0101)
    # It comes back to what is good more often than to what is not.
    near = np.mean(np.abs(np.array(tried[20:]) - best) <= 0.0201)
    assert near > 0.6


def test_returns_of_any_level_are_compared_and_not_taken_as_they_are():
    found = []
    for level in (-300.0, 0.0, 300.0):
        agent, rng = made(), np.random.default_rng(2)
        worth = functools.partial(_falling, level)
        found.append([one_training(agent, worth, rng) for _ in range(8)])
    assert found[0] == found[1] == found[2]


def _falling(level, lean):
    return level - 5 * lean


def test_a_training_that_is_broken_off_leaves_no_trace():
    agent, other = made(), made()
    state, action = tf.zeros([2]), tf.constant(0, tf.int64)
    agent.learn(state, action, tf.constant(5.0), tf.constant(1.0))
    agent.abandon(1)
    for each in (agent, other):
        one_training(each, lambda lean: 1.0, np.random.default_rng(3))
    for name, array in other.arrays().items():
        np.testing.assert_array_equal(agent.arrays()[name], array)


def test_a_policy_of_its_own_is_adopted_with_and_without_a_lean():
    agent, rng = made(), np.random.default_rng(4)
    for _ in range(12):
        one_training(agent, lambda lean: -30.0 * lean, rng)
    again = made()
    again.adopt(agent.parameters())
    assert greedy_lean(again) == greedy_lean(agent) < 0.0
    bare = made()
    bare.adopt(agent.agent.parameters())
    assert greedy_lean(bare) == 0.0


def test_directions_must_be_as_many_as_actions_and_finite():
    with pytest.raises(ValueError, match="3 directions and chooses among 2"):
        ThompsonDQN(DQN(), DIRECTIONS).build(2, 2)
    with pytest.raises(ValueError, match="expected a finite number"):
        ThompsonDQN(DQN(), (0.0, float("nan")))
