"""Files written before modules and classes got their present names are read, resumed, followed.

`tests/fixtures/version_0_1` was written by commit 4d6ef00. In `dqn` and `leaning`, `run` is the
directory of a run that was killed in the second epoch of its third training, and `expected` has the
records of the same run without the kill; `policy.qan` is what the agent of `dqn` had learned, and
`policy_rates.json` are the rates of a training that followed it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil

import numpy as np
import pytest
from helpers.old_run import make_task
from helpers.scripts import ROOT

from keras_qan import (
    DQN,
    CurrentLearningRate,
    Decay,
    Exploration,
    Hold,
    Learning,
    Policy,
    QANCallback,
    Raise,
    TrainingState,
)
from keras_qan.agents import ThompsonDQN
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.experiments.runner import Evaluation, Task, run_episodes
from keras_qan.storage import checkpoint, run_log

OLD = ROOT / "tests" / "fixtures" / "version_0_1"


def make_learner(kind, directory):
    """The learner of the run, as today's code writes it."""
    learning = Learning(batch_size=4, updates=1, n_step=2, warm_up=3)
    agent = DQN(
        (4,), exploration=Exploration(decisions=20), learning=learning, replay_capacity=40, seed=1
    )
    if kind == "leaning":
        agent = ThompsonDQN(agent, [math.log(0.5), 0.0, math.log(2.0)], 1)
    observations = [CurrentLearningRate(), TrainingState()]
    actions = [Decay(0.5), Hold(), Raise(2.0)]
    return QANCallback(
        directory, actions=actions, observations=observations, agent=agent, decide_every=3
    )


def assert_close(found, expected):
    """Equal but for the time that something took, numbers to single precision."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"seconds"}:
            if isinstance(other[name], str | bool | None):
                assert one[name] == other[name], name
            else:
                pair = np.array(one[name], float), np.array(other[name], float)  # None: NaN
                np.testing.assert_allclose(*pair, 1e-4, 1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dqn", "leaning"])
def test_a_run_that_was_killed_is_resumed_in_the_midst_of_a_training(kind, tmp_path):
    directory = shutil.copytree(OLD / kind / "run", tmp_path / "run")
    evaluation = Evaluation(("qan", "random"), 1)
    learner = make_learner(kind, directory)
    run_episodes(make_task(Task), learner, episodes=3, evaluation=evaluation, seed=3)
    assert learner.episodes == 3
    assert not (directory / "midway").exists()
    _, data = checkpoint.read_newest(OLD / kind / "run" / "midway", "training")
    step = data["pace"]["step"]
    for path in sorted((OLD / kind / "expected").iterdir()):
        found = run_log.read(directory, path.stem)
        expected = run_log.read(path.parent, path.stem)
        assert [r.get("step") for r in found] == [r.get("step") for r in expected]
        # Random numbers are drawn in another way since: what comes after the kill may differ.
        known = [number for number, record in enumerate(expected) if _is_before(record, step)]
        assert known or path.stem == "episodes"
        assert_close([found[n] for n in known], [expected[n] for n in known])
    trained = [r for r in run_log.read(directory, "episodes") if r["phase"] == "train"]
    assert [r["episode"] for r in trained] == [0, 1, 2]
    assert np.isfinite(trained[-1]["val_loss"])


def _is_before(record, step):
    """Whether a record is of an earlier training, or of the third one before it was killed."""
    if record["phase"] != "train":
        return False
    return record["episode"] < 2 or record.get("step", np.inf) <= step


@pytest.mark.parametrize("kind", ["dqn", "leaning"])
def test_a_run_is_loaded_without_naming_its_parts(kind):
    callback = QANCallback.load(OLD / kind / "run", explore=False)
    assert callback.episodes == 2
    expected = make_learner(kind, None).settings
    assert callback.settings.config() == expected.config()


def test_the_flags_of_a_run_are_those_of_the_run_that_resumes_it(tmp_path):
    directory = shutil.copytree(OLD / "dqn" / "run", tmp_path / "run")
    fields = {"dataset": "digits", "model": "mlp", "episodes": 5, "directory": str(directory)}
    experiment = LearningRateExperiment(**fields, learning_rate=(0.01, 0.1), resume=True)
    experiment._open(directory)
    other = LearningRateExperiment(**fields, learning_rate=(0.01, 0.2), resume=True)
    with pytest.raises(ValueError, match=r"--learning_rate=0\.01,0\.1"):
        other._open(directory)


@pytest.mark.slow
def test_a_policy_is_followed():
    task = make_task(Task)
    follower = QANCallback(policy=OLD / "policy.qan")
    history = task.build_model(9).fit(
        task.train(9), epochs=3, shuffle=False, verbose=0, validation_data=task.validation,
        callbacks=[follower],
    )  # fmt: skip
    expected = json.loads((OLD / "policy_rates.json").read_text())
    assert history.history["learning_rate"] == pytest.approx(expected)


def test_the_policy_that_ships_is_the_one_that_was_measured():
    policy = Policy.load(ROOT / "keras_qan" / "policies" / "default.qan")
    digest = hashlib.sha256()
    for name in sorted(policy.arrays):
        digest.update(policy.arrays[name].tobytes())
    assert digest.hexdigest().startswith("70bbc4161682b889")
    assert policy.provenance["score"]
