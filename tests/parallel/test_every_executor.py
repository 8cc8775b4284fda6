"""Contract of every executor."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_qan.parallel import Call, TaskError, WorkerDiedError, make_executor
from keras_qan.parallel.worker_pool import ATTEMPTS

TASKS = "helpers.executor_tasks"


@pytest.fixture(
    scope="module",
    params=[
        ("local", 1),
        pytest.param(("local", 2), marks=pytest.mark.slow),
        pytest.param(("ray", 2), marks=pytest.mark.slow),
    ],
    ids=["here", "processes", "ray"],
)
def engine(request):
    name, workers = request.param
    if name == "ray":
        pytest.importorskip("ray", reason="Ray is an extra: pip install -e .[ray]")
    with make_executor(name, workers) as found:
        yield found


@pytest.fixture
def many(engine):
    if engine.is_here:
        pytest.skip("a task that kills its process would kill this one")
    return engine


def twice(*values, seconds=()):
    waits = [*seconds, *[0.0] * len(values)]
    return [
        Call(f"{TASKS}:twice", {"value": value, "seconds": wait})
        for value, wait in zip(values, waits, strict=False)
    ]


def test_results_come_in_the_order_of_the_tasks_however_long_each_takes(engine):
    calls = twice(*range(6), seconds=[0.3, 0.0, 0.1])
    assert list(engine.map(calls)) == [0, 2, 4, 6, 8, 10]


def test_arrays_and_nested_data_go_there_and_back_bit_for_bit(engine):
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    (found,) = engine.map(twice(array))
    assert (found.dtype, found.tobytes()) == (array.dtype, (array * 2).tobytes())
    (lists,) = engine.map(twice([{"a": None}, "text"]))
    assert lists == [{"a": None}, "text"] * 2


def test_no_tasks_are_no_results(engine):
    assert list(engine.map([])) == []


def test_a_task_that_raises_says_so_with_its_own_message_after_the_results_before_it(engine):
    results = engine.map([*twice(1), Call(f"{TASKS}:refuse", {"value": 7}), *twice(2)])
    assert next(results) == 2
    with pytest.raises(TaskError, match=r"Task 1 .*refuse.*ValueError: 7 is not what I take"):
        next(results)
    # The engine is as good as before.
    assert list(engine.map(twice(5))) == [10]


def test_a_function_that_no_worker_can_import_is_named(engine):
    with pytest.raises(TaskError, match=r"cannot find 'nowhere:nothing'.*PYTHONPATH"):
        list(engine.map([Call("nowhere:nothing")]))


def test_results_that_are_not_asked_for_leave_nothing_behind(engine):
    results = engine.map(twice(*range(5)))
    assert next(results) == 0
    results.close()
    assert list(engine.map(twice(3, 4))) == [6, 8]


def test_a_task_whose_worker_died_is_done_by_another(many, tmp_path):
    arguments = [{"notes": str(tmp_path), "number": n, "times": n % 2} for n in range(4)]
    calls = [Call(f"{TASKS}:die", each) for each in arguments]
    assert list(many.map(calls)) == [0, 1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.txt", "3.txt"]


def test_a_task_that_always_kills_its_worker_is_given_up_and_the_others_are_done(many, tmp_path):
    deadly = Call(f"{TASKS}:die", {"notes": str(tmp_path), "number": 9, "times": 99})
    results = many.map([*twice(1, 2), deadly])
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(WorkerDiedError, match=r"Task 2 .*died each time.*workers"):
        next(results)
    assert len((tmp_path / "9.txt").read_text()) == ATTEMPTS
    assert list(many.map(twice(3))) == [6]


def test_a_worker_killed_from_outside_costs_nothing_but_time(many):
    results = many.map(twice(*range(8), seconds=[0.2] * 8))
    assert next(results) == 0
    os.kill(many.pids[0], 9)
    assert list(results) == [2, 4, 6, 8, 10, 12, 14]


def test_a_worker_that_dies_idle_while_another_works_is_replaced(many):
    list(many.map(twice(1, 2, seconds=[0.3, 0.3])))  # both are there
    results = many.map([Call(f"{TASKS}:pid"), *twice(2, seconds=[1.0])])
    os.kill(next(results), 9)
    assert list(results) == [4]
    assert list(many.map(twice(1, 2, 3))) == [2, 4, 6]


def test_there_are_as_many_workers_as_asked_for(many):
    pids = set(many.map([Call(f"{TASKS}:pid") for _ in range(8)]))
    assert len(pids) <= many.workers
    assert os.getpid() not in pids


def test_workers_compute_with_as_many_threads_as_this_process(many):
    here = tf.config.threading.get_intra_op_parallelism_threads()
    expected = here or len(os.sched_getaffinity(0))
    assert list(many.map([Call(f"{TASKS}:threads")])) == [expected]


def test_a_worker_in_the_middle_of_a_task_does_not_outlive_its_engine(many, tmp_path, monkeypatch):
    note = tmp_path / "pid.txt"
    waited = many.wait

    def wait():
        if note.exists() and note.read_text():
            raise KeyboardInterrupt
        return waited()

    monkeypatch.setattr(many, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        list(many.map([Call(f"{TASKS}:wait_for_ever", {"note": str(note)})]))
    worker = int(note.read_text())
    for _ in range(100):
        if not os.path.exists(f"/proc/{worker}"):
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} is still there")
