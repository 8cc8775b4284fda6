"""Returns become values: what the trees take away is noise, and the network says the same."""

import numpy as np
import pytest

from keras_qan.agents import DQN
from keras_qan.pretraining.branched_returns import Branches


@pytest.fixture(scope="module")
def noisy():
    """Two actions, worth the sign of the first number and nothing, seen through noise."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1.0, 1.0, (1500, 3)).astype(np.float32)
    truth = np.stack([np.sign(states[:, 0]), np.zeros(len(states))], axis=1)
    branches = Branches(3, 2)
    branches.add(states[:700], (truth + rng.normal(size=truth.shape))[:700])
    branches.add(states[700:], (truth + rng.normal(size=truth.shape))[700:])
    return branches, truth


def test_smoothed_returns_are_nearer_to_the_values_than_the_returns(noisy):
    branches, truth = noisy
    before = np.mean((branches.returns - truth) ** 2)
    states, values = branches.training_data(0, crossed=10)
    np.testing.assert_array_equal(states[:1500], branches.states)
    after = np.mean((values[:1500] - truth) ** 2)
    assert len(branches) == 1500
    assert before == pytest.approx(1.0, abs=0.1)
    assert after < 0.4 * before


def test_crossed_states_are_made_of_others_numbers_and_have_values_of_their_own(noisy):
    branches, _ = noisy
    states, values = branches.training_data(0, crossed=400)
    crossed = states[1500:]
    assert crossed.shape == (400, 3)
    for column in range(3):
        assert np.isin(crossed[:, column], branches.states[:, column]).all()
    known = {tuple(state) for state in branches.states}
    new = np.array([tuple(state) not in known for state in crossed])
    # A state is as it was where each of its three numbers stayed: 0.85 cubed.
    assert np.mean(new) == pytest.approx(1 - 0.85**3, abs=0.08)
    clear = np.abs(crossed[:, 0]) > 0.3
    assert np.mean(np.sign(values[1500:][clear, 0]) == np.sign(crossed[clear, 0])) > 0.95


def test_training_data_follow_from_their_seed(noisy):
    branches, _ = noisy
    for one, other in zip(
        branches.training_data(3, 50), branches.training_data(3, 50), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_brings_back_all_branches(noisy):
    branches, _ = noisy
    again = Branches(3, 2)
    again.restore(branches.arrays())
    np.testing.assert_array_equal(again.states, branches.states)
    np.testing.assert_array_equal(again.returns, branches.returns)


@pytest.mark.slow
def test_a_network_that_is_fitted_to_values_acts_by_them(noisy):
    branches, truth = noisy
    agent = DQN((32,), seed=1)
    agent.build(3, 2)
    first = agent.fit_values(branches.states, truth.astype(np.float32), 10, seed=0)
    last = agent.fit_values(branches.states, truth.astype(np.float32), 800, seed=0)
    assert last < 0.4 * first
    chosen = agent.action_scores(branches.states).argmax(axis=1)
    clear = np.abs(branches.states[:, 0]) > 0.2
    expected = np.where(branches.states[:, 0] > 0.0, 0, 1)
    assert np.mean(chosen[clear] == expected[clear]) > 0.97
    # Acting normalises by the same statistics as the fit did.
    mean = agent.parameters()["normaliser/mean"]
    np.testing.assert_allclose(mean, branches.states.mean(axis=0), atol=1e-5)
