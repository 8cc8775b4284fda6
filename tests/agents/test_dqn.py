import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan import QANCallback, TrainingState
from keras_qan.agents import DQN, Exploration, Learning
from keras_qan.agents.dqn_learner import DQNLearner
from keras_qan.agents.replay_buffer import ReplayBuffer
from keras_qan.storage import checkpoint, serialization

FIXTURES = Path(__file__).parents[1] / "fixtures"

QUICK = {"batch_size": 16, "updates": 1, "n_step": 1, "gamma": 0.9, "warm_up": 8}


def make(
    hidden=(8,), exploration=None, double=True, averaged=True, seed=0, capacity=200, **learning
):
    learning = Learning(**(QUICK | learning))
    return DQN(
        hidden,
        exploration=exploration,
        learning=learning,
        replay_capacity=capacity,
        double=double,
        averaged=averaged,
        seed=seed,
    )


def built(num_features=3, num_actions=2, **settings):
    agent = make(**settings)
    agent.build(num_features, num_actions)
    return agent


def methods(agent):
    """What a controller calls, with lists for states."""

    def acts(state, explore=True):
        return agent.act(np.asarray(state, np.float32), explore)

    def learns(state, action, reward, discount=1.0):
        return agent.learn(np.asarray(state, np.float32), action, float(reward), discount)

    return acts, learns


def live(agent, num_steps, seed=0):
    """Some made-up life; gives all that it chose and all its losses."""
    acts, learns = methods(agent)
    generator = np.random.default_rng(seed)
    told = []
    for step in range(num_steps):
        state = generator.normal(size=3)
        choice = acts(state)
        action = int(choice.action)
        loss = learns(state, action, state[0] * action, 0.0 if step % 7 == 6 else 1.0)
        told.append((action, choice.q_values.tobytes(), str(loss)))
    return told


def same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert np.asarray(one[name]).tobytes() == np.asarray(two[name]).tobytes(), name


# What it learns.

FORWARD, QUIT = 0, 1
CHAIN = {  # (state, action): reward and next state; None ends the episode
    (0, FORWARD): (0.0, 1),
    (1, FORWARD): (0.0, 2),
    (2, FORWARD): (1.0, None),
    (0, QUIT): (0.5, None),
    (1, QUIT): (0.2, None),
    (2, QUIT): (-0.5, None),
}


def solve_chain(agent, num_steps, policy):
    acts, learns = methods(agent)
    generator = np.random.default_rng(5)
    state = 0
    for _ in range(num_steps):
        acts(np.eye(3)[state])
        action = policy(generator)
        reward, after = CHAIN[state, action]
        learns(np.eye(3)[state], action, reward, 0.0 if after is None else 1.0)
        state = 0 if after is None else after
    return np.stack([acts(np.eye(3)[s], explore=False).q_values for s in range(3)])


@pytest.mark.slow
@pytest.mark.parametrize("double", [True, pytest.param(False, marks=pytest.mark.stress)])
def test_a_chain_of_three_states_is_solved_to_its_known_values(double):
    # With γ = 0.9 going on to the end is worth 0.9², 0.9 and 1.
    agent = built(hidden=(32,), double=double, rate=5e-3, batch_size=32, target_tau=0.1, updates=2)
    found = solve_chain(agent, 500, lambda generator: int(generator.random() < 0.3))
    np.testing.assert_allclose(found, [[0.81, 0.5], [0.9, 0.2], [1.0, -0.5]], atol=0.06)
    acts, _ = methods(agent)
    assert [int(acts(np.eye(3)[s], explore=False).action) for s in range(3)] == [FORWARD] * 3


