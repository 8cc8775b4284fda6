import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_qan.qan.decision_schedule import STEPS_WHILE_LENGTH_UNKNOWN, DecisionSchedule


def walk(schedule, steps_an_epoch, num_epochs, per_call=1, knows_length=True):
    """Go through a training as Keras's hooks do.

    Returns:
      The steps of decisions, and those that losses are counted from.
    """
    decisions, counts = [], []
    for epoch in range(num_epochs):
        schedule.begin_epoch()
        if epoch == 0:
            if knows_length:
                schedule.set_length(steps_an_epoch, num_epochs)
            decisions.append(0)
        done = 0
        while done < steps_an_epoch:
            done = min(done + per_call, steps_an_epoch)
            if not schedule.advance(done - 1):
                continue
            if schedule.wants_decision():
                schedule.note_decision()
                decisions.append(schedule.step)
            elif schedule.starts_counting():
                schedule.counting_started()
                counts.append(schedule.step)
        if not schedule.knows_length:
            schedule.set_length(schedule.steps_in_epoch, num_epochs)
    return decisions, counts


def test_every_third_step_of_ten_by_hand():
    # At 9 one step would be left, fewer than half of three: nothing of a decision would show.
    schedule = DecisionSchedule(3)
    assert walk(schedule, 5, 2) == ([0, 3, 6], [1, 4, 7])
    assert schedule.num_decisions == 3
    assert not schedule.credit_is_delayed


def test_a_decision_at_every_step_is_delayed_and_leaves_no_step_to_count_from():
    schedule = DecisionSchedule(1)
    assert walk(schedule, 3, 2) == ([0, 1, 2, 3, 4, 5], [])
    assert schedule.num_decisions == 6
    assert schedule.credit_is_delayed


def test_by_default_a_decision_is_due_every_twentieth_of_the_training():
    schedule = DecisionSchedule(None)
    decisions, _ = walk(schedule, 100, 5)
    assert decisions == list(range(0, 500, 25))
    assert (schedule.every, schedule.num_decisions) == (25, 20)


def test_a_training_shorter_than_decide_every_has_its_first_decision_alone():
    schedule = DecisionSchedule(1000)
    assert walk(schedule, 7, 2) == ([0], [1])
    assert schedule.num_decisions == 1


TRAININGS = {
    "every": st.none() | st.integers(1, 40),
    "steps_an_epoch": st.integers(1, 60),
    "num_epochs": st.integers(1, 6),
}


@settings(max_examples=40)
@given(**TRAININGS)
@example(every=2, steps_an_epoch=5, num_epochs=1)
@example(every=4, steps_an_epoch=5, num_epochs=2)
def test_as_many_decisions_are_taken_as_were_announced(every, steps_an_epoch, num_epochs):
    schedule = DecisionSchedule(every)
    decisions, _ = walk(schedule, steps_an_epoch, num_epochs)
    assert len(decisions) == schedule.num_decisions
    assert {b - a for a, b in itertools.pairwise(decisions)} <= {schedule.every}


@settings(max_examples=40)
@given(**TRAININGS, per_call=st.sampled_from([1, 3, 10]), knows_length=st.booleans())
def test_every_decision_has_steps_before_it_and_after_it(
    every, steps_an_epoch, num_epochs, per_call, knows_length
):
    schedule = DecisionSchedule(every)
    decisions, counts = walk(schedule, steps_an_epoch, num_epochs, per_call, knows_length)
    assert decisions == sorted(set(decisions))
    if knows_length or num_epochs > 1:
        assert decisions[-1] < steps_an_epoch * num_epochs
    assert all(b - a >= min(schedule.every, 25) for a, b in itertools.pairwise(decisions))
    assert schedule.step == steps_an_epoch * num_epochs
    assert schedule.progress() == 1.0
    # Between two decisions that are not delayed, losses are counted from one step on.
    if schedule.knows_length and knows_length and not schedule.credit_is_delayed:
        for start, end in zip(decisions, [*decisions[1:], math.inf], strict=True):
            assert len([count for count in counts if start < count < end]) <= 1
        for start, end in itertools.pairwise(decisions):
            assert len([count for count in counts if start < count < end]) == 1


