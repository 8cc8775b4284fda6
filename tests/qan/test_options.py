"""Options in a training: who decides, what is learned of them, and how they end."""

from __future__ import annotations

import itertools
import json
import math

import keras
import numpy as np
import pytest
from helpers.fake_training import Recorder, Training
from hypothesis import given
from hypothesis import strategies as st

from keras_qan import DQN, Policy, QANCallback, TrainingState
from keras_qan.actions import Anneal, Decay, Hold, Option, StepBack, WarmUp
from keras_qan.agents import ConstantAgent
from keras_qan.observations.loss_history import LOG_LOSS_BOUNDS
from keras_qan.qan.config import CallbackConfig
from keras_qan.qan.slope_ratio import SlopeEstimate

LN2 = math.log(2.0)


class Halve(Option):
    """Halve the rate at each of so many decisions."""

    def __init__(self, decisions):
        self.decisions = decisions

    def rate_at(self, context):
        return 0.5 * context.rate

    def is_over(self, context):
        return context.num_decisions >= self.decisions


def play(training, losses, delayed=False):
    """Begin, and decide after each loss; return the decisions."""
    decisions = [training.begin()]
    training.first_step(losses[0])
    if delayed:  # the step after a decision has the loss that was fixed before it
        decisions.append(training.decide(delayed))
    for loss in losses[1:]:
        if not delayed:
            training.start_counting()
        training.step(loss)
        decisions.append(training.decide(delayed))
    return decisions


# What is learned.


def test_an_option_is_one_transition_with_its_semi_markov_return():
    # Each loss is half of the one before: every reward is ln 2.
    training = Training(Recorder(plays=(0, 1), gamma=0.5), [Halve(3), Hold()])
    decisions = play(training, [16.0, 8.0, 4.0, 2.0, 1.0])
    assert [decision.action for decision in decisions] == [0, 0, 0, 1, 0]
    assert [decision.rate for decision in decisions] == [0.5, 0.25, 0.125, 0.125, 0.0625]
    assert [decision.option_decision for decision in decisions] == [1, 2, 3, None, 1]
    # The agent was asked at decisions 0, 3 and 4.
    assert len(training.agent.explored) == 3
    # r0 + r1/2 + r2/4, the next value times 1/4 beyond the usual 1/2; then the flat action.
    np.testing.assert_allclose(
        training.agent.learned,
        [[0, 1.75 * LN2, 0.25, 1.0], [1, LN2, 1.0, 0.125]],
        rtol=1e-5,
    )
    assert [math.isnan(decision.td_loss) for decision in decisions] == [True] * 3 + [False] * 2


def test_while_it_lasts_the_agent_says_nothing():
    training = Training(Recorder(plays=(0,)), [Halve(2), Hold()])
    first, second = play(training, [4.0, 2.0])
    assert (first.epsilon, first.q_values) == (0.25, [0.5, 0.5])
    assert second.epsilon == 0.0
    assert np.isnan(second.q_values).all()


def test_an_option_that_the_training_ends_in_is_learned_as_the_end():
    training = Training(Recorder(plays=(0,), gamma=0.5), [Halve(9), Hold()])
    play(training, [8.0, 4.0])
    training.start_counting()
    training.step(2.0)
    last = training.end(final_loss=1.0)
    assert last.reward == pytest.approx(math.log(4.0))
    # ln 2 + ln 4 / 2, and nothing follows.
    np.testing.assert_allclose(training.agent.learned, [[0, 2.0 * LN2, 0.0, 1.0]], rtol=1e-5)


def test_where_every_step_has_a_decision_an_option_has_the_rewards_of_its_own():
    training = Training(Recorder(plays=(0, 1, 2), gamma=0.5), [Halve(2), Hold(), Decay(0.9)])
    play(training, [32.0, 16.0, 8.0, 4.0], delayed=True)
    training.step(2.0)
    training.end(final_loss=0.5)
    # Decisions 0 and 1 are the option's; 2, 3 and 4 flat. The last two are learned at the end.
    np.testing.assert_allclose(
        training.agent.learned,
        [
            [0, 1.5 * LN2, 0.5, 1.0],
            [1, LN2, 1.0, 0.25],
            [2, LN2, 1.0, 0.25],
            [0, 2.0 * LN2, 0.0, 0.225],
        ],
        rtol=1e-5,
    )


