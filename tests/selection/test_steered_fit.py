"""An agent that chooses the batches of a `fit`."""

from __future__ import annotations

import copy
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.selectors import dataset, examples

from keras_qan import (
    DQN,
    Exploration,
    Learning,
    LogLossDrop,
    QANCallback,
    TrainingState,
    actions,
    plots,
    selection,
)
from keras_qan.agents import Agent, ConstantAgent, RandomAgent
from keras_qan.agents.base import ActionChoice
from keras_qan.qan.decision_schedule import DecisionSchedule
from keras_qan.qan.rewards import Reward

CLASSES = 4
SIZE = 8
MORE_CASES = [(0, 1, 2), (5, 1, 9), (2, 4, 8)]


class Turns(Agent):
    """Takes actions in turn, and keeps what it is told."""

    def __init__(self):
        self.count = 0
        self.transitions, self.seen = [], []

    def build(self, num_features, num_actions):
        self.num_actions = num_actions

    def act(self, observation, explore):
        self.seen.append(observation)
        self.count += 1
        # 1, 2, …, as the queue begins with class 0.
        return ActionChoice(self.count % self.num_actions, np.zeros(self.num_actions), 0.0)

    def learn(self, observation, action, reward, discount):
        self.transitions.append((action, reward, discount))
        return 0.0

    def abandon(self, num_transitions):
        del self.transitions[-num_transitions:]

    def arrays(self):
        return {}

    def restore(self, arrays):
        pass

    @property
    def told(self):
        """Action, reward and discount of each transition, `[T, 3]`."""
        return np.array(self.transitions, float)

    @property
    def states(self):
        """The states it acted in, `[T, F]`."""
        return np.array(self.seen)


class LossAfter(Reward):
    """The reward is the log loss after a decision itself, so that it shows where it was taken."""

    uses_validation = False

    def __call__(self, log_loss_before, log_loss_after, num_decisions):
        return log_loss_after


def loss_of_class(y, outputs):
    """√e to the power of the class: known whatever the weights."""
    return tf.exp(0.5 * tf.cast(tf.reshape(y, [-1]), tf.float32)) + 0.0 * outputs[:, 0]


def model(loss=loss_of_class, **more):
    made = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(CLASSES)])
    made.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=False, **more)
    return made


def one_class_at_a_time():
    return selection.ClassMix(dataset(), CLASSES, SIZE, slots=1)


