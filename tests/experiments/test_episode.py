"""Episodes that workers play: evaluated the same whatever their number, learned from in order."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading

import numpy as np
import pytest
from helpers.runs import learner, make_task
from test_midway import assert_same_run, records

from keras_qan.experiments.runner import Evaluation, run_episodes
from keras_qan.parallel import Call, TaskError, make_executor

EVALUATION = Evaluation(("qan", "random", "cosine"), seeds=2)


@pytest.fixture(scope="module")
def two():
    with make_executor("local", 2) as engine:
        yield engine


@pytest.mark.slow
def test_an_evaluation_is_the_same_whatever_the_number_of_workers(tmp_path, two):
    task = make_task()
    options = {"episodes": 0, "evaluation": EVALUATION}
    run_episodes(task, learner(tmp_path / "here"), **options)
    run_episodes(task, learner(tmp_path / "two"), engine=two, **options)
    assert_same_run(tmp_path / "here", tmp_path / "two")


@pytest.mark.slow
def test_ray_gives_the_same_evaluation_and_the_same_learning_as_processes(tmp_path, two):
    pytest.importorskip("ray", reason="Ray is an extra: pip install -e .[ray]")
    options = {"episodes": 3, "evaluation": Evaluation(("qan", "random"), 1)}
    local, ray = learner(tmp_path / "local"), learner(tmp_path / "ray")
    run_episodes(make_task(), local, engine=two, **options)
    with make_executor("ray", 2) as engine:
        run_episodes(make_task(), ray, engine=engine, **options)
    assert_same_run(tmp_path / "local", tmp_path / "ray", (local, ray))


@pytest.mark.slow
def test_learning_in_rounds_is_the_same_after_a_kill_and_with_workers_that_die(tmp_path, two):
    task = make_task()
    options = {"evaluation": Evaluation(("random",), 1), "engine": two}
    whole, broken = learner(tmp_path / "whole"), learner(tmp_path / "broken")
    run_episodes(task, whole, episodes=6, **options)
    before = whole.agent.arrays()
    assert before["replay/written"] == sum(r["decisions"] for r in records(tmp_path / "whole")[:6])
    assert before["counters/1"] == before["replay/written"]  # ε goes on falling
    # Killed between two rounds' checkpoints: the records of a half round are there.
    run_episodes(task, broken, episodes=4, **options)
    path = tmp_path / "broken" / "episodes.jsonl"
    half = records(tmp_path / "whole")[4]
    import json

    with path.open("a") as file:
        file.write(json.dumps(half) + "\n")
    killer = threading.Timer(0.5, lambda: os.kill(two.pids[0], signal.SIGKILL))
    killer.start()
    again = learner(tmp_path / "broken")
    run_episodes(task, again, episodes=6, **options)
    killer.join()
    order = [r["phase"] for r in records(tmp_path / "broken")]
    assert sorted(order) == ["evaluate"] + ["train"] * 6
    for name, array in again.agent.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.slow
def test_episodes_of_a_round_explore_by_numbers_of_their_own(tmp_path, two):
    run_episodes(
        make_task(epochs=4),
        learner(tmp_path, decide_every=3),
        episodes=2,
        evaluation=Evaluation(("constant",), 1),
        engine=two,
    )
    chosen = {0: [], 1: []}
    for record in records(tmp_path, "decisions"):
        if record["phase"] == "train":
            chosen[record["episode"]].append(record["action_index"])
            assert record["epsilon"] > 0.4
    assert chosen[0] != chosen[1]


def test_a_task_that_no_worker_can_make_is_refused(tmp_path):
    nameless = dataclasses.replace(make_task(), source=None)
    with make_executor("local", 2) as engine, pytest.raises(ValueError, match="has no source"):
        run_episodes(nameless, learner(tmp_path), episodes=1, engine=engine)


@pytest.mark.slow
def test_what_a_worker_raises_reaches_the_user_and_the_run_goes_on_without_it(tmp_path, two):
    task = make_task()
    odd = Call("helpers.runs:learner", {"directory": None})
    with pytest.raises(TaskError, match=r"TypeError: helpers.runs:learner returned .*expected"):
        run_episodes(
            dataclasses.replace(task, source=odd), learner(tmp_path), episodes=2, engine=two
        )
    run_episodes(task, learner(tmp_path), episodes=1, evaluation=Evaluation(("random",), 1))
    assert len(records(tmp_path)) == 2