@pytest.mark.parametrize("delayed", [False, True])
def test_a_training_that_diverges_within_an_option_is_learned_once(delayed):
    training = Training(Recorder(plays=(0,), gamma=1.0), [Halve(9)])
    play(training, [4.0, 2.0], delayed)
    training.step(math.nan)
    training.end(math.nan)
    # The rewards down to the worst loss, whatever lies between.
    found = training.agent.learned
    np.testing.assert_allclose(found, [[0, -LOG_LOSS_BOUNDS[1], 0.0, 1.0]], atol=1e-5)


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    delayed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_returns_are_those_of_the_definition(lengths, gamma, delayed, seed):
    options = [Halve(length) for length in lengths]
    agent = Recorder(plays=tuple(range(len(options))), gamma=gamma)
    training = Training(agent, options, bounds=(1e-9, 10.0))
    logs = np.log(2.0) - 0.1 * np.cumsum(np.random.default_rng(seed).uniform(0.0, 1.0, 12))
    play(training, np.exp(logs[:-2]), delayed)
    if not delayed:
        training.start_counting()
    training.step(float(np.exp(logs[-2])))
    training.end(float(np.exp(logs[-1])))
    # One reward a decision; the last one is to the final loss, over the last training loss where
    # none of the rewards waits.
    rewards = list(-np.diff(logs))
    if not delayed:
        rewards[-2:] = [rewards[-2] + rewards[-1]]
    expected, first = [], 0
    for number in itertools.cycle(range(len(lengths))):
        own = rewards[first : first + lengths[number]]
        first += lengths[number]
        total = sum(gamma**i * reward for i, reward in enumerate(own))
        is_end = first >= len(rewards)
        expected.append([number, total, 0.0 if is_end else gamma ** (len(own) - 1)])
        if is_end:
            break
    np.testing.assert_allclose(agent.learned[:, :3], expected, rtol=1e-4, atol=1e-6)


def test_an_episode_that_is_broken_off_in_an_option_forgets_what_was_learned_of_it():
    training = Training(Recorder(plays=(0,)), [Halve(2)])
    play(training, [8.0, 4.0, 2.0, 1.0])  # two decisions of the first option, and one of the next
    assert len(training.agent.learned) == 1
    training.controller.abandon()
    assert training.agent.abandoned == [1]
    # Of the option that was under way nothing is left either.
    training.model.losses.assign(0.0, 0.0)
    play(training, [8.0, 4.0, 2.0])
    assert training.agent.learned[:, 1].tolist() == pytest.approx([2.0 * LN2], rel=1e-5)


def test_actions_of_one_decision_are_learned_as_ever():
    training = Training(Recorder(plays=(0, 1), gamma=0.5), [Hold(), Decay(0.5)])
    play(training, [8.0, 4.0, 2.0])
    np.testing.assert_allclose(training.agent.learned[:, 1:3], [[LN2, 1.0]] * 2, rtol=1e-5)


# How an option ends before its time.


def test_a_jump_of_the_loss_ends_an_option():
    training = Training(Recorder(plays=(0, 1), gamma=0.5), [Halve(9), Hold()])
    decisions = play(training, [2.0, 1.0, 6.0])
    assert [decision.action for decision in decisions] == [0, 0, 1]
    np.testing.assert_allclose(
        training.agent.learned, [[0, LN2 - 0.5 * math.log(6.0), 0.5, 1.0]], rtol=1e-5
    )


def test_where_other_data_came_an_option_ends_and_the_rate_is_what_it_was():
    training = Training(Recorder(plays=(0, 1)), [Halve(9), Hold()])
    play(training, [8.0, 4.0])
    guard = training.controller.guard
    guard.note_step_back(np.array([3.0]), step=10, num_steps=40, is_plain=True)
    guard.data_changed = True
    training.start_counting()
    training.step(2.0)
    assert (training.decide().action, training.model.rates[0]) == (1, 3.0)
    assert training.agent.learned[:, 0].tolist() == [0]


def test_a_return_begins_anew_where_the_crediting_changes():
    # With a dense start decisions come apart: the one that waited is not learned.
    training = Training(Recorder(plays=(0,)), [Halve(1)])
    play(training, [16.0, 8.0], delayed=True)
    training.start_counting()
    training.step(4.0)
    training.decide()
    np.testing.assert_allclose(training.agent.learned[-1, 1:3], [LN2, 1.0], rtol=1e-5)


class Steep(Option):
    """A rate that no training stands."""

    def rate_at(self, context):
        return context.start_rate * 1e4

    def is_over(self, context):
        return False


