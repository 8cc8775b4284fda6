"""Modules that a guide or a docstring of the version before named are importable by those names."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import keras_qan

#: Former name → its present home and name.
FORMER = {
    "episodes.Evaluation": "experiments.runner.Evaluation",
    "episodes.FIRST_UNSEEN_SEED": "experiments.runner.FIRST_UNSEEN_SEED",
    "episodes.Report": "experiments.runner.RunReport",
    "episodes.Stopped": "storage.signals.Stopped",
    "episodes.Task": "experiments.task.Task",
    "episodes.run_episodes": "experiments.runner.run_episodes",
    "engine.Call": "parallel.call.Call",
    "engine.ENGINES": "parallel.factory.EXECUTORS",
    "engine.Engine": "parallel.call.Executor",
    "engine.Local": "parallel.local.LocalExecutor",
    "engine.TaskError": "parallel.call.TaskError",
    "engine.WorkerDiedError": "parallel.call.WorkerDiedError",
    "engine.engine_by_name": "parallel.factory.make_executor",
    "engine.set_threads": "parallel.factory.set_threads",
    "registry.configurable": "storage.serialization.configurable",
    "registry.from_config": "storage.serialization.from_config",
    "registry.is_configurable": "storage.serialization.is_configurable",
    "registry.to_config": "storage.serialization.to_config",
    "callback.QANCallback": "qan.callback.QANCallback",
    "checkpoint.CheckpointError": "storage.checkpoint.CheckpointError",
    "checkpoint.read": "storage.checkpoint.read",
    "checkpoint.read_newest": "storage.checkpoint.read_newest",
    "checkpoint.series": "storage.checkpoint.series",
    "checkpoint.write": "storage.checkpoint.write",
    "checkpoint.write_next": "storage.checkpoint.write_next",
    "policy.Policy": "qan.policy.Policy",
    "policy.shipped": "qan.policy.shipped",
    "rewards.Equation9": "qan.rewards.Equation9",
    "rewards.LogLossDrop": "qan.rewards.LogLossDrop",
    "rewards.Reward": "qan.rewards.Reward",
    "experiment.Experiment": "experiments.learning_rate.LearningRateExperiment",
    "presets.NAMES": "qan.presets.NAMES",
    "presets.by_name": "qan.presets.by_name",
    "presets.default": "qan.presets.default",
    "presets.paper": "qan.presets.paper",
    "presets.transfer": "qan.presets.transfer",
    "presets.with_selection": "qan.presets.with_selection",
    "arms.NAMES": "experiments.baselines.NAMES",
    "arms.check_names": "experiments.baselines.check_names",
    "arms.scripted": "experiments.baselines.make_baseline",
    "comparison.compare": "experiments.statistics.compare",
    "comparison.interval": "experiments.statistics.interval",
    "comparison.steps_to": "experiments.statistics.steps_to",
    "task.Task": "experiments.task.Task",
    "rally.networks.layer_names": "models.plain.layer_names",
    "rally.networks.network": "models.plain.network",
}


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_leads_to_the_present_one_with_a_warning(former):
    module, _, name = former.rpartition(".")
    home, _, present = FORMER[former].rpartition(".")
    # Each name warns once in a process.
    importlib.import_module(f"keras_qan.{module}").__getattr__.cache_clear()
    with pytest.warns(DeprecationWarning, match=f"keras_qan.{module}.{name} is now keras_qan."):
        found = getattr(importlib.import_module(f"keras_qan.{module}"), name)
    assert found is getattr(importlib.import_module(f"keras_qan.{home}"), present)


def test_every_former_module_is_among_them():
    folder = Path(keras_qan.__file__).parent / "_moved"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {name.partition(".")[0] for name in FORMER if not name.startswith("rally")}


@pytest.mark.slow
def test_the_snippets_of_the_former_guides_go_on_working():
    code = (
        "from keras_qan.engine import Call, engine_by_name\n"
        "from keras_qan.episodes import Task, run_episodes\n"
        "from keras_qan.registry import configurable\n"
        "from keras_qan import QANCallback, LearningRate, actions, presets\n"
        "presets.default()\n"
        "with engine_by_name('local') as engine:\n"
        "    print(list(engine.map([Call('builtins:dict', {'a': 1})])))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning:__main__", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "[{'a': 1}]\n"
    told = [line for line in ran.stderr.splitlines() if "is now keras_qan." in line]
    assert len(told) == 7
    assert all(line.startswith("<string>:") for line in told)


def test_a_name_that_never_was_is_missing():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = keras_qan.Nothing
    with pytest.raises(ImportError):
        importlib.import_module("keras_qan.nothing")