def test_an_unknown_length_is_learned_in_the_first_epoch():
    schedule = DecisionSchedule(None)
    assert schedule.progress() == 0.0
    assert schedule.every == STEPS_WHILE_LENGTH_UNKNOWN == 25
    decisions, counts = walk(schedule, 490, 10, knows_length=False)
    # 4,900 steps have twenty decisions of 245; the first epoch was walked in steps of 25.
    assert decisions[:20] == list(range(0, 476, 25))
    assert decisions[20:22] == [475 + 245, 475 + 490]
    # The losses of the decision at 475 are counted from one step on, also where its interval
    # became longer.
    assert [count for count in counts if 475 < count <= 720] == [476]


def test_an_interval_that_becomes_shorter_ends_at_once():
    schedule = DecisionSchedule(None)
    decisions, _ = walk(schedule, 10, 8, knows_length=False)
    # 80 steps have twenty decisions of 4: due since step 4 when the length is known at step 10.
    assert decisions[:3] == [0, 11, 15]


@pytest.mark.parametrize(("per_call", "delayed"), [(1, False), (5, True), (10, True)])
def test_delay_is_counted_in_calls_of_the_hook(per_call, delayed):
    schedule = DecisionSchedule(5)
    decisions, _ = walk(schedule, 20, 2, per_call)
    assert schedule.credit_is_delayed is delayed
    spacing = max(5, per_call)
    assert decisions == list(range(0, 40, spacing))


def test_one_call_of_the_hook_for_a_whole_epoch():
    schedule = DecisionSchedule(None)
    decisions, _ = walk(schedule, 10, 3, per_call=10)
    assert decisions == [0, 10, 20]


def test_progress_is_the_share_of_steps_done():
    schedule = DecisionSchedule(2)
    schedule.begin_epoch()
    schedule.set_length(4, 2)
    schedule.advance(0)
    assert schedule.progress() == 1 / 8
    schedule.advance(3)
    schedule.begin_epoch()
    schedule.advance(1)
    assert schedule.step == 6
    assert schedule.steps_in_epoch == 2
    assert schedule.progress() == 6 / 8


def test_more_steps_than_were_announced_do_not_pass_the_end():
    schedule = DecisionSchedule(2)
    schedule.begin_epoch()
    schedule.set_length(4, 1)
    for batch in range(9):
        assert not (schedule.advance(batch) and schedule.wants_decision() and schedule.step >= 4)
        if schedule.wants_decision():
            schedule.note_decision()
    assert schedule.progress() == 1.0


def test_no_more_decisions_are_announced_than_keras_calls():
    schedule = DecisionSchedule(2)
    schedule.set_length(10, 4)
    assert schedule.num_decisions == 20
    schedule.begin_epoch()
    schedule.advance(4)  # five steps in a call
    assert schedule.every == 5
    assert schedule.num_decisions == 8


def delayed(every, staleness, per_call=1, dense=False):
    schedule = DecisionSchedule(every, dense)
    schedule.note_staleness(staleness, per_call)
    return schedule


def test_losses_are_counted_later_where_decisions_show_later():
    # What is decided after step 4 shapes batches from step 7 on, and shows in losses from step 8.
    schedule = delayed(4, 2)
    assert walk(schedule, 12, 1) == ([0, 4, 8], [3, 7, 11])
    assert schedule.num_decisions == 3
    assert not schedule.credit_is_delayed


def test_a_decision_that_could_not_show_any_more_is_not_taken():
    # At 10 five steps would be left, half an interval; it would show in the seventh.
    schedule = delayed(10, 5)
    assert walk(schedule, 15, 1) == ([0], [6])
    assert schedule.num_decisions == 1


@settings(max_examples=40)
@given(
    **TRAININGS | {"every": st.none()},
    per_call=st.sampled_from([1, 3, 10]),
    staleness=st.integers(1, 9),
    dense=st.booleans(),
)
def test_whatever_the_delay_every_interval_has_losses_of_its_own(
    every, steps_an_epoch, num_epochs, per_call, staleness, dense
):
    per_call = min(per_call, steps_an_epoch)
    schedule = delayed(every, staleness, per_call, dense)
    decisions, counts = walk(schedule, steps_an_epoch, num_epochs, per_call)
    assert not schedule.credit_is_delayed
    for start, end in itertools.pairwise(decisions):
        between = [count for count in counts if start < count < end]
        assert len(between) == 1
        assert between[0] >= start + 1 + staleness


def test_an_interval_that_is_shorter_than_the_delay_is_refused():
    with pytest.raises(ValueError, match=r"decide_every is 3.*2 batches later.*at least 4"):
        delayed(3, 2)