def regression(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(240, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model, x, x @ np.array([[1.0], [-1.0], [2.0], [0.5]], "float32") + 1.0


def fit(callback, epochs=1):
    keras.utils.set_random_seed(0)
    model, x, y = regression()
    return model.fit(
        x, y, batch_size=8, epochs=epochs, verbose=0, shuffle=False, callbacks=[callback]
    )


def lines(directory):
    text = (directory / "decisions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_a_step_back_interrupts_an_option():
    agent = Recorder(plays=(0,))
    callback = QANCallback(
        actions=[Steep(), StepBack(0.5)],
        observations=[TrainingState()],
        agent=agent,
        rate_bounds=(1e-6, 1e6),
        decide_every=5,
    )
    history = fit(callback).history
    assert history["step_backs"][-1] > 0
    assert 1 in agent.learned[:, 0]
    # What was learned of the option says that it went astray.
    assert agent.learned[0, 0] == 0
    assert agent.learned[0, 1] < -1.0


def test_where_a_raise_is_not_allowed_the_option_under_way_holds_the_rate():
    class Gate:
        largest = math.inf
        is_blind = False

        def begin(self, progress=0.0, has_few_batches=False):
            pass

        def estimate(self):
            return SlopeEstimate()

        def largest_factor(self, slope, progress):
            return self.largest

        def is_too_low(self, slope, progress):
            return True  # an option that goes on is not raised all the same

        def measure_again(self, interval, progress, changed):
            pass

    training = Training(Recorder(plays=(0,)), [WarmUp(2.0, 4.0, 3), Decay(0.5)])
    training.model.window = training.model.gate = gate = Gate()
    training.explore = False
    assert training.begin().rate == pytest.approx(2.0)
    training.first_step(4.0)
    gate.largest = 1.0
    held = training.decide()
    assert (held.rate, held.option_decision) == (pytest.approx(2.0), 2)
    gate.largest = 2.0
    assert training.decide().rate == pytest.approx(4.0)


def test_with_several_workers_options_are_refused():
    class Workers:
        is_chief = True

        def broadcast(self, data):
            return data

    callback = QANCallback(actions=[Anneal(), Hold()], agent=ConstantAgent(1))
    with pytest.raises(ValueError, match=r"got the option Anneal\(0\).*expected actions of one"):
        callback.join(Workers())


# Breaks and files.


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("option", [WarmUp(1.5, 3.0, 4), Anneal()])
def test_a_training_goes_on_in_the_middle_of_an_option(delayed, option):
    losses = [16.0, 12.0, 8.0, 6.0, 4.0, 3.0]
    found = []
    for breaks in (False, True):
        training = Training(Recorder(plays=(1, 0), gamma=0.9), [option, Hold()])
        decisions = play(training, losses[:3], delayed)
        if breaks:
            arrays = {name: np.array(value) for name, value in training.controller.arrays().items()}
            other = Training(training.agent, training.controller.actions)
            other.model = training.model
            other.controller.restore(arrays)
            training = other
        for loss in losses[3:]:
            training.start_counting()
            training.step(loss)
            decisions.append(training.decide(delayed, progress=0.75))
        training.end(2.5)
        found.append(([decision.rate for decision in decisions], training.agent.learned.tolist()))
    assert found[0] == found[1]
    assert len(found[0][1]) >= 2


@pytest.mark.slow
def test_a_fit_tells_in_its_log_which_option_is_under_way(tmp_path):
    callback = QANCallback(
        tmp_path,
        actions=[WarmUp(0.5, 2.0, 3), Hold()],
        observations=[TrainingState()],
        agent=DQN((4,)),
        decide_every=5,
    )
    fit(callback)
    rows = lines(tmp_path)
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20, 25]
    number = 0
    for row in rows:
        if row["action"] == "Hold()":
            assert "option_decision" not in row
            number = 0
            continue
        number = number % 3 + 1
        assert (row["action"], row["option_decision"]) == ("WarmUp(0.5, 2, 3)", number)
    assert any(row.get("option_decision") == 2 for row in rows)


@pytest.mark.slow
def test_a_policy_over_options_is_a_file_as_any(tmp_path):
    settings = {
        "actions": [WarmUp(0.5, 2.0, 3), Anneal(), Hold()],
        "observations": [TrainingState()],
        "agent": DQN((4,)),
        "decide_every": 5,
    }
    learner = QANCallback(**settings)
    fit(learner)
    config = CallbackConfig(**settings, reward=learner.settings.reward)
    path = Policy(config, learner.agent.parameters(), {}).save(tmp_path / "options.qan")
    learner.explore = False
    expected = fit(learner, epochs=2).history
    followed = fit(QANCallback(policy=path), epochs=2).history
    assert followed["learning_rate"] == expected["learning_rate"]
    assert len(set(followed["learning_rate"])) > 1
