"""What is missing is said in one sentence, with the command that brings it."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import keras_qan.data
from keras_qan.agents import tf_agents
from keras_qan.utils import backend

ROOT = Path(__file__).parents[2]


def without(monkeypatch, package):
    """Let `package` be imported by nobody within the test."""
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def test_a_data_set_names_the_extra(monkeypatch):
    without(monkeypatch, "tensorflow_datasets")
    monkeypatch.delitem(sys.modules, "keras_qan.data.tfds", raising=False)
    if "tfds" in vars(keras_qan.data):
        monkeypatch.delattr(keras_qan.data, "tfds")
    with pytest.raises(ImportError, match=r"data\.load needs .*'keras-qan\[data\]'"):
        keras_qan.data.load("mnist")


def test_a_figure_names_the_extra(monkeypatch):
    from keras_qan import plots

    without(monkeypatch, "matplotlib")
    for name in ("figures", "rally", "search"):
        monkeypatch.delitem(sys.modules, f"keras_qan.plots.{name}", raising=False)
        if name in vars(plots):
            monkeypatch.delattr(plots, name)
    with pytest.raises(ImportError, match=r"draw_rally needs matplotlib.*'keras-qan\[plots\]'"):
        plots.draw_rally  # noqa: B018


def test_work_that_ends_with_figures_goes_on_without_them():
    from keras_qan import plots

    def draw():
        with backend.needs_extra("keras_qan.plots.draw", "plots"):
            raise ImportError("No module named 'matplotlib'", name="matplotlib")

    with pytest.warns(UserWarning, match=r"No figures are drawn: .*'keras-qan\[plots\]'"):
        assert plots.draw_if_possible(draw) == []
    assert plots.draw_if_possible(lambda: [ROOT]) == [ROOT]


@pytest.mark.parametrize(("version", "more"), [((3, 11), False), ((3, 12), True), ((3, 13), True)])
def test_learning_names_the_command_of_this_python(monkeypatch, version, more):
    monkeypatch.setattr(sys, "version_info", version)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tf_agents" else find(name)
    )
    with pytest.raises(ImportError, match=r"lacks tf_agents.*'keras-qan\[learn\]'") as caught:
        tf_agents.require_tf_agents()
    assert ("--no-deps tf-agents==0.19.0" in str(caught.value)) is more


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 14, 0)])
def test_another_python_is_refused(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(RuntimeError, match=r"needs Python 3\.10 to 3\.13"):
        backend.require_python()


@pytest.mark.slow
def test_the_import_loads_nothing_and_no_backend_is_one_sentence():
    code = """
import sys
for name in ("tensorflow", "jax", "torch"):
    sys.modules[name] = None
import keras_qan
assert "keras" not in sys.modules and "numpy" not in sys.modules
try:
    keras_qan.QANCallback
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "Install a backend" in done.stdout
    assert "keras-qan[tensorflow]" in done.stdout