def fit(selector, callback, student=None, steps=40, epochs=1, **arguments):
    (student or model()).fit(
        selector.dataset(**arguments),
        steps_per_epoch=steps,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )
    return callback


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prefetch", "per_call", "every"),
    [(2, 1, 4), *[pytest.param(*case, marks=pytest.mark.slow) for case in MORE_CASES]],
)
def test_reward_is_credited_to_the_decision_that_shaped_the_batches(prefetch, per_call, every):
    selector = one_class_at_a_time()
    agent = Turns()
    callback = QANCallback(
        actions=selector.raw_actions(), agent=agent, reward=LossAfter(), decide_every=every
    )
    callback.state.replace_agent(agent)  # ours, to look into; not a copy
    fit(selector, callback, model(steps_per_execution=per_call), prefetch=prefetch)
    assert selector.staleness == prefetch
    # The k-th decision, after k · every steps, pushes class k + 1 into the only slot.
    shaped = selector.shares().share.argmax(axis=1)
    steps = np.arange(40)
    decision = (steps - prefetch) // every
    last = len(agent.told) - 1
    np.testing.assert_array_equal(
        shaped, np.where(steps < prefetch, 0, (np.minimum(decision, last) + 1) % CLASSES)
    )
    # Its reward is the log loss of its own class, beside the loss of the first call of the hook. A
    # single batch of the decision before or after would show in the mean.
    told = agent.told
    assert len(told) == len(range(0, 40 - max(prefetch + 2, every // 2) + 1, every))
    first = np.exp(0.5 * shaped[:per_call]).mean()
    np.testing.assert_allclose(told[:, 1], 0.5 * told[:, 0] - np.log(first), atol=1e-5)


@pytest.mark.slow
def test_a_schedule_without_the_delay_would_credit_the_wrong_decision(monkeypatch):
    """The test above can fail."""
    selector = one_class_at_a_time()
    agent = Turns()
    callback = QANCallback(
        actions=selector.raw_actions(), agent=agent, reward=LossAfter(), decide_every=4
    )
    callback.state.replace_agent(agent)
    student = model()
    monkeypatch.setattr(DecisionSchedule, "note_staleness", lambda *_: None)
    fit(selector, callback, student)
    told = agent.told
    assert np.abs(told[:, 1] - 0.5 * told[:, 0]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("over_all_data", [True, False])
def test_choosing_what_is_easy_pays_only_where_the_chosen_batches_are_rewarded(over_all_data):
    """Whatever is trained on, all data lose the same here: no choice is worth anything."""
    selector = one_class_at_a_time()
    agent = Turns()
    callback = QANCallback(
        actions=selector.raw_actions(),
        agent=agent,
        decide_every=4,
        reward=LogLossDrop(over_all_data),
    )
    callback.state.replace_agent(agent)
    fit(selector, callback, epochs=2)  # Keras's sums begin anew with an epoch, and so have ours to
    told = agent.told
    if over_all_data:
        # Once all four classes were seen, after four decisions.
        np.testing.assert_allclose(told[4:, 1], 0.0, atol=1e-5)
        return
    # Half the difference of the classes' numbers: each is harder than the last, until the easiest.
    expected = np.where(told[1:-1, 0] == 0, 1.5, -0.5)
    np.testing.assert_allclose(told[1:-1, 1], expected, atol=1e-5)


@pytest.mark.slow
def test_state_holds_the_shares_of_the_classes_by_default():
    selector = one_class_at_a_time()
    agent = Turns()
    callback = QANCallback(actions=selector.raw_actions(), agent=agent, decide_every=10)
    callback.state.replace_agent(agent)
    fit(selector, callback, prefetch=0)
    shares = agent.states[:, -CLASSES:]
    # Nothing was trained on before the first decision; then class 1 alone for ten batches, and
    # after ten of class 2 a share of 0.9¹⁰ of class 1 is left in the mean that forgets.
    np.testing.assert_allclose(shares[0], 0.0)
    np.testing.assert_allclose(shares[1], [0, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shares[2], [0, 0.9**10, 1 - 0.9**10, 0], atol=1e-5)


def quick_agent(**more):
    learning = Learning(batch_size=8, updates=1, n_step=3, warm_up=4)
    return DQN(
        (8,), exploration=Exploration(decisions=40), learning=learning, replay_capacity=200, **more
    )


def decisions(directory):
    return [json.loads(line) for line in (directory / "decisions.jsonl").read_text().splitlines()]


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ClassMix", "LossRank", "Prune"])
def test_rate_and_selection_are_steered_by_one_agent(kind, tmp_path):
    from helpers.selectors import SELECTORS

    selector = SELECTORS[kind](dataset())
    own = selector.raw_actions()
    agent = quick_agent() if kind == "ClassMix" else RandomAgent(1)
    callback = QANCallback(
        tmp_path, actions=[*actions.default(), *own], agent=agent, decide_every=4
    )
    student = model(cross_entropy())
    fit(selector, callback, student, steps=8, epochs=6)
    records = decisions(tmp_path)
    assert len(records) == 12
    assert {len(record["q_values"]) for record in records} == {len(actions.default()) + len(own)}
    assert len({record["action"] for record in records}) > 2
    assert list(records[-1]["shares"]) == list(selector.groups)
    assert selector.trained == 48
    if kind != "ClassMix":
        return
    # Read again, the actions are bound to a selector, which may be another of the same kind.
    other = SELECTORS[kind](dataset())
    again = QANCallback.load(tmp_path, explore=False, selector=other)
    fit(other, again, student, steps=8, epochs=2)
    assert other.trained == 16
    with pytest.raises(ValueError, match=r"no selector.*QANCallback\.load\(directory, selector="):
        fit(other, QANCallback.load(tmp_path, explore=False), student, steps=8)
    figures = {path.name for path in plots.draw(tmp_path)}
    assert "selection.png" in figures


@pytest.mark.slow
def test_run_with_selection_actions_goes_on_and_the_same_seed_gives_the_same(tmp_path):
    def go(directory, times):
        for _ in range(times):
            selector = selection.ClassMix(dataset(), CLASSES, SIZE, slots=3, seed=5)
            callback = QANCallback(
                directory, actions=selector.raw_actions(), agent=quick_agent(), decide_every=4
            )
            keras.utils.set_random_seed(3)
            fit(selector, callback, model(cross_entropy()), steps=32)
        return [(r["action"], r["loss"], r["td_loss"]) for r in decisions(directory)]

    once, twice = go(tmp_path / "a", 1), go(tmp_path / "b", 2)
    assert len(once) == 8
    assert len(twice) == 16
    assert twice[:8] == once
    assert twice[8:] != once  # it goes on from what it learned


def test_data_that_did_not_come_from_the_selector_are_refused():
    selector = one_class_at_a_time()
    callback = QANCallback(
        actions=selector.raw_actions(), agent=ConstantAgent(0), observations=[TrainingState()]
    )
    x, y = examples()
    with pytest.raises(ValueError, match=r"did not come from it.*selector\.dataset\(\)"):
        model().fit(x, y, batch_size=SIZE, verbose=0, callbacks=[callback])


@pytest.mark.slow
def test_too_short_an_interval_is_refused():
    selector = one_class_at_a_time()
    callback = QANCallback(
        actions=selector.raw_actions(),
        agent=ConstantAgent(0),
        observations=[TrainingState()],
        decide_every=3,
    )
    with pytest.raises(ValueError, match=r"decide_every is 3.*2 batches later.*at least 4"):
        fit(selector, callback)


def test_actions_of_two_selectors_are_refused():
    one, two = one_class_at_a_time(), one_class_at_a_time()
    with pytest.raises(ValueError, match="several selectors"):
        QANCallback(actions=[*one.raw_actions(), *two.raw_actions()])


def test_actions_are_bound_to_selectors_of_their_kind_alone():
    with pytest.raises(ValueError, match=r"Push cannot be bound to Uniform.*SelectionState"):
        selection.Push(0).bound_to(selection.Uniform(dataset(), SIZE))
    with pytest.raises(ValueError, match=r"label is 4; expected 0 to 3.*has 4 classes"):
        selection.Push(4).bound_to(one_class_at_a_time())
    callback = QANCallback(actions=[selection.Push(0)], agent=ConstantAgent(0))
    with pytest.raises(ValueError, match=r"Push has no selector.*selector\.actions\(\)"):
        fit(one_class_at_a_time(), callback)


@pytest.mark.slow
def test_a_second_callback_that_looks_after_the_selector_does_no_harm():
    selector = one_class_at_a_time()
    callback = QANCallback(
        actions=selector.raw_actions(), agent=RandomAgent(1), observations=[TrainingState()]
    )
    for neighbours in (
        [callback, selector.callback()],
        [selector.callback(), copy.deepcopy(callback)],
    ):
        selector.restart()
        model().fit(
            selector.dataset(),
            steps_per_epoch=12,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=neighbours,
        )
        assert selector.trained == 24
