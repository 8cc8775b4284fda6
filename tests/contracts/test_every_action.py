"""The contract of every action and every schedule."""

import json

import numpy as np
import pytest

from keras_qan import actions
from keras_qan.actions import (
    Anneal,
    Cosine,
    Decay,
    Follow,
    Hold,
    LinearFall,
    OneCycle,
    OptionContext,
    Raise,
    RangeTest,
    Restart,
    StepBack,
    StepDecay,
    TriangularCycle,
    WarmRestarts,
    WarmUp,
)
from keras_qan.storage import serialization

SCHEDULES = [Cosine(), LinearFall(), StepDecay(), StepDecay(0.5, ()), OneCycle(), WarmRestarts()]
OPTIONS = [WarmUp(), WarmUp(0.5, 3.0, 2), RangeTest(), TriangularCycle(), Anneal(), Anneal(0.2, 3)]
FLAT = [Decay(), Raise(), Hold(), Restart(), Restart(0.3), StepBack(), *map(Follow, SCHEDULES)]
ACTIONS = FLAT + OPTIONS


def _name(value):
    inner = getattr(value, "schedule", value)
    return f"{type(value).__name__} {type(inner).__name__}"


all_actions = pytest.mark.parametrize("action", ACTIONS, ids=_name)
all_options = pytest.mark.parametrize("option", OPTIONS, ids=_name)
all_schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=_name)


def test_every_registered_action_and_schedule_is_tested_here():
    room = [c for c in serialization._classes.values() if c.__module__.startswith(actions.__name__)]
    assert {type(value) for value in ACTIONS + SCHEDULES} == set(room)


@all_actions
@pytest.mark.parametrize("num_optimizers", [1, 3])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_an_action_gives_a_rate_for_each_optimizer(action, num_optimizers, progress):
    rate = np.array([0.1, 0.2, 1e-8][:num_optimizers])
    found = action.next_rate(rate, 2.0 * rate, progress)
    assert (found.dtype, found.shape) == (float, (num_optimizers,))
    assert np.isfinite(found).all()
    assert (found >= -1e-7).all()


@all_actions
def test_an_action_on_a_population_is_its_action_on_each_training(action):
    rates, initial = np.array([0.1, 0.2, 1e-8]), np.array([0.4, 0.1, 1e-3])
    together = action.next_rate(rates, initial, 0.3)
    for row in range(3):
        one = slice(row, row + 1)
        np.testing.assert_array_equal(
            together[one], action.next_rate(rates[one], initial[one], 0.3)
        )


@all_actions
def test_an_action_leaves_the_arrays_that_it_is_given(action):
    rates, initial = np.array([0.1, 0.2]), np.array([0.4, 0.1])
    action.next_rate(rates, initial, 0.3)
    action.rate_after_step_back(rates, initial)
    assert (rates.tolist(), initial.tolist()) == ([0.1, 0.2], [0.4, 0.1])


@all_actions
def test_an_action_remembers_nothing(action):
    numbers = (np.array([0.1]), np.array([0.4]), 0.3)
    first = action.next_rate(*numbers).copy()
    action.next_rate(np.array([9.0]), np.array([9.0]), 1.0)
    np.testing.assert_array_equal(action.next_rate(*numbers), first)


@all_actions
def test_an_action_has_a_label_and_comes_back_from_its_settings(action):
    assert actions.label(action).startswith(type(action).__name__)
    config = json.loads(json.dumps(serialization.to_config(action)))
    again = serialization.from_config(config)
    assert type(again) is type(action)
    assert serialization.to_config(again) == serialization.to_config(action)
    numbers = (np.array([0.1]), np.array([0.4]), 0.3)
    np.testing.assert_array_equal(again.next_rate(*numbers), action.next_rate(*numbers))


@all_options
def test_an_option_gives_rates_at_every_decision_and_ends_or_lasts_to_the_training_s_end(option):
    begun = np.array([0.1, 0.3])
    rate, start = begun, OptionContext(begun, begun, 2.0 * begun, 0.25, 0.25, interval=0.05)
    number, now = 0, start
    while number < 15:
        before, rate = rate, option.rate_at(now)
        assert rate.shape == (2,)
        assert np.isfinite(rate).all()
        assert (rate >= 0.0).all()
        number += 1
        now = OptionContext(
            rate, rate, 2.0 * begun, 0.25 + 0.05 * number, 0.25 + 0.05 * number, interval=0.05,
            last_change=float(np.log(rate / before)[0]),
        ).since(start._replace(num_decisions=number))  # fmt: skip
        np.testing.assert_array_equal(begun, [0.1, 0.3])
        if option.is_over(now):
            break
    assert number == (15 if option.decisions is None else option.decisions)


@all_options
def test_an_options_next_rate_is_that_of_its_first_decision(option):
    rate = np.array([0.1, 0.3])
    np.testing.assert_array_equal(
        option.next_rate(rate, 2.0 * rate, 0.25),
        option.rate_at(OptionContext(rate, rate, 2.0 * rate, 0.25, 0.25)),
    )


@all_schedules
def test_a_schedule_gives_a_share_of_the_peak(schedule):
    progress = np.linspace(0.0, 1.0, 101)
    shares = [schedule(float(p)) for p in progress]
    assert {np.shape(share) for share in shares} == {()}
    numbers = np.array(shares, float)
    np.testing.assert_allclose(schedule(progress), numbers, rtol=1e-12)
    assert np.isfinite(numbers).all()
    assert numbers.min() >= -1e-6
    assert numbers.max() == pytest.approx(1.0, abs=0.01)
