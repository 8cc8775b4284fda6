"""What the workers of one training make of the chief's choices, with a meeting in one process."""

import numpy as np
import pytest
import tensorflow as tf

from keras_qan.agents import ConstantAgent, RandomAgent
from keras_qan.agents.remote import SharedAgent

STATE = tf.constant([0.5, -2.0, 3.0])
NO = tf.constant(False)


class Meeting:
    """Two workers who are called one after the other, the chief first."""

    def __init__(self):
        self.chiefs = None

    def seat(self, is_chief):
        return Seat(self, is_chief)


class Seat:
    def __init__(self, meeting, is_chief):
        self.meeting, self.is_chief = meeting, is_chief

    def gather(self, values):
        if self.is_chief:
            self.meeting.chiefs = values
            return tf.stack([values, values])
        return tf.stack([self.meeting.chiefs, values])


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
    assert (int(first.action), int(second.action)) == (2, 2)
    assert first.action.dtype == second.action.dtype == tf.int64


def test_random_choices_of_the_chief_are_those_of_all():
    chief, other = both(RandomAgent(seed=3), RandomAgent(seed=4))
    taken = [[int(w.act(STATE, NO).action) for w in (chief, other)] for _ in range(20)]
    assert all(first == second for first, second in taken)
    assert len({first for first, _ in taken}) == 4


def test_the_others_hold_and_learn_nothing():
    chief, other = both(RandomAgent(seed=3), RandomAgent(seed=4))
    one = tf.constant(1.0)
    assert np.isnan(float(other.learn(STATE, tf.constant(0, tf.int64), one, one)))
    assert set(chief.arrays()) == {"num_choices"}
    assert other.arrays() == {}
    other.restore({})
    other.abandon(3)
    chief.restore({"num_choices": np.asarray(7)})
    assert int(chief.arrays()["num_choices"]) == 7


def test_rounding_is_not_taken_for_drifting_apart():
    chief, other = both(ConstantAgent(2), ConstantAgent(1))
    chief.act(STATE, NO)
    assert int(other.act(STATE * (1.0 + 1e-5), NO).action) == 2


def test_a_worker_in_another_state_stops_all():
    chief, other = both(ConstantAgent(2), ConstantAgent(1))
    chief.act(STATE, NO)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"different states.*expected the same"
    ):
        other.act(STATE + 0.1, NO)


def test_another_number_of_values_from_an_agent_that_estimates_none_is_the_chiefs_too():
    chief, other = both(ConstantAgent(2), ConstantAgent(1))
    values = [worker.act(STATE, NO).q_values.numpy() for worker in (chief, other)]
    assert all(len(each) == 4 and np.isnan(each).all() for each in values)