@pytest.mark.slow
@pytest.mark.parametrize("n_step", [pytest.param(2, marks=pytest.mark.stress), 3])
def test_longer_steps_discount_what_comes_later(n_step):
    agent = built(hidden=(32,), rate=5e-3, batch_size=32, target_tau=0.1, updates=2, n_step=n_step)
    found = solve_chain(agent, 400, lambda generator: FORWARD)
    np.testing.assert_allclose(found[:, FORWARD], [0.81, 0.9, 1.0], atol=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("n_step", [1, 2])
def test_the_loss_is_hubers_of_the_documented_target(double, n_step):
    agent = built(num_actions=4, hidden=(5,), double=double, n_step=n_step, batch_size=3, warm_up=1)
    # Parameters for which the two networks disagree on the best action of the last state.
    for seed in range(50):
        generator = np.random.default_rng(seed)
        arrays = {
            name: generator.normal(size=value.shape).astype(np.float32)
            if name.split("/")[0] in ("network", "target")
            else value
            for name, value in agent.arrays().items()
        }

        def values(group, state, arrays=arrays):
            first, bias, second, last = (arrays[f"{group}/{number}"] for number in range(4))
            return np.maximum(state @ first + bias, 0.0) @ second + last

        states = generator.normal(size=(n_step + 1, 3)).astype(np.float32)
        online, target = (values(group, states[-1]) for group in ("network", "target"))
        if online.argmax() != target.argmax() and target.max() - target[online.argmax()] > 1.0:
            break
    # States that are left as they are.
    arrays |= {
        "normaliser/count": np.float32(1.0),
        "normaliser/mean": np.zeros(3, np.float32),
        "normaliser/squares": np.ones(3, np.float32),
    }
    agent.restore(arrays)
    _, learns = methods(agent)
    for k, state in enumerate(states):
        loss = learns(state, 2, 0.5 + k)
        assert math.isnan(loss) == (k < n_step)
    best = target[online.argmax()] if double else target.max()
    expected = sum(0.9**k * (0.5 + k) for k in range(n_step)) + 0.9**n_step * best
    error = abs(expected - values("network", states[0])[2])
    assert loss == pytest.approx(0.5 * error**2 if error < 1.0 else error - 0.5, rel=1e-3)


def test_what_was_learned_moves_the_target_network_by_its_share():
    agent = built(target_tau=0.25, warm_up=1, batch_size=2)
    before = agent.arrays()
    same(
        {n: before[f"network/{n}"] for n in range(4)}, {n: before[f"target/{n}"] for n in range(4)}
    )
    _, learns = methods(agent)
    learns([1.0, 0.0, 0.0], 0, 5.0, 0.0)
    after = agent.arrays()
    moved = np.abs(after["network/3"] - before["network/3"]).max()
    assert moved > 1e-4
    expected = 0.75 * before["target/3"] + 0.25 * after["network/3"]
    np.testing.assert_allclose(after["target/3"], expected, rtol=1e-5)


def test_nothing_is_learned_before_the_memory_is_warm():
    agent = built(warm_up=5)
    before = agent.arrays()
    _, learns = methods(agent)
    losses = [learns([1.0, 2.0, 3.0], 1, 1.0) for _ in range(7)]
    # Five transitions of one step are known once the sixth state is.
    assert [math.isnan(loss) for loss in losses] == [True] * 5 + [False] * 2
    assert before["counters/2"] == 0
    assert agent.arrays()["counters/2"] == 2


# How it explores.


def test_epsilon_falls_along_a_line_and_stays():
    agent = built(exploration=Exploration(0.9, 0.1, 4))
    acts, _ = methods(agent)
    found = [float(acts([0.0, 0.0, 1.0]).epsilon) for _ in range(6)]
    assert found == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1, 0.1])


