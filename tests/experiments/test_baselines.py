import dataclasses

import pytest
import tensorflow as tf

from keras_qan import QANCallback
from keras_qan.actions import Cosine, Follow, Hold, OneCycle, Restart, StepDecay, WarmRestarts
from keras_qan.agents import ConstantAgent, RandomAgent
from keras_qan.experiments import baselines
from keras_qan.qan.rewards import Equation9


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("step_decay", StepDecay),
        ("cosine", Cosine),
        ("one_cycle", OneCycle),
        ("warm_restarts", WarmRestarts),
    ],
)
def test_a_schedule_arm_follows_its_schedule_at_every_step(name, schedule):
    settings = baselines.make_baseline(name, QANCallback(), seed=0).settings
    (action,) = settings.actions
    assert type(action) is Follow
    assert type(action.schedule) is schedule
    assert type(settings.agent) is ConstantAgent
    assert settings.decide_every == 1
    # The end of a cosine lies below any bound that a learner would have.
    low, high = settings.rate_bounds
    assert low <= 1e-10
    assert high >= 1e3


def test_the_constant_arm_holds_the_rate():
    settings = baselines.make_baseline("constant", QANCallback(), seed=0).settings
    assert [type(action) for action in settings.actions] == [Hold]
    rate = tf.constant([0.3])
    assert settings.actions[0].next_rate(rate, rate, tf.constant(0.5)).numpy() == rate.numpy()


def test_the_random_arm_has_the_learners_own_choices():
    learner = QANCallback(
        actions=[Hold(), Restart()], reward=Equation9(), decide_every=7, rate_bounds=(0.1, 0.2)
    )
    settings = baselines.make_baseline("random", learner, seed=9).settings
    assert type(settings.agent) is RandomAgent
    assert settings.agent.seed == 9
    assert tuple(settings.actions) == tuple(learner.settings.actions)
    assert (settings.decide_every, settings.rate_bounds) == (7, (0.1, 0.2))
    assert type(settings.reward) is Equation9


def test_the_random_arm_of_the_shipped_policy_differs_in_agent_and_state_alone():
    learner = QANCallback()
    random = baselines.make_baseline("random", learner, seed=0).settings
    same = dataclasses.replace(
        learner.settings, agent=random.agent, observations=random.observations
    )
    assert random.config() == same.config()


def test_no_scripted_arm_writes_to_the_learners_directory(tmp_path):
    learner = QANCallback(directory=tmp_path)
    for name in set(baselines.NAMES) - {"qan"}:
        assert baselines.make_baseline(name, learner, seed=0).directory is None


def test_every_arm_has_its_name():
    baselines.check_names(baselines.NAMES)
    for name in set(baselines.NAMES) - {"qan"}:
        assert isinstance(baselines.make_baseline(name, QANCallback(), seed=0), QANCallback)


@pytest.mark.parametrize("names", [[], ["qan", "qan"]])
def test_no_arms_and_arms_named_twice_are_refused(names):
    with pytest.raises(ValueError, match="expected different names, at least one"):
        baselines.check_names(names)


def test_an_unknown_arm_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r"no arm 'cosin'. Did you mean 'cosine'\? Arms: qan"):
        baselines.check_names(["qan", "cosin"])
    with pytest.raises(ValueError, match=r"no arm 'zzz'\. Arms: qan"):
        baselines.check_names(["zzz"])
