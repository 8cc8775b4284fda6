"""What a decision does, for one training and for a population: properties of the rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.actions import (
    ActionSet,
    Cosine,
    Decay,
    Follow,
    Hold,
    Raise,
    Restart,
    StepBack,
    StepDecay,
)
from keras_qan.observations import loss_history
from keras_qan.observations.loss_history import LOG_LOSS_BOUNDS, NO_CEILING, LossHistory
from keras_qan.qan.rule import (
    SMALLEST_SHARE,
    DecisionContext,
    Limits,
    RateState,
    apply_action,
    schedule_share,
)

BOUNDS = (1e-4, 1.0)
WITH_STEP_BACK = (StepBack(0.3), Decay(0.5), Hold(), Raise(3.0), Restart(), Follow(Cosine()))
WITHOUT = WITH_STEP_BACK[1:]

RATES = st.floats(-7.0, 1.0).map(lambda power: 10.0**power)
LOGS = st.floats(*LOG_LOSS_BOUNDS)
# Losses that are equal now and then, as the lowest one is often the last.
LOSSES = st.one_of(LOGS, st.sampled_from([-1.0, 0.0, 0.5, LOG_LOSS_BOUNDS[1]]))
PROGRESS = st.floats(0.0, 1.0)


@st.composite
def histories(draw):
    """A history as the losses of some intervals and the decisions between them leave it."""
    history = loss_history.start_history()
    for _ in range(draw(st.integers(0, 5))):
        history = loss_history.with_loss(history, draw(LOSSES))
        if draw(st.booleans()):
            rates = draw(RATES), draw(RATES)
            history = loss_history.with_rate(history, *rates, draw(st.booleans()))
    if draw(st.booleans()):
        history = loss_history.with_validation(history, draw(LOSSES))
    return loss_history.with_loss(history, draw(LOSSES))


@st.composite
def situations(draw):
    """The action and the state of one training in a population: numbers."""
    rates = [draw(RATES) for _ in range(3)]
    return draw(st.integers(0, 4)), *rates, draw(histories())


def one(actions, situation, progress):
    """What the rule makes of a single training with one optimizer."""
    action, *rates, history = situation
    state = RateState(*(np.array([rate]) for rate in rates), history)
    return apply_action(ActionSet(actions, BOUNDS), action, state, progress)


both_sets = pytest.mark.parametrize(
    "actions", [WITH_STEP_BACK, WITHOUT], ids=["step back", "no step back"]
)


@both_sets
@given(rows=st.lists(situations(), min_size=1, max_size=5), progress=PROGRESS)
def test_a_population_is_decided_about_as_each_of_its_trainings(actions, rows, progress):
    action, rates, kept, initial, histories = zip(*rows, strict=True)
    state = RateState(
        *(np.array(column) for column in (rates, kept, initial)),
        LossHistory(*(np.array(column, float) for column in zip(*histories, strict=True))),
    )
    together = apply_action(ActionSet(actions, BOUNDS), np.array(action), state, progress)
    for place, row in enumerate(rows):
        alone = one(actions, row, progress)
        assert together.action[place] == alone.action
        for ours, theirs in zip(together.state[:3], alone.state[:3], strict=True):
            assert ours[place] == theirs[0]
        for ours, theirs in zip(together.state.history, alone.state.history, strict=True):
            assert ours[place] == theirs
        for ours, theirs in zip(together[2:], alone[2:], strict=True):
            assert ours[place] == theirs


@both_sets
@given(situation=situations(), progress=PROGRESS)
def test_rates_are_within_the_bounds_unless_they_are_held(actions, situation, progress):
    (rate,) = one(actions, situation, progress).state.rates
    assert BOUNDS[0] <= rate <= BOUNDS[1] or rate == situation[1]


@both_sets
@given(situation=situations(), progress=PROGRESS)
def test_what_is_kept_is_the_weights_of_the_lowest_loss(actions, situation, progress):
    effect = one(actions, situation, progress)
    history = effect.state.history
    if actions is WITHOUT:
        assert not any(effect[2:])
        return
    # A bad snapshot is forgotten before it is compared with.
    best = 0.0 if effect.forgets else situation[4].best
    assert bool(effect.keeps) == (situation[4].now <= best)
    assert history.best == best
    # What is kept now is not what is restored: that was kept at an earlier decision.
    assert not (effect.keeps and effect.restores)
    if effect.keeps and effect.action != 0:
        assert effect.state.kept_rates[0] == situation[1]


@given(situation=situations(), progress=PROGRESS)
def test_weights_are_restored_by_a_step_back_alone_and_only_where_there_are_better(
    situation, progress
):
    effect = one(WITH_STEP_BACK, situation, progress)
    if effect.restores:
        assert effect.action == 0
        assert situation[4].now > (0.0 if effect.forgets else situation[4].best)
    elif effect.action == 0:
        assert effect.keeps


@given(situation=situations(), progress=PROGRESS)
def test_a_jump_of_the_loss_is_stepped_back_from_and_nothing_else_is_forced(situation, progress):
    effect = one(WITH_STEP_BACK, situation, progress)
    jumped = bool(loss_history.has_jumped(situation[4]))
    assert effect.action == (0 if jumped else situation[0])
    # Without such an action the agent's choice stands.
    assert one(WITHOUT, situation, progress).action == situation[0]


@given(situation=situations(), progress=PROGRESS)
def test_a_step_back_lowers_the_rate_and_leaves_a_ceiling(situation, progress):
    action, rate, kept, _, history = situation
    effect = one(WITH_STEP_BACK, situation, progress)
    after = effect.state.history
    if effect.action == 0:
        assert effect.state.rates[0] <= max(min(0.3 * rate, BOUNDS[1]), BOUNDS[0])
        assert effect.state.kept_rates[0] == effect.state.rates[0]
        assert after.step_backs == history.step_backs + 1
        assert after.ceiling == min(history.ceiling, math.log(rate))
        assert after.now == after.best
        assert after.was_set_back == effect.restores
    else:
        assert (after.step_backs, after.ceiling) == (history.step_backs, history.ceiling)
        assert after.now == history.now
        assert after.was_set_back == 0.0
        assert effect.state.kept_rates[0] == (rate if history.now <= history.best else kept)
    assert after.last_change == pytest.approx(
        math.log(effect.state.rates[0]) - math.log(rate), abs=1e-9
    )
    del action


@both_sets
@given(
    losses=st.lists(st.tuples(LOSSES, st.integers(0, 4)), min_size=1, max_size=12),
    progress=PROGRESS,
)
def test_over_a_whole_training_nothing_is_restored_that_was_not_kept_or_begun_with(
    actions, losses, progress
):
    action_set = ActionSet(actions, BOUNDS)
    rates = np.array([0.1, 0.01])  # two optimizers
    state = RateState(rates, rates, rates, loss_history.start_history())
    # The loss of the weights that a restore would bring back; those of the start have 0.
    snapshot = 0.0
    for number, (loss, action) in enumerate(losses):
        if number:
            history = loss_history.with_loss(state.history, loss)
            state = state._replace(history=history)
        now = state.history.now
        effect = apply_action(action_set, action, state, progress)
        if effect.forgets:
            snapshot = 0.0
        if effect.keeps:
            assert now <= snapshot
            snapshot = float(now)
        if effect.restores:
            assert snapshot < now
        state = effect.state
        if actions is WITH_STEP_BACK:
            assert state.history.best == snapshot
        assert state.rates.shape == (2,)
        assert (state.rates >= BOUNDS[0]).all()
        assert (state.rates <= BOUNDS[1]).all()


@given(situation=situations(), progress=PROGRESS)
def test_the_state_that_a_decision_found_is_left_as_it_was(situation, progress):
    action, *rates, history = situation
    arrays = [np.array([rate]) for rate in rates]
    state = RateState(*arrays, history)
    apply_action(ActionSet(WITH_STEP_BACK, BOUNDS), action, state, progress)
    assert [array[0] for array in arrays] == rates
    assert state.history == history


def test_a_training_that_has_not_begun_may_only_change_its_rate():
    state = RateState(*[np.array([0.1])] * 3, loss_history.start_history())
    for action in range(len(WITH_STEP_BACK)):
        effect = apply_action(ActionSet(WITH_STEP_BACK, BOUNDS), action, state, 0.0)
        assert effect.action == action
        assert effect.keeps
        assert not effect.restores
        assert not effect.forgets
        expected = math.log(0.1) if action == 0 else NO_CEILING
        assert effect.state.history.ceiling == pytest.approx(expected)


# A schedule's share.


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, 1.0),
        (Cosine(), 0.5 * (1.0 + math.cos(math.pi * 0.3))),
        (StepDecay(0.1, (0.28,)), 0.1),
    ],
)
def test_the_share_is_that_of_the_middle_of_the_interval(schedule, expected):
    context = DecisionContext(0.25, 10, num_steps=100, interval=10, taken=10)
    assert schedule_share(schedule, context) == pytest.approx(expected)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_training_shorter_than_an_interval_has_the_share_of_its_middle(num_steps):
    context = DecisionContext(0.0, 1, num_steps=num_steps, interval=5, taken=1)
    assert schedule_share(Cosine(), context) == pytest.approx(0.5)


@given(progress=PROGRESS, interval=st.integers(1, 100))
def test_a_share_is_never_zero_as_the_next_decision_divides_by_it(progress, interval):
    context = DecisionContext(progress, 10, num_steps=100, interval=interval, taken=1)
    assert SMALLEST_SHARE <= schedule_share(Cosine(), context) <= 1.0
    assert schedule_share(lambda progress: 0.0, context) == SMALLEST_SHARE


@given(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=60))
def test_no_row_of_actions_starves_a_training(plays):
    actions = ActionSet([StepBack(0.3), Decay(0.5)], (1e-12, 1e3))
    one = np.ones(1)
    history = loss_history.with_loss(loss_history.start_history(), 1.0)
    state = RateState(one, one, one, history)
    limits = Limits(lowest_rate=np.array([1e-5]), lowest_decayed=np.array([1e-3]))
    for action in plays:
        before = state.rates
        state = apply_action(actions, action, state, 0.5, limits).state
        assert state.rates[0] >= 1e-5
        if action == 1:  # a decay holds what a step back has taken further down
            assert state.rates[0] >= min(1e-3, before[0])


@given(
    history=histories(), rate=RATES, largest=RATES, action=st.integers(0, len(WITH_STEP_BACK) - 1)
)
def test_no_action_leads_above_the_largest_rate(history, rate, largest, action):
    rates = np.array([rate])
    state = RateState(rates, rates, rates, history)
    limits = Limits(largest_rate=np.array([largest]))
    effect = apply_action(ActionSet(WITH_STEP_BACK, (1e-9, 1e3)), action, state, 0.5, limits)
    assert effect.state.rates <= largest