def test_greedy_decisions_do_not_use_up_exploration():
    agent = built(exploration=Exploration(1.0, 0.0, 2))
    acts, _ = methods(agent)
    explores = [True, False, False, True, False, True]
    told = [float(acts([0.0, 0.0, 1.0], explore).epsilon) for explore in explores]
    assert told == [1.0, 0.0, 0.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize(("epsilon", "expected"), [(0.0, 0.0), (0.3, 0.2), (1.0, 2 / 3)])
def test_random_actions_come_as_often_as_epsilon_says(epsilon, expected):
    agent = built(num_actions=3, exploration=Exploration(epsilon, epsilon, 1))
    acts, _ = methods(agent)
    acts([0.0, 1.0, 2.0])
    choices = [acts([1.0, 0.5, 0.0]) for _ in range(600)]
    others = [int(c.action) for c in choices if int(c.action) != int(np.argmax(c.q_values))]
    # Four standard deviations of a binomial's share.
    assert len(others) / 600 == pytest.approx(expected, abs=4 * (0.25 / 600) ** 0.5)
    if epsilon:
        assert len(set(others)) == 2


def test_without_exploring_it_is_greedy_and_changes_nothing():
    agent = built()
    live(agent, 20)
    before = agent.arrays()
    acts, _ = methods(agent)
    for number in range(10):
        choice = acts(np.random.default_rng(number).normal(size=3), explore=False)
        assert int(choice.action) == int(np.argmax(choice.q_values))
        assert float(choice.epsilon) == 0.0
    same(before, agent.arrays())


# How it repeats.


@pytest.mark.slow
def test_the_same_seed_lives_the_same_life_bit_for_bit():
    one, two, other = built(seed=3), built(seed=3), built(seed=4)
    same(one.arrays(), two.arrays())
    told = [live(agent, 30) for agent in (one, two, other)]
    assert told[0] == told[1] != told[2]
    same(one.arrays(), two.arrays())


@pytest.mark.slow
def test_a_restored_agent_goes_on_bit_for_bit():
    one = built(seed=3, capacity=25)
    live(one, 30)
    two = built(seed=3, capacity=25)
    live(two, 9, seed=8)
    two.restore(one.arrays())
    same(one.arrays(), two.arrays())
    assert live(one, 15, seed=1) == live(two, 15, seed=1)
    same(one.arrays(), two.arrays())


@pytest.mark.slow
def test_an_agent_of_a_former_version_goes_on_where_it_was():
    """Its checkpoint and what it did next were written when every decision was compiled."""
    arrays, was = checkpoint.read(FIXTURES / "agent_of_compiled_decisions.ckpt")
    agent = serialization.from_config(was["agent"])
    agent.build(was["features"], was["actions"])
    agent.restore(arrays)
    found = [agent.act(np.array(state, np.float32), False).q_values for state in was["probes"]]
    np.testing.assert_allclose(found, was["values"], rtol=1e-5, atol=1e-6)
    same(arrays, agent.arrays())
    for row in was["then"]:
        state = np.array(row["state"], np.float32)
        choice = agent.act(state, True)
        assert choice.epsilon == pytest.approx(row["epsilon"])
        np.testing.assert_allclose(choice.q_values, row["q_values"], rtol=1e-3, atol=1e-4)
        # It draws its batches as before, and its optimizer goes on with its moments.
        loss = agent.learn(state, row["action"], row["reward"], row["discount"])
        assert loss == pytest.approx(row["loss"], rel=1e-3)
    found = [agent.act(np.array(state, np.float32), False).q_values for state in was["probes"]]
    np.testing.assert_allclose(found, was["values_then"], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_no_global_random_numbers_are_used():
    def draw(between):
        tf.keras.utils.set_random_seed(3)
        between()
        return np.random.random(), tf.random.uniform([]).numpy(), float(tf.keras.random.uniform(()))

    if draw(lambda: None) != draw(lambda: None):
        pytest.skip("this Keras does not set its global generator back by set_random_seed")
    assert draw(lambda: live(built(), 12)) == draw(lambda: None)


def test_an_abandoned_episode_is_not_learned_from():
    agent = built()
    _, learns = methods(agent)
    learns([1.0, 0.0, 0.0], 0, 1.0, 0.0)
    before = agent.arrays()
    for _ in range(3):
        learns([0.0, 1.0, 0.0], 1, -9.0)
    agent.abandon(3)
    after = agent.arrays()
    for name in ("written", "ended", "reward", "observation"):
        np.testing.assert_array_equal(before[f"replay/{name}"], after[f"replay/{name}"])


# What it refuses.


def test_other_sizes_are_refused_and_the_same_are_not():
    agent = built(3, 2)
    before = agent.arrays()
    agent.build(3, 2)
    same(before, agent.arrays())
    for sizes in ((4, 2), (3, 3)):
        with pytest.raises(ValueError, match=r"2 actions from 3 state features.*new directory"):
            agent.build(*sizes)


@pytest.mark.parametrize(
    "other", [{"hidden": (9,)}, {"hidden": (8, 8)}, {"num_features": 4}, {"num_actions": 3}]
)
def test_arrays_of_another_agent_are_refused_and_nothing_changed(other):
    agent = built()
    before = agent.arrays()
    with pytest.raises(ValueError, match="with other settings"):
        agent.restore(built(**other).arrays())
    same(before, agent.arrays())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["network/0", "optimizer/1", "counters/1", "replay/written", "replay"]
)
def test_a_missing_array_is_refused_and_nothing_changed(name):
    agent, other = built(), built(seed=1)
    live(other, 12)
    arrays = other.arrays()
    arrays = {
        kept: a for kept, a in arrays.items() if kept != name and not kept.startswith(f"{name}/")
    }
    before = agent.arrays()
    with pytest.raises(ValueError, match=name.split("/")[-1]):
        agent.restore(arrays)
    same(before, agent.arrays())


@pytest.mark.parametrize(
    ("what", "arguments", "message"),
    [
        (DQN, {"hidden": ()}, "at least one positive width"),
        (DQN, {"hidden": (8, 0)}, "at least one positive width"),
        (DQN, {"replay_capacity": 20}, r"replay_capacity=20 with transitions of 20 steps"),
        (Exploration, {"start": 1.1}, r"probabilities in \[0, 1\]"),
        (Exploration, {"end": -0.1}, r"probabilities in \[0, 1\]"),
        (Exploration, {"end": math.nan}, r"probabilities in \[0, 1\]"),
        (Exploration, {"decisions": 0}, "at least one decision"),
        (Learning, {"batch_size": 0}, "batch_size=0"),
        (Learning, {"updates": 0}, "updates=0"),
        (Learning, {"n_step": 0}, "n_step=0"),
        (Learning, {"warm_up": 0}, "warm_up=0"),
        (Learning, {"n_step": 2.5}, r"n_step=2\.5"),
        (Learning, {"rate": 0.0}, r"rate=0\.0"),
        (Learning, {"rate": math.nan}, "rate=nan"),
        (Learning, {"gamma": 1.1}, r"gamma=1\.1"),
        (Learning, {"target_tau": 0.0}, r"target_tau=0\.0"),
    ],
)
def test_arguments_out_of_range_are_refused(what, arguments, message):
    with pytest.raises(ValueError, match=message):
        what(**arguments)


# The network in NumPy, and the one that TF-Agents trains.


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [True, False])
def test_frozen_policy_is_that_of_the_averaged_parameters_where_asked_for(averaged):
    agent = built(averaged=averaged, target_tau=0.01, rate=0.05)
    live(agent, 60)
    state = np.array([0.3] * 3, np.float32)
    found = agent.act(state, False).q_values
    online, target = values_by_tf_agents(agent, state[np.newaxis])
    expected, other = (target, online) if averaged else (online, target)
    np.testing.assert_allclose(found, expected[0], rtol=1e-5)
    assert np.abs(found - other[0]).max() > 1e-4
    # While it explores, it acts by what it learned last.
    np.testing.assert_allclose(agent._q_values(state, averaged=False), online[0], rtol=1e-5)


