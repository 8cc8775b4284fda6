"""The short form of tests/stress: interrupted writers, untrusted files."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.storage.lock import DirectoryInUseError, Lock
from tests.stress import fuzz, writers


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_writer_that_is_broken_off_loses_nothing_that_it_finished(tmp_path, sign):
    injected, wrong = _in_child(writers.interrupt, tmp_path / "run", 6, sign, random.Random(1))
    assert wrong == []
    assert injected[f"{sign.name} of a writer"] == 6


def test_damaged_checkpoints_are_named_and_the_one_before_is_used(tmp_path):
    injected, wrong = writers.damage_checkpoints(tmp_path, 12, random.Random(0))
    assert wrong == []
    assert sum(injected.values()) >= 11


def _in_child(function, *arguments):
    """Where no TensorFlow has begun: a process that has may not be forked."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


@pytest.mark.slow
def test_a_directory_has_one_writer_and_a_killed_one_holds_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, process = context.Event(), None
    process = context.Process(target=_hold, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(DirectoryInUseError, match=rf"written to by process {process.pid} on"):
        Lock(tmp_path)
    process.kill()
    process.join()
    with Lock(tmp_path), Lock(tmp_path):  # the same process may come again
        pass


def _hold(directory, ready):
    import time

    from keras_qan.storage.lock import Lock

    lock = Lock(directory)
    ready.set()
    time.sleep(600)
    lock.release()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["policy, small", "run", "log", "flags"])
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_strangers_file_is_loaded_or_refused_and_nothing_else(tmp_path, kind, seed):
    made = tmp_path / kind.replace(", ", "-")
    made.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fuzz.fuzz(fuzz.cases(made)[kind](), 1, random.Random(seed))
    assert found["wrong"] == []
    assert set(found["counts"]) <= {"loaded", "refused"}
    assert json.dumps(found)
