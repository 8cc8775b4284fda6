"""The contract of every agent."""

import json

import numpy as np
import pytest

from keras_qan.agents import (
    DQN,
    Agent,
    ConstantAgent,
    Learning,
    RandomAgent,
    SlopeRule,
    ThompsonDQN,
)
from keras_qan.agents.slope_rule import FACTORS
from keras_qan.observations import SlopeState
from keras_qan.storage import checkpoint, serialization

# What the rule knows; the others take any.
NUM_FEATURES, NUM_ACTIONS = len(SlopeState._fields), len(FACTORS)
_QUICK = Learning(batch_size=4, updates=1, n_step=2, warm_up=2)
AGENTS = {
    "DQN": lambda: DQN(hidden=(4,), learning=_QUICK, replay_capacity=9, seed=1),
    "DQN, not double": lambda: DQN(hidden=(4,), learning=_QUICK, replay_capacity=9, double=False),
    "Thompson": lambda: ThompsonDQN(
        DQN(hidden=(4,), learning=_QUICK, replay_capacity=9, seed=1),
        np.linspace(-1.0, 1.0, NUM_ACTIONS).tolist(),
    ),
    "Constant": lambda: ConstantAgent(2),
    "Random": lambda: RandomAgent(7),
    "Slope rule": SlopeRule,
}


@pytest.fixture(params=AGENTS.values(), ids=AGENTS.keys())
def make(request):
    return request.param


def built(make):
    agent = make()
    agent.build(NUM_FEATURES, NUM_ACTIONS)
    return agent


def live(agent, num_steps, explore=True):
    """Decide and learn as the controller does."""
    chosen = []
    for step in range(num_steps):
        state = np.random.default_rng(step).normal(size=NUM_FEATURES).astype(np.float32)
        kept = state.copy()
        choice = agent.act(state, explore)
        chosen.append(choice.action)
        if explore:
            loss = agent.learn(state, choice.action, 0.5, 0.0 if step % 4 == 3 else 1.0)
            assert type(loss) is float
        np.testing.assert_array_equal(state, kept)
    return chosen


def test_every_registered_agent_is_tested_here():
    known = {
        cls
        for cls in serialization._classes.values()
        if issubclass(cls, Agent) and cls.__module__.startswith("keras_qan.")
    }
    assert {type(make()) for make in AGENTS.values()} == known


@pytest.mark.slow
def test_a_choice_is_an_action_its_values_and_epsilon(make):
    agent = built(make)
    for explore in (True, False):
        choice = agent.act(np.zeros(NUM_FEATURES, np.float32), explore)
        assert type(choice.action) is int
        assert 0 <= choice.action < NUM_ACTIONS
        assert (choice.q_values.dtype, choice.q_values.shape) == (np.float32, (NUM_ACTIONS,))
        assert type(choice.epsilon) is float
        assert 0.0 <= choice.epsilon <= 1.0


@pytest.mark.slow
def test_building_twice_for_the_same_sizes_does_nothing(make):
    agent = built(make)
    live(agent, 6)
    before = agent.arrays()
    agent.build(NUM_FEATURES, NUM_ACTIONS)
    for name, array in agent.arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("sizes", [(NUM_FEATURES + 1, NUM_ACTIONS), (NUM_FEATURES, 5)])
def test_other_sizes_are_refused(make, sizes):
    with pytest.raises(ValueError, match=r"10|11"):
        built(make).build(*sizes)


@pytest.mark.slow
def test_what_it_knows_is_plain_arrays_that_a_checkpoint_holds(make, tmp_path):
    agent = built(make)
    live(agent, 6)
    arrays = agent.arrays()
    checkpoint.write(tmp_path / "agent.ckpt", arrays, {})
    found, _ = checkpoint.read(tmp_path / "agent.ckpt")
    assert found.keys() == arrays.keys()
    other = built(make)
    other.restore(found)
    assert live(other, 8) == live(agent, 8)
    for name, array in agent.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])


def test_arrays_are_copies(make):
    agent = built(make)
    live(agent, 5)
    kept = agent.arrays()
    before = {name: np.array(array) for name, array in kept.items()}
    live(agent, 5)
    for name, array in kept.items():
        np.testing.assert_array_equal(array, before[name])


#: Arrays that files of before 0.2.0 do not have: what they hold begins anew.
OPTIONAL = {"leaning/shift"}


def test_a_missing_array_is_refused(make):
    agent = built(make)
    for name in agent.arrays().keys() - OPTIONAL:
        rest = {n: a for n, a in agent.arrays().items() if n != name}
        with pytest.raises(ValueError, match=name.rsplit("/", 1)[-1]):
            agent.restore(rest)


@pytest.mark.slow
def test_the_same_settings_live_the_same_life(make):
    assert live(built(make), 12) == live(built(make), 12)


def test_abandoning_is_possible_at_any_time(make):
    agent = built(make)
    agent.abandon(0)
    live(agent, 6)
    agent.abandon(2)
    live(agent, 12)


@pytest.mark.slow
def test_its_settings_make_an_equal_agent(make):
    config = json.loads(json.dumps(serialization.to_config(make())))
    again = serialization.from_config(config)
    assert serialization.to_config(again) == serialization.to_config(make())
    assert live(built(lambda: again), 6) == live(built(make), 6)
