"""Calls, engines by name, and what is said when something is missing."""

from __future__ import annotations

import builtins
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from keras_qan.parallel import Call, LocalExecutor, make_executor
from keras_qan.parallel.processes import ProcessExecutor


@dataclass
class Plain:
    number: int


@pytest.mark.parametrize("function", ["twice", "module:", ":name", ""])
def test_a_function_without_a_module_is_refused(function):
    with pytest.raises(ValueError, match=r"expected 'package\.module:function'"):
        Call(function)


@pytest.mark.parametrize(
    "value", [object(), lambda: 1, {1: 2}, np.array([object()]), [Plain(object())], Plain]
)
def test_what_is_no_plain_data_is_refused_where_the_task_is_made(value):
    with pytest.raises(TypeError, match=r"m:f\(x=…\) holds .*expected plain data"):
        Call("m:f", {"x": value})


def test_plain_data_may_be_nested():
    Call("m:f", {"x": [Plain(1), {"a": (None, True, "b", np.float32(1.0), np.zeros(3))}]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cluster"}, "expected one of local, ray"),
        ({"workers": 0}, "workers is 0"),
        ({"ray_address": "auto"}, "engine=ray alone"),
    ],
)
def test_unusable_engine_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_executor(**arguments)


def test_one_local_worker_is_this_process_and_more_are_processes():
    assert isinstance(make_executor("local", 1), LocalExecutor)
    assert isinstance(
        make_executor("local", 3), ProcessExecutor
    )  # none is started before a task is


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    importing = builtins.__import__

    def without_ray(name, *rest):
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ImportError, match=r"pip install 'keras-qan\[ray\]'.*engine=local"):
        make_executor("ray", 2)


def test_ray_and_tensorflow_are_not_imported_before_they_are_needed():
    code = (
        "import sys, keras_qan.parallel.processes; "
        "sys.exit(bool({'ray', 'tensorflow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
