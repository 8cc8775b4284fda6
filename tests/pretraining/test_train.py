"""A policy from nothing to a file, on tasks small enough to wait for."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keras_qan import Policy, QANCallback
from keras_qan.experiments import policy as experiment
from keras_qan.observations import Generalisation, SlopeDynamics
from keras_qan.parallel import LocalExecutor, make_executor
from keras_qan.parallel.factory import count_threads
from keras_qan.parallel.processes import ProcessExecutor
from keras_qan.pretraining import held_out, policy_iteration, train
from keras_qan.pretraining.policy_iteration import KINDS, STEPS, OptimizerKind, draw_rate
from keras_qan.pretraining.populations import make_training, populations
from keras_qan.pretraining.tasks import SOURCES, TaskTemplate, draw_task
from keras_qan.storage import files

ROOT = Path(__file__).parents[2]

TINY = TaskTemplate("clusters", 5, 2, (4,), batch_size=4, num_train=40, num_validation=20)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(train, "TRAINING", (TINY,))
    monkeypatch.setattr(policy_iteration, "STEPS", (8, 12))
    monkeypatch.setattr(held_out, "CASES", ((TINY, OptimizerKind(False, 0.9, 0.0), 10, 2),))
    monkeypatch.setattr(held_out, "START_FACTORS", (0.1, 1.0))
    monkeypatch.setattr(held_out, "GRID", (0.03, 0.3))
    monkeypatch.setattr(train, "FIT_EVERY", 1)
    monkeypatch.setattr(train, "UPDATES", 2)
    # They follow from the tasks alone; compiled once, they serve all trainings of a test.
    controllers = {}
    compiled = policy_iteration.PolicyTraining.controller_for

    def controller_for(training, *key):
        if key not in controllers:
            controllers[key] = compiled(training, *key)
        return controllers[key]

    monkeypatch.setattr(policy_iteration.PolicyTraining, "controller_for", controller_for)
    monkeypatch.setattr(held_out, "tune_schedules", functools.cache(held_out.tune_schedules))


def train_here(directory, rounds, seed=3, **named):
    return train.train_policy(
        directory, rounds=rounds, evaluate_every=1, seed=seed, command="python here", **named
    )


@pytest.mark.slow
def test_a_policy_is_trained_kept_and_gone_on_with(tiny, tmp_path, monkeypatch):
    append = files.append

    def append_and_copy(path, line):
        append(path, line)
        if not (tmp_path / "b").exists():  # the directory as a kill after the first round leaves it
            shutil.copytree(tmp_path / "a", tmp_path / "b")

    monkeypatch.setattr(files, "append", append_and_copy)
    unbroken = train_here(tmp_path / "a", 2)
    with (tmp_path / "b" / "rounds.jsonl").open("a") as file:
        file.write('{"round": 2}\n')  # a round whose checkpoint was never written
    again = train_here(tmp_path / "b", 2)
    for name, array in unbroken.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    assert unbroken.provenance["score"] == again.provenance["score"]
    lines = (tmp_path / "b" / "rounds.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["round"] for row in rows] == [1, 2]
    best = min(rows, key=lambda row: row["mean"] + row["worst_tenth"])["mean"]
    assert again.provenance["score"]["mean"] == best
    assert again.provenance["command"] == "python here"
    assert QANCallback(policy=Policy.load(tmp_path / "b" / "best.qan")).explore is False
    with pytest.raises(ValueError, match=r"training with seed=3, and seed=4"):
        train_here(tmp_path / "b", 3, seed=4)
    with pytest.raises(ValueError, match=r"training with preset=transfer, and preset=scale_free"):
        train_here(tmp_path / "b", 3, preset="scale_free")


@pytest.mark.slow
def test_a_policy_is_trained_on_a_state_without_units(tiny, tmp_path):
    policy = train_here(tmp_path, 1, preset="scale_free")
    assert policy.provenance["preset"] == "scale_free"
    assert [type(part) for part in policy.settings.observations] == [SlopeDynamics, Generalisation]
    assert policy.settings.raises_by_slope is False


def test_the_worst_tenth_counts_beside_the_mean():
    # Of 21 cells the worst three.
    found = train.summarize(np.arange(21.0).reshape(7, 3))
    assert found == {"median": 10.0, "mean": 10.0, "worst_tenth": 19.0, "worst": 20.0}


@pytest.mark.slow
def test_a_worker_makes_the_populations_that_this_process_would():
    def of_two_rounds(engine):
        training = make_training(3, (TINY,))
        return [array for point in populations(training, 2, engine) for array in point]

    with ProcessExecutor(1, count_threads()) as worker:
        there = of_two_rounds(worker)
    for array, other in zip(of_two_rounds(LocalExecutor()), there, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.stress
def test_two_workers_go_on_with_what_one_began_and_one_of_them_dies(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(policy_iteration, "STEPS", STEPS)  # workers know nothing of the fixture
    monkeypatch.setattr(train, "FIT_EVERY", 3)
    append = files.append

    def append_and_copy(path, line):
        append(path, line)
        if not (tmp_path / "b").exists():  # after the first of the three rounds between two fits
            shutil.copytree(tmp_path / "a", tmp_path / "b")

    monkeypatch.setattr(files, "append", append_and_copy)
    here = train_here(tmp_path / "a", 5)
    with make_executor("local", 2) as two:

        def append_and_kill(path, line):
            append(path, line)
            if json.loads(line)["round"] == 4:
                os.kill(two.pids[0], 9)

        monkeypatch.setattr(files, "append", append_and_kill)
        there = train_here(tmp_path / "b", 5, engine=two)
    for name, array in here.arrays.items():
        np.testing.assert_array_equal(there.arrays[name], array)
    one, other = ((tmp_path / name / "rounds.jsonl").read_text() for name in "ab")
    assert len(one.splitlines()) == 5
    assert one == other


def test_workers_are_asked_for_the_rounds_that_are_next_with_the_agent_as_it_is():
    class Engine:
        is_here = False

        def map(self, calls):
            return [call.arguments for call in calls]

    agent = SimpleNamespace(parameters=lambda: {"network/0": np.ones(2)})
    training = SimpleNamespace(seed=7, rounds=2, templates=(TINY,), preset="transfer", agent=agent)
    found = populations(training, 5, Engine())
    assert [call.pop("number") for call in found] == [2, 3, 4]
    np.testing.assert_array_equal(found[0].pop("parameters")["network/0"], [1.0, 1.0])
    assert found[0] == {"seed": 7, "templates": (TINY,), "preset": "transfer"}


def test_the_experiment_trains_on_the_workers_that_its_flags_ask_for(tmp_path, monkeypatch):
    asked = []

    def train_policy(directory, *, engine, **rest):
        asked.append((engine.workers, engine.is_here, rest["rounds"]))
        return SimpleNamespace(save=lambda path: None)

    monkeypatch.setattr(experiment, "train_policy", train_policy)
    for workers in (1, 3):
        place = str(tmp_path / str(workers))
        experiment.PolicyExperiment(directory=place, rounds=9, workers=workers).run("python here")
    assert asked == [(1, True, 9), (3, False, 9)]
    with pytest.raises(ValueError, match=r"workers is 0"):
        experiment.PolicyExperiment(workers=0)
    with pytest.raises(ValueError, match=r"threads is -1"):
        experiment.PolicyExperiment(threads=-1)


def test_two_trainings_in_one_directory_are_refused(tiny, tmp_path):
    holder = (
        "import sys, time\n"
        "from keras_qan.storage.lock import Lock\n"
        "held = Lock(sys.argv[1])\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(OSError, match=rf"written to by process {other.pid}"):
                train_here(tmp_path, 1)
        finally:
            other.kill()
    assert not (tmp_path / "rounds.jsonl").exists()


def test_what_an_action_missed_is_a_share_of_what_the_task_allows():
    scores = np.array([[-2.7, -2.4], [-0.1, -0.1]])
    # 0.3 of 2.7 + 0.3 is a tenth; tanh(0.3) / 3.
    expected = [[0.0, -np.tanh(0.3) / 3], [0.0, 0.0]]
    np.testing.assert_allclose(policy_iteration.PolicyTraining.returns(scores), expected)


@pytest.mark.parametrize("source", SOURCES)
def test_a_task_follows_from_its_seed_and_is_standardised(source):
    fixed = {"digits": 64, "chains": 80}
    own = {"num_features": fixed[source], "num_outputs": 10} if source in fixed else {}
    values = {"num_features": 6, "num_outputs": 3, "hidden": (4,)} | own
    template = TaskTemplate(source, num_train=300, num_validation=100, **values)
    (train, held), (again, _) = (draw_task(template, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(train.x, again.x)
    assert (len(train.x), len(held.x)) == (300, 100)
    assert train.x.mean() == pytest.approx(0.0, abs=1e-4)
    assert train.x.std() == pytest.approx(1.0, abs=1e-3)
    if template.is_regression:
        assert train.y.shape == (300, 3)
    else:
        assert set(train.y.ravel()) <= set(range(template.num_outputs))


@pytest.mark.parametrize("kind", set(KINDS))
def test_initial_rates_reach_from_far_too_low_to_far_too_high(kind):
    rng = np.random.default_rng(0)
    rates = [draw_rate(kind, rng) for _ in range(2000)]
    low, high = policy_iteration.ADAM_RATES if kind.adaptive else policy_iteration.SGD_RATES
    gain = 0.2 if kind.is_lion else 1.0 if kind.adaptive else 1.0 - kind.momentum
    assert min(rates) == pytest.approx(low * gain, rel=0.1)
    assert max(rates) == pytest.approx(high * gain, rel=0.1)
