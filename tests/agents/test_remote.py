"""What the workers of one training make of the chief's choices, with a meeting in one process."""

import numpy as np
import pytest

from keras_qan.agents import ConstantAgent, RandomAgent
from keras_qan.agents.remote import SharedAgent, TransitionCollector

STATE = np.array([0.5, -2.0, 3.0], np.float32)
NO = False


class Meeting:
    """Two workers who are called one after the other, the chief first."""

    def __init__(self):
        self.chiefs = None

    def seat(self, is_chief):
        return Seat(self, is_chief)


class Seat:
    def __init__(self, meeting, is_chief):
        self.meeting, self.is_chief = meeting, is_chief

    def gather_numbers(self, numbers):
        if self.is_chief:
            self.meeting.chiefs = numbers
            return np.stack([numbers, numbers])
        return np.stack([self.meeting.chiefs, numbers])


def both(agent, others):
    meeting = Meeting()
    workers = [
        SharedAgent(own, meeting.seat(is_chief))
        for own, is_chief in ((agent, True), (others, False))
    ]
    for worker in workers:
        worker.build(3, 4)
    return workers


def test_all_take_the_chiefs_choice_whatever_their_own_agent_would_choose():
    chief, other = both(ConstantAgent(2), ConstantAgent(1))
    first, second = (worker.act(STATE, NO) for worker in (chief, other))
    assert (first.action, second.action) == (2, 2)
    assert type(first.action) is type(second.action) is int
    assert first.epsilon == second.epsilon == 0.0


def test_random_choices_of_the_chief_are_those_of_all():
    chief, other = both(RandomAgent(seed=3), RandomAgent(seed=4))
    taken = [[w.act(STATE, NO).action for w in (chief, other)] for _ in range(20)]
    assert all(first == second for first, second in taken)
    assert len({first for first, _ in taken}) == 4


def test_the_others_hold_and_learn_nothing():
    chief, other = both(RandomAgent(seed=3), RandomAgent(seed=4))
    assert np.isnan(other.learn(STATE, 0, 1.0, 1.0))
    assert set(chief.arrays()) == {"num_choices"}
    assert other.arrays() == {}
    other.restore({})
    other.abandon(3)
    chief.restore({"num_choices": np.asarray(7)})
    assert int(chief.arrays()["num_choices"]) == 7


def test_rounding_is_not_taken_for_drifting_apart():
    chief, other = both(ConstantAgent(2), ConstantAgent(1))
    chief.act(STATE, NO)
    assert other.act(STATE * (1.0 + 1e-5), NO).action == 2


def test_a_worker_in_another_state_stops_all():
    chief, other = both(ConstantAgent(2), ConstantAgent(1))
    chief.act(STATE, NO)
    with pytest.raises(RuntimeError, match=r"different states.*expected the same"):
        other.act(STATE + 0.1, NO)


def test_another_number_of_values_from_an_agent_that_estimates_none_is_the_chiefs_too():
    chief, other = both(ConstantAgent(2), ConstantAgent(1))
    values = [worker.act(STATE, NO).q_values for worker in (chief, other)]
    assert all(len(each) == 4 and np.isnan(each).all() for each in values)


# Transitions that are gathered for an agent elsewhere.


def test_a_collector_acts_as_its_agent_and_gives_back_what_it_was_told():
    collector, alone = TransitionCollector(RandomAgent(3)), RandomAgent(3)
    for agent in (collector, alone):
        agent.build(3, 4)
    taken = [collector.act(STATE, True).action for _ in range(10)]
    assert taken == [alone.act(STATE, True).action for _ in range(10)]
    for number in range(3):
        discount = float(number < 2)
        assert np.isnan(collector.learn(STATE + number, number, number / 2, discount))
    found = collector.take()
    np.testing.assert_array_equal(found["observation"], [STATE, STATE + 1, STATE + 2])
    assert found["action"].tolist() == [0, 1, 2]
    assert found["reward"].tolist() == [0.0, 0.5, 1.0]
    assert found["discount"].tolist() == [1.0, 1.0, 0.0]
    kinds = [array.dtype for array in found.values()]
    assert kinds == [np.float32, np.int64, np.float32, np.float32]
    assert collector.take() == {}


def test_a_collector_keeps_what_it_saw_though_the_state_changes_and_forgets_when_told():
    collector = TransitionCollector(ConstantAgent(0))
    collector.build(3, 4)
    state = STATE.copy()
    collector.learn(state, 0, 1.0, 1.0)
    state[:] = 9.0
    collector.learn(state, 0, 2.0, 1.0)
    collector.learn(state, 0, 3.0, 1.0)
    collector.abandon(2)
    np.testing.assert_array_equal(collector.take()["observation"], [STATE])


class Counting(ConstantAgent):
    """Counts the trainings that it is told of."""

    begun = 0

    def begin(self):
        self.begun += 1


def test_the_chiefs_agent_and_a_collectors_are_told_that_a_training_begins():
    chiefs, others, collected = Counting(), Counting(), Counting()
    meeting = Meeting()
    for agent, is_chief in ((chiefs, True), (others, False)):
        SharedAgent(agent, meeting.seat(is_chief)).begin()
    TransitionCollector(collected).begin()
    assert (chiefs.begun, others.begun, collected.begun) == (1, 0, 1)
