"""Q-learning against values worked out by hand, and on a toy space."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from keras_qan.metaqnn import (
    EpsilonSchedule,
    QLearning,
    QTable,
    Space,
    StateSpace,
    parse_architecture,
)
from keras_qan.metaqnn.q_learning import QLearningAgent, QStep
from keras_qan.metaqnn.space import format_architecture

#: Four architectures: C or C C, then GAP or SM.
TOY = StateSpace(Space(filters=(8,), sizes=(3,), pools=(), max_dense=0, max_depth=2), (8, 8, 1), 2)
REWARDS = {
    "[C(8,3,1), GAP]": 0.3,
    "[C(8,3,1), SM]": 0.8,
    "[C(8,3,1), C(8,3,1), GAP]": 0.9,
    "[C(8,3,1), C(8,3,1), SM]": 0.1,
}


def test_one_update_is_equation_3_last_step_first():
    table = QTable(initial=0.5, learning_rate=0.1, discount=1.0)
    steps = [QStep("s", "a", "t", ("b", "c")), QStep("t", "b", "end")]
    table.learn(steps, reward=1.0)
    # Q(t,b) = 0.9 · 0.5 + 0.1 · 1 = 0.55; then Q(s,a) = 0.9 · 0.5 + 0.1 · max(0.55, 0.5) = 0.505.
    assert table.value("t", "b") == pytest.approx(0.55)
    assert table.value("s", "a") == pytest.approx(0.505)
    assert table.value("t", "c") == 0.5


def test_discount_shrinks_what_comes_later():
    table = QTable(initial=0.0, learning_rate=1.0, discount=0.5)
    table.learn([QStep("s", "a", "t", ("b",)), QStep("t", "b", "end")], reward=1.0)
    assert table.value("s", "a") == 0.5


def test_it_reaches_the_known_values_of_a_toy_space():
    agent = QLearningAgent(TOY, QLearning(learning_rate=0.2, replays=20, initial=0.5))
    rng = np.random.default_rng(0)
    for _ in range(60):
        text = format_architecture(agent.sample(1.0, rng))
        agent.remember(text, REWARDS[text], rng)
    start, one, two = (
        TOY.initial_state().key,
        TOY.state_after(parse_architecture("C(8,3,1)")).key,
        TOY.state_after(parse_architecture("C(8,3,1), C(8,3,1)")).key,
    )
    # Bellman's optimal values, backwards: the best of what may follow.
    for state, action, value in [
        (two, "GAP", 0.9), (two, "SM", 0.1), (one, "C(8,3,1)", 0.9), (one, "SM", 0.8),
        (one, "GAP", 0.3), (start, "C(8,3,1)", 0.9),
    ]:  # fmt: skip
        assert agent.table.value(state, action) == pytest.approx(value, abs=0.02), (state, action)
    assert format_architecture(agent.sample(0.0, rng)) == "[C(8,3,1), C(8,3,1), GAP]"


def test_the_trajectory_of_a_pooling_is_looked_up_where_it_was_sampled():
    # The released code stored the state behind a pooling under another key than it sampled from.
    states = StateSpace(Space(filters=(8,), sizes=(3,), pools=((2, 2),), dense=(4,)), (8, 8, 1), 2)
    agent = QLearningAgent(states, QLearning())
    steps = agent.trajectory(parse_architecture("C(8,3,1), P(2,2), FC(4), SM"))
    assert [step.state for step in steps[1:]] == [step.next_state for step in steps[:-1]]
    assert steps[1].action == "P(2,2)"
    assert steps[-1].next_actions == ()
    for step, after in itertools.pairwise(steps):
        assert after.action in step.next_actions


def test_epsilon_one_samples_everything_and_zero_only_the_best():
    agent = QLearningAgent(TOY, QLearning(initial=0.0))
    rng = np.random.default_rng(1)
    assert {format_architecture(agent.sample(1.0, rng)) for _ in range(60)} == set(REWARDS)
    agent.table.learn(agent.trajectory(parse_architecture("C(8,3,1), SM")), 1.0)
    assert {format_architecture(agent.sample(0.0, rng)) for _ in range(20)} == {"[C(8,3,1), SM]"}


def test_ties_are_broken_at_random():
    table, rng = QTable(), np.random.default_rng(0)
    assert {table.choose("s", ("a", "b"), 0.0, rng) for _ in range(40)} == {"a", "b"}


def test_what_was_sampled_again_is_remembered_again():
    agent = QLearningAgent(TOY, QLearning(replays=0))
    rng = np.random.default_rng(0)
    for _ in range(2):
        agent.remember("[C(8,3,1), SM]", 0.8, rng)
    assert len(agent.memory) == 2


def test_the_papers_schedule():
    schedule = EpsilonSchedule.paper()
    assert schedule.total == 2700
    found = {n: schedule.epsilon_at(n) for n in (0, 1499, 1500, 1600, 1799, 1800, 2549, 2550, 9999)}
    assert found == {
        0: 1.0, 1499: 1.0, 1500: 0.9, 1600: 0.8, 1799: 0.7, 1800: 0.6, 2549: 0.2, 2550: 0.1,
        9999: 0.1,
    }  # fmt: skip


@pytest.mark.parametrize("total", [1, 7, 60, 2700, 5000])
def test_a_shrunk_schedule_has_as_many_models_as_asked_and_falls(total):
    schedule = EpsilonSchedule.scaled(total)
    assert schedule.total == total
    found = [schedule.epsilon_at(n) for n in range(total)]
    assert found == sorted(found, reverse=True)
    if total == 2700:
        assert schedule == EpsilonSchedule.paper()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: QTable(learning_rate=0.0), "learning_rate is 0.0"),
        (lambda: QTable(discount=1.1), "discount is 1.1"),
        (lambda: EpsilonSchedule(()), "pairs"),
        (lambda: EpsilonSchedule(((1.5, 3),)), "1.5"),
        (lambda: EpsilonSchedule.scaled(0), "total is 0"),
        (lambda: QLearning(replays=-1), "replays is -1"),
    ],
)
def test_bad_arguments_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
