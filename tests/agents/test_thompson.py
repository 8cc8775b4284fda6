"""One number learned on top of a policy: which bias brings the best returns."""

import functools
import math

import numpy as np
import pytest

from keras_qan.agents import BIASES, DQN, ActionChoice, ThompsonDQN

DIRECTIONS = (-0.7, 0.0, 1.6)


def made(seed=0):
    """A policy that finds all actions nearly equal, and so follows its bias."""
    agent = ThompsonDQN(DQN(hidden=(4,), seed=3), DIRECTIONS, seed)
    agent.build(2, 3)
    return agent


def one_training(agent, worth, rng):
    """A training of three decisions whose return depends on the bias that it was made with."""
    bias = BIASES[agent._current]
    total = worth(bias) + 0.1 * rng.normal()
    state = np.zeros(2, np.float32)
    for reward, goes_on in ((0.0, 1.0), (total / 2, 1.0), (total / 2, 0.0)):
        agent.learn(state, 0, reward, goes_on)
    return bias


def greedy_bias(agent):
    """The bias that the greedy policy acts by, read from its scores."""
    state = np.zeros((1, 2), np.float32)
    ours, theirs = (each.action_scores(state)[0] for each in (agent, agent.agent))
    return float((ours - theirs)[2]) / DIRECTIONS[2]


def test_before_it_has_learned_it_is_the_policy_itself():
    agent = made()
    state = np.array([0.3, -1.0], np.float32)
    ours, theirs = (each.act(state, False) for each in (agent, agent.agent))
    np.testing.assert_allclose(ours.q_values, theirs.q_values)
    assert ours.action == theirs.action


def test_its_first_training_follows_the_policy():
    assert one_training(made(), lambda bias: 1.0, np.random.default_rng(0)) == 0.0


@pytest.mark.parametrize("best", [-0.04, 0.0, 0.02])
def test_it_finds_the_bias_that_brings_the_best_returns(best):
    agent, rng = made(), np.random.default_rng(1)
    tried = [
        one_training(agent, lambda bias: 2.0 - 20.0 * abs(bias - best), rng) for _ in range(40)
    ]
    assert greedy_bias(agent) == pytest.approx(best, abs=0.0101)
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


def _falling(level, bias):
    return level - 5 * bias


def test_a_training_that_is_broken_off_leaves_no_trace():
    agent, other = made(), made()
    state = np.zeros(2, np.float32)
    agent.learn(state, 0, 5.0, 1.0)
    agent.abandon(1)
    for each in (agent, other):
        one_training(each, lambda bias: 1.0, np.random.default_rng(3))
    for name, array in other.arrays().items():
        np.testing.assert_array_equal(agent.arrays()[name], array)


def test_a_policy_of_its_own_is_adopted_with_and_without_a_bias():
    agent, rng = made(), np.random.default_rng(4)
    for _ in range(12):
        one_training(agent, lambda bias: -30.0 * bias, rng)
    again = made()
    again.adopt(agent.parameters())
    assert greedy_bias(again) == greedy_bias(agent) < 0.0
    bare = made()
    bare.adopt(agent.agent.parameters())
    assert greedy_bias(bare) == 0.0


class Indifferent(DQN):
    """A policy that finds its second action best by less than any bias."""

    def act(self, observation, explore):
        return ActionChoice(1, np.array([0.0, 1e-4, 0.0], np.float32), 0.0)

    def action_bonus(self):
        return np.zeros(3, np.float32)


def lowering():
    """An agent of that policy with the lowest bias, at the start of a training."""
    agent = ThompsonDQN(Indifferent(), (math.log(0.5), 0.0, math.log(5.0)))
    agent._current = 0
    agent.begin()
    return agent


def rates(agent, decisions, factors=(0.5, 1.0, 5.0)):
    state = np.zeros(2, np.float32)
    return np.cumprod([factors[agent.act(state, True).action] for _ in range(decisions)])


def test_a_bias_moves_the_rate_by_a_factor_of_five_at_most_however_often_it_counts():
    np.testing.assert_allclose(rates(lowering(), 6), [0.5, 0.25, 0.25, 0.25, 0.25, 0.25])


def test_each_training_has_that_factor_anew():
    agent = lowering()
    rates(agent, 6)
    agent.begin()
    np.testing.assert_allclose(rates(agent, 3), [0.5, 0.25, 0.25])


def test_a_training_that_goes_on_in_another_process_has_what_is_left_of_it():
    agent, other = lowering(), lowering()
    rates(agent, 1)
    other._take(agent._own_arrays())
    np.testing.assert_allclose(rates(other, 3), [0.5, 0.5, 0.5])


def test_a_file_of_before_that_factor_is_read():
    agent = made()
    arrays = {n: a for n, a in agent.arrays().items() if n != "leaning/shift"}
    agent.restore(arrays)
    assert float(agent.arrays()["leaning/shift"]) == 0.0


def test_directions_must_be_as_many_as_actions_and_finite():
    with pytest.raises(ValueError, match="expected one for each of the 2 actions"):
        ThompsonDQN(DQN(), DIRECTIONS).build(2, 2)
    with pytest.raises(ValueError, match="expected a finite number"):
        ThompsonDQN(DQN(), (0.0, float("nan")))