def values_by_tf_agents(agent, states):
    """The values of online and target network for states `[N, F]`, computed by TensorFlow."""
    kept = agent.arrays()
    count, mean, squares = (kept[f"normaliser/{n}"] for n in ("count", "mean", "squares"))
    deviation = np.sqrt(squares / count)
    standard = np.where(deviation > 0.0, (states - mean) / deviation, 0.0)
    standard = tf.constant(np.clip(standard, -5.0, 5.0), tf.float32)
    networks = agent.learner._network, agent.learner._agent._target_q_network
    return [network(standard)[0].numpy() for network in networks]


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(8,), (16, 5), (128, 128)])
def test_the_network_in_numpy_is_the_one_that_tf_agents_trains(hidden):
    agent = built(num_actions=4, hidden=hidden, rate=0.01)
    live(agent, 40)
    states = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    online, target = values_by_tf_agents(agent, states)
    assert np.abs(online - target).max() > 1e-4
    for averaged, expected in ((False, online), (True, target)):
        found = agent._q_values(states, averaged)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_what_it_learns_shows_in_the_next_choice():
    agent = built(rate=0.05, warm_up=1, batch_size=2)
    acts, learns = methods(agent)
    acts([1.0, 0.0, 0.0])
    acts([0.0, 1.0, 2.0])
    before = acts([1.0, 0.0, 0.0], explore=False).q_values
    learns([1.0, 0.0, 0.0], 0, 5.0, 0.0)
    after = acts([1.0, 0.0, 0.0], explore=False).q_values
    assert np.abs(after - before).max() > 1e-6


