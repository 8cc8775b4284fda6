"""The shipped policy decides as it did when its decisions were recorded."""

import copy
import math

import keras
import numpy as np
import pytest
from helpers.recorded_trainings import OPTIMIZERS, TRACE, recorded, train

from keras_qan import QANCallback
from keras_qan.actions import Cosine
from keras_qan.qan import policy

# Places in the state of `TrainingDynamics`.
PROGRESS, INTERVAL, NOW, ABOVE_BEST = 2, 5, 6, 9

# Decisions of a training until the first step back that would not be taken now; the last one of
# "good" is so near a tie that another processor's rounding turns it over.
SAME_DECISIONS = {"diverging": 3, "good": 27}

names = pytest.mark.parametrize("name", OPTIMIZERS)


def shipped_agent(num_features):
    settings = policy.shipped().settings
    agent = copy.deepcopy(settings.agent)
    agent.build(num_features, len(settings.actions))
    agent.adopt(policy.shipped().arrays)
    return agent, settings


def is_forced(state):
    """Whether the loss has jumped: above the first one, and above twice the lowest."""
    return state[NOW] > 0.0 and state[ABOVE_BEST] > math.log(2.0)


def test_the_trace_holds_what_it_is_to_show():
    trace = recorded()
    assert list(trace) == list(OPTIMIZERS)
    assert len(TRACE.read_bytes()) < 50_000
    assert [len(one["decisions"]) for one in trace.values()] == [28] * 3
    taken = {row["action"] for one in trace.values() for row in one["decisions"]}
    # The step back, no change, and the largest raise.
    assert taken == {0, 2, 4}
    forced = [is_forced(row["state"]) for row in trace["diverging"]["decisions"]]
    assert sum(forced) >= 1


@names
def test_the_policy_takes_the_recorded_actions_in_the_recorded_states(name):
    decisions = recorded()[name]["decisions"]
    states = np.array([row["state"] for row in decisions], np.float32)
    agent, settings = shipped_agent(states.shape[1])
    (step_back,) = [n for n, action in enumerate(settings.actions) if action.steps_back]
    for number, row in enumerate(decisions):
        if is_forced(row["state"]):
            assert row["action"] == step_back
        else:
            assert agent.act(states[number], False).action == row["action"], f"decision {number}"
    # For many states at once it is the same.
    free = [n for n, row in enumerate(decisions) if not is_forced(row["state"])]
    scores = agent.action_scores(states[free])
    assert scores.argmax(axis=1).tolist() == [decisions[n]["action"] for n in free]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="recorded on TensorFlow")
@names
def test_without_the_limit_of_raises_the_recorded_trainings_are_steered_as_they_were(name):
    expected = recorded()[name]
    callback = QANCallback(raises_by_slope=False, schedule=Cosine())
    rows = []
    record = callback.state.record_decision

    def note(decision, number, step, greedy):
        rows.append((step, decision.action, decision.rate, decision.loss))
        record(decision, number=number, step=step, greedy=greedy)

    callback.state.record_decision = note
    history = train(name, [callback])
    # Step backs have been held to the noise of the batches since: that training takes fewer.
    same = SAME_DECISIONS.get(name, 28)
    decisions, rows = expected["decisions"][:same], rows[:same]
    assert [row[:2] for row in rows] == [(was["step"], was["action"]) for was in decisions]
    for (_, _, rate, loss), was in zip(rows, decisions, strict=True):
        middle = was["state"][PROGRESS] + 0.5 * math.exp(was["state"][INTERVAL])
        share = 0.5 * (1.0 + math.cos(math.pi * middle))
        # Near the end, 1 + cos lost digits in single precision.
        assert rate == pytest.approx(was["rate"], rel=1e-5 if share > 0.01 else 5e-5)
        if was["loss"] is None:
            assert math.isnan(loss)
        else:
            # Of a few batches, late in a training that rounding has led elsewhere.
            assert loss == pytest.approx(was["loss"], rel=0.3)
    near = 0.5 if name == "diverging" else 0.05
    assert history["val_loss"][-1] == pytest.approx(expected["val_loss"][-1], rel=near)
