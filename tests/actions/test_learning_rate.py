import math

import numpy as np
import pytest

from keras_qan import actions
from keras_qan.actions import Cosine, Decay, Follow, Hold, Raise, Restart, StepDecay, label


def outcome(action, rate=(0.2, 0.04), initial=(0.1, 0.5), progress=0.5):
    return action.next_rate(np.array(rate), np.array(initial), progress).tolist()


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Decay(), [0.19, 0.038]),
        (Decay(0.5), [0.1, 0.02]),
        (Raise(), [0.25, 0.05]),
        (Raise(3), [0.6, 0.12]),
        (Hold(), [0.2, 0.04]),
        (Restart(0.3), [0.3, 0.3]),
        (Follow(Cosine()), [0.05, 0.25]),
        (Follow(StepDecay(0.1, (0.5,))), [0.01, 0.05]),
    ],
    ids=lambda value: label(value) if not isinstance(value, list) else "",
)
def test_next_rate_by_hand_for_two_optimizers(action, expected):
    assert outcome(action) == pytest.approx(expected, rel=1e-6)


def test_restart_goes_back_to_the_rate_that_fit_began_with():
    assert outcome(Restart()) == pytest.approx([0.1, 0.5])


@pytest.mark.parametrize("factor", [0.0, 1.0, 1.5, -0.1, math.nan, math.inf])
def test_decay_refuses_what_does_not_lower_the_rate(factor):
    with pytest.raises(ValueError, match=r"Decay's factor is .*; expected .*\(0, 1\).*use Raise"):
        Decay(factor)


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.0, -2.0, math.nan, math.inf])
def test_raise_refuses_what_does_not_raise_the_rate(factor):
    with pytest.raises(ValueError, match=r"Raise's factor is .*; expected .*above 1.*use Decay"):
        Raise(factor)


@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_restart_refuses_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match=r"Restart's rate is .*; expected .*above 0"):
        Restart(rate)


def test_follow_refuses_what_is_no_schedule():
    with pytest.raises(
        ValueError, match=r"Follow's schedule is 0\.1; expected .*such as Cosine\(\)"
    ):
        Follow(0.1)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Decay(0.95), "Decay(0.95)"),
        (Raise(2), "Raise(2)"),
        (Hold(), "Hold()"),
        (Restart(), "Restart()"),
        (Restart(0.1), "Restart(0.1)"),
        (object(), "object()"),
    ],
)
def test_labels_show_the_numbers_that_tell_actions_apart(action, expected):
    assert label(action) == expected


def test_default_actions_go_both_ways_and_have_different_labels():
    found = [outcome(action, rate=(1.0,), initial=(1.0,))[0] for action in actions.default()]
    assert min(found) < 1.0 < max(found)
    assert 1.0 in found
    assert len({label(action) for action in actions.default()}) == len(found)


def test_label_of_a_followed_schedule_names_the_schedule():
    assert label(Follow(Cosine())) == "Follow(Cosine)"
