import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_qan.qan.decision_schedule import STEPS_WHILE_LENGTH_UNKNOWN, DecisionSchedule


def walk(pace, steps_an_epoch, num_epochs, per_call=1, knows_length=True):
    """Goes through a training as Keras's hooks do; gives the steps of decisions and of marks."""
    decisions, marks = [], []
    for epoch in range(num_epochs):
        pace.begin_epoch()
        if epoch == 0:
            if knows_length:
                pace.set_length(steps_an_epoch, num_epochs)
            decisions.append(0)
        done = 0
        while done < steps_an_epoch:
            done = min(done + per_call, steps_an_epoch)
            if not pace.advance(done - 1):
                continue
            if pace.wants_decision():
                pace.decided()
                decisions.append(pace.step)
            elif pace.wants_mark():
                pace.marked()
                marks.append(pace.step)
        if not pace.knows_length:
            pace.set_length(pace.steps_in_epoch, num_epochs)
    return decisions, marks


def test_every_third_step_of_ten_by_hand():
    # At 9 one step would be left, fewer than half of three: nothing of a decision would show.
    pace = DecisionSchedule(3)
    assert walk(pace, 5, 2) == ([0, 3, 6], [1, 4, 7])
    assert pace.num_decisions == 3
    assert not pace.is_delayed


def test_a_decision_at_every_step_is_delayed_and_leaves_nothing_to_mark():
    pace = DecisionSchedule(1)
    assert walk(pace, 3, 2) == ([0, 1, 2, 3, 4, 5], [])
    assert pace.num_decisions == 6
    assert pace.is_delayed


def test_by_default_a_decision_is_due_every_twentieth_of_the_training():
    pace = DecisionSchedule(None)
    decisions, _ = walk(pace, 100, 5)
    assert decisions == list(range(0, 500, 25))
    assert (pace.every, pace.num_decisions) == (25, 20)


def test_a_training_shorter_than_decide_every_has_its_first_decision_alone():
    pace = DecisionSchedule(1000)
    assert walk(pace, 7, 2) == ([0], [1])
    assert pace.num_decisions == 1


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
    pace = DecisionSchedule(every)
    decisions, _ = walk(pace, steps_an_epoch, num_epochs)
    assert len(decisions) == pace.num_decisions
    assert {b - a for a, b in itertools.pairwise(decisions)} <= {pace.every}


@settings(max_examples=40)
@given(**TRAININGS, per_call=st.sampled_from([1, 3, 10]), knows_length=st.booleans())
def test_every_decision_has_steps_before_it_and_after_it(
    every, steps_an_epoch, num_epochs, per_call, knows_length
):
    pace = DecisionSchedule(every)
    decisions, marks = walk(pace, steps_an_epoch, num_epochs, per_call, knows_length)
    assert decisions == sorted(set(decisions))
    if knows_length or num_epochs > 1:
        assert decisions[-1] < steps_an_epoch * num_epochs
    assert all(b - a >= min(pace.every, 25) for a, b in itertools.pairwise(decisions))
    assert pace.step == steps_an_epoch * num_epochs
    assert pace.progress() == 1.0
    # Between two decisions that are not delayed, the losses are marked once.
    if pace.knows_length and knows_length and not pace.is_delayed:
        for start, end in zip(decisions, [*decisions[1:], math.inf], strict=True):
            assert len([mark for mark in marks if start < mark < end]) <= 1
        for start, end in itertools.pairwise(decisions):
            assert len([mark for mark in marks if start < mark < end]) == 1


def test_an_unknown_length_is_learned_in_the_first_epoch():
    pace = DecisionSchedule(None)
    assert pace.progress() == 0.0
    assert pace.every == STEPS_WHILE_LENGTH_UNKNOWN == 25
    decisions, marks = walk(pace, 490, 10, knows_length=False)
    # 4,900 steps have twenty decisions of 245; the first epoch was walked in steps of 25.
    assert decisions[:20] == list(range(0, 476, 25))
    assert decisions[20:22] == [475 + 245, 475 + 490]
    # The losses of the decision at 475 are marked once, also if its interval became longer.
    assert [mark for mark in marks if 475 < mark <= 720] == [476]


def test_an_interval_that_becomes_shorter_ends_at_once():
    pace = DecisionSchedule(None)
    decisions, _ = walk(pace, 10, 8, knows_length=False)
    # 80 steps have twenty decisions of 4: due since step 4 when the length is known at step 10.
    assert decisions[:3] == [0, 11, 15]


@pytest.mark.parametrize(("per_call", "delayed"), [(1, False), (5, True), (10, True)])
def test_delay_is_counted_in_calls_of_the_hook(per_call, delayed):
    pace = DecisionSchedule(5)
    decisions, _ = walk(pace, 20, 2, per_call)
    assert pace.is_delayed is delayed
    spacing = max(5, per_call)
    assert decisions == list(range(0, 40, spacing))


def test_one_call_of_the_hook_for_a_whole_epoch():
    pace = DecisionSchedule(None)
    decisions, _ = walk(pace, 10, 3, per_call=10)
    assert decisions == [0, 10, 20]


def test_progress_is_the_share_of_steps_done():
    pace = DecisionSchedule(2)
    pace.begin_epoch()
    pace.set_length(4, 2)
    pace.advance(0)
    assert pace.progress() == 1 / 8
    pace.advance(3)
    pace.begin_epoch()
    pace.advance(1)
    assert pace.step == 6
    assert pace.steps_in_epoch == 2
    assert pace.progress() == 6 / 8


def test_more_steps_than_were_announced_do_not_pass_the_end():
    pace = DecisionSchedule(2)
    pace.begin_epoch()
    pace.set_length(4, 1)
    for batch in range(9):
        assert not (pace.advance(batch) and pace.wants_decision() and pace.step >= 4)
        if pace.wants_decision():
            pace.decided()
    assert pace.progress() == 1.0


def test_no_more_decisions_are_announced_than_keras_calls():
    pace = DecisionSchedule(2)
    pace.set_length(10, 4)
    assert pace.num_decisions == 20
    pace.begin_epoch()
    pace.advance(4)  # five steps in a call
    assert pace.every == 5
    assert pace.num_decisions == 8


def test_losses_are_marked_later_where_decisions_show_later():
    # What is decided after step 4 shapes batches from step 7 on, and shows in losses from step 8.
    pace = DecisionSchedule(4, staleness=2)
    assert walk(pace, 12, 1) == ([0, 4, 8], [3, 7, 11])
    assert pace.num_decisions == 3
    assert not pace.is_delayed


def test_a_decision_that_could_not_show_any_more_is_not_taken():
    # At 10 five steps would be left, half an interval; it would show in the seventh.
    pace = DecisionSchedule(10, staleness=5)
    assert walk(pace, 15, 1) == ([0], [6])
    assert pace.num_decisions == 1


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
    pace = DecisionSchedule(every, dense, staleness, per_call)
    decisions, marks = walk(pace, steps_an_epoch, num_epochs, per_call)
    assert not pace.is_delayed
    for start, end in itertools.pairwise(decisions):
        between = [mark for mark in marks if start < mark < end]
        assert len(between) == 1
        assert between[0] >= start + 1 + staleness


def test_an_interval_that_is_shorter_than_the_delay_is_refused():
    with pytest.raises(ValueError, match=r"decide_every is 3.*2 batches later.*at least 4"):
        DecisionSchedule(3, staleness=2)