@pytest.mark.slow
def test_learning_is_compiled_once_for_an_agent_whatever_models_come(monkeypatch):
    traced = []

    def noting(name, function):
        def note(self, *arguments):
            traced.append(name)
            return function(self, *arguments)

        return note

    monkeypatch.setattr(
        DQNLearner, "_update_graph", noting("update", DQNLearner._update_graph), raising=True
    )
    monkeypatch.setattr(ReplayBuffer, "add", noting("add", ReplayBuffer.add))
    callback = QANCallback(observations=[TrainingState()], agent=make(), decide_every=2)
    for units, optimizer in ((3, "sgd"), (7, "adam"), (2, "rmsprop")):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
        model.add(keras.layers.Dense(1))
        model.compile(optimizer, "mse")
        x = np.random.default_rng(units).normal(size=(160, 4))
        model.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[callback])
    assert callback.agent.arrays()["counters/2"] > 10
    assert sorted(traced) == ["add", "update"]


# What policies are trained and shipped with.


@pytest.mark.slow
def test_known_values_are_fitted():
    # The first action is worth nothing, the second the state itself.
    agent = built(1, 2, hidden=(16,))
    states = np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32)
    values = np.concatenate([np.zeros_like(states), states], axis=1)
    assert agent.fit_values(states, values, 400, seed=1, batch_size=64) < 0.01
    probes = np.array([[-1.5], [-0.5], [0.5], [1.5]], np.float32)
    found = agent.action_scores(probes)
    assert found.argmax(axis=1).tolist() == [0, 0, 1, 1]
    assert np.abs(found[:, 0]).max() < 0.2


def test_the_default_action_is_left_only_for_a_gain_above_the_margin():
    agent = DQN((4,), learning=Learning(**QUICK), default_action=1, margin=0.5, replay_capacity=20)
    agent.build(2, 3)
    values = np.array([[1.0, 0.6, 0.0], [1.2, 0.6, 0.0], [0.0, 0.0, 0.4]], np.float32)
    agent._q_values = lambda observations, averaged: values[np.asarray(observations, int)[..., 0]]
    states = np.array([[0.0, 9.0], [1.0, 9.0], [2.0, 9.0]], np.float32)
    assert agent.action_scores(states).argmax(axis=1).tolist() == [1, 0, 1]
    assert [agent.act(state, False).action for state in states] == [1, 0, 1]


@pytest.mark.parametrize("arguments", [{"margin": -0.1}, {"margin": 0.1}, {"margin": math.nan}])
def test_a_margin_without_a_default_action_or_below_zero_is_refused(arguments):
    with pytest.raises(ValueError, match="default_action"):
        DQN(**arguments)


@pytest.mark.slow
def test_an_agent_that_adopts_parameters_acts_as_their_owner():
    owner, heir = built(), built(seed=9)
    live(owner, 60)
    heir.adopt(owner.parameters())
    states = np.random.default_rng(3).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_array_equal(heir.action_scores(states), owner.action_scores(states))
    assert heir.learner.num_samples == 0
    np.testing.assert_array_equal(heir.action_scores(states), owner.action_scores(states))


def test_parameters_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"network/0.*shape \(3, 8\)"):
        built().adopt(built(hidden=(5,)).parameters())
