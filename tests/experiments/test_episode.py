"""Episodes that workers run: evaluated the same whatever their number, learned from in order."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading

import numpy as np
import pytest
from helpers.runs import assert_same_run, learner, make_task, records

from keras_qan.experiments.episode import _digest
from keras_qan.experiments.runner import Evaluation, run_episodes
from keras_qan.parallel import Call, TaskError, make_executor

RANDOM = Evaluation(("random",), 1)


@pytest.fixture(scope="module")
def two():
    with make_executor("local", 2) as executor:
        yield executor


@pytest.fixture(scope="module")
def rounds(two, tmp_path_factory):
    """Directory and learner of a run of two rounds, each of two episodes."""
    directory = tmp_path_factory.mktemp("rounds")
    found = learner(directory)
    run_episodes(make_task(), found, episodes=4, evaluation=RANDOM, engine=two)
    return directory, found


@pytest.mark.stress
def test_an_evaluation_is_the_same_whatever_the_number_of_workers(tmp_path, two):
    task = make_task()
    options = {"episodes": 0, "evaluation": Evaluation(("qan", "random"), seeds=2)}
    run_episodes(task, learner(tmp_path / "here"), **options)
    run_episodes(task, learner(tmp_path / "two"), engine=two, **options)
    assert_same_run(tmp_path / "here", tmp_path / "two")


@pytest.mark.stress
def test_ray_gives_the_same_evaluation_and_the_same_episode_as_processes(tmp_path, rounds):
    pytest.importorskip("ray", reason="Ray is an extra: pip install -e .[ray]")
    with make_executor("ray", 1) as engine:
        run_episodes(make_task(), learner(tmp_path), episodes=1, evaluation=RANDOM, engine=engine)
    for file in ("decisions", "epochs", "episodes"):
        # The other episodes of its first round are of other streams.
        expected = [r for r in records(rounds[0], file) if r["episode"] == 0]
        assert records(tmp_path, file) == expected


@pytest.mark.stress
def test_learning_in_rounds_is_the_same_after_a_kill_and_with_workers_that_die(
    tmp_path, two, rounds
):
    task, (whole, learned) = make_task(), rounds
    options = {"evaluation": RANDOM, "engine": two}
    before = learned.agent.arrays()
    assert before["replay/written"] == sum(r["decisions"] for r in records(whole)[:4])
    assert before["counters/1"] == before["replay/written"]  # ε goes on falling
    # Killed between two rounds' checkpoints: the records of a half round are there.
    run_episodes(task, learner(tmp_path), episodes=2, **options)
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write(json.dumps(records(whole)[2]) + "\n")
    killer = threading.Timer(0.5, lambda: os.kill(two.pids[0], signal.SIGKILL))
    killer.start()
    again = learner(tmp_path)
    run_episodes(task, again, episodes=4, **options)
    killer.join()
    order = [record["phase"] for record in records(tmp_path)]
    assert sorted(order) == ["evaluate"] + ["train"] * 4
    for name, array in again.agent.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.slow
def test_episodes_of_a_round_explore_by_numbers_of_their_own(rounds):
    chosen = {number: [] for number in range(4)}
    for record in records(rounds[0], "decisions"):
        if record["phase"] == "train":
            chosen[record["episode"]].append(record["action_index"])
            assert record["episode"] > 1 or record["epsilon"] > 0.4
    assert chosen[0] != chosen[1]
    assert chosen[2] != chosen[3]


def test_a_task_that_no_worker_can_make_is_refused(tmp_path):
    nameless = dataclasses.replace(make_task(), source=None)
    with make_executor("local", 2) as engine, pytest.raises(ValueError, match="has no source"):
        run_episodes(nameless, learner(tmp_path), episodes=1, engine=engine)


@pytest.mark.slow
def test_what_a_worker_raises_reaches_the_user_and_the_run_resumes_without_it(tmp_path, two):
    task = make_task()
    odd = Call("helpers.runs:learner", {"directory": None})
    with pytest.raises(TaskError, match=r"TypeError: helpers.runs:learner returned .*expected"):
        run_episodes(
            dataclasses.replace(task, source=odd), learner(tmp_path), episodes=2, engine=two
        )
    run_episodes(task, learner(tmp_path), episodes=0, evaluation=Evaluation(("constant",), 1))
    assert len(records(tmp_path)) == 1


def test_runners_are_told_apart_by_all_that_they_are_made_from():
    @dataclasses.dataclass
    class Part:
        size: int = 1

    numbers = np.arange(4, dtype=np.float32)
    values = [
        {}, {"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": b"1"},
        {"a": Part()}, {"a": Part(2)}, {"a": {"size": 1}}, {"a": np.float32(1)},
        {"a": numbers}, {"a": numbers + 1}, {"a": numbers.reshape(2, 2)},
        {"a": numbers.view(np.int32)},
    ]  # fmt: skip
    digests = {_digest([Call("m:f", value), 0]) for value in values}
    assert len(digests) == len(values)
    assert _digest([Call("m:f", {"a": numbers.copy()}), 0]) in digests
