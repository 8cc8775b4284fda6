import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from keras_qan import drmad
from keras_qan.drmad.figures import penalty_images, rates_by_layer
from keras_qan.drmad.losses import ExampleLoss
from keras_qan.drmad.model_info import ModelInfo
from keras_qan.experiments.hyperparameters import HyperparameterExperiment
from keras_qan.plots import tuning

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def facts(input_shape, shapes):
    return ModelInfo(
        paths=("a/kernel", "b/kernel"),
        shapes=shapes,
        layers=("a", "b"),
        layer_of=(0, 1),
        dtype=tf.float64,
        input_shape=input_shape,
        num_examples=3,
        num_classes=2,
        loss=ExampleLoss("mse"),
        learning_rate=0.1,
        momentum=0.9,
    )


@pytest.mark.parametrize("input_shape", [(2, 3, 1), (2, 3)])
def test_penalties_of_units_are_the_pixels_in_their_places(input_shape):
    own = facts(input_shape, ((6, 4), (4, 2)))
    value = np.arange(1.0, 11.0)
    images = penalty_images([drmad.L2("unit")], {"l2": value}, own)
    np.testing.assert_allclose(images["l2"], [[1, 2, 3], [4, 5, 6]])


def test_penalties_of_weights_and_channels_are_averaged_geometrically():
    own = facts((2, 2, 2), ((8, 2), (2, 2)))
    value = np.array([1.0, 4.0] * 8 + [1.0] * 4)
    images = penalty_images([drmad.L2("weight")], {"l2": value}, own)
    np.testing.assert_allclose(images["l2"], np.full((2, 2), 2.0))


@pytest.mark.parametrize(
    ("input_shape", "shapes", "per"),
    [
        ((4,), ((4, 2), (2, 2)), "layer"),
        ((5,), ((5, 2), (2, 2)), "unit"),
        ((2, 2, 1), ((3, 3, 1, 2), (8, 2)), "unit"),
        (None, ((4, 2), (2, 2)), "unit"),
    ],
)
def test_what_is_no_image_is_not_drawn(input_shape, shapes, per):
    own = facts(input_shape, shapes)
    penalty = drmad.L2(per)
    assert penalty_images([penalty], {"l2": np.ones(penalty.shape(own))}, own) == {}


def test_a_flat_input_may_be_a_square_image():
    own = facts((4,), ((4, 2), (2, 2)))
    images = penalty_images([drmad.L1("unit")], {"l1": np.arange(1.0, 7.0)}, own)
    np.testing.assert_allclose(images["l1"], [[1, 2], [3, 4]])


def test_rates_are_named_by_layer():
    own = facts((4,), ((4, 2), (2, 2)))
    value = np.array([[0.1, 0.2], [0.3, 0.4]])
    found = rates_by_layer([drmad.LearningRate(schedule_points=2)], {"rate": value}, own)
    assert {layer: line.tolist() for layer, line in found.items()} == {
        "a": [0.1, 0.2],
        "b": [0.3, 0.4],
    }


def test_figures_show_what_they_are_given():
    figure = tuning.losses_figure({"one": [[3.0, 2.0, 1.0], [5.0, 4.0]], "two": [[2.0, 2.0]]})
    lines = figure.axes[0].get_lines()
    strong = [line for line in lines if line.get_linewidth() == 2]
    assert [line.get_label() for line in strong] == ["one (2)", "two (1)"]
    np.testing.assert_allclose(strong[0].get_ydata(), [4.0, 3.0])
    assert len(tuning.penalties_figure({"a": np.ones((2, 2)), "b": np.eye(2) + 1}).axes) == 4
    rates = tuning.rates_figure(np.array([0.0, 1.0]), {"a": np.array([0.1, 0.2])})
    np.testing.assert_allclose(rates.axes[0].get_lines()[0].get_ydata(), [0.1, 0.2])


def script():
    spec = importlib.util.spec_from_file_location("tune_drmad", ROOT / "scripts/tune_drmad.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [("mnist_drmad", ("l2:unit",)), ("mnist_drmad_cnn", ("l2:weight", "learning_rate:layer:5"))],
)
def test_the_flag_files_are_read(name, hyperparameters):
    holder = flags.FlagValues()
    module = script()
    module.define_flags(holder)
    flags.DEFINE_string("flagfile", "", "", flag_values=holder)
    holder(["script", *holder.read_flags_from_files([f"--flagfile={ROOT}/configs/{name}.flags"])])
    experiment = module.experiment_from_flags(holder)
    assert experiment.hyperparameters == hyperparameters
    assert experiment.dataset == "mnist"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hyperparameters": ("l3:unit",)}, "holds 'l3:unit'; expected kind"),
        ({"hyperparameters": ("l2:unit:3",)}, "for learning_rate or momentum"),
        ({"hyperparameters": ("learning_rate:layer:many",)}, "whole number of schedule points"),
        ({"hyperparameters": ("label_smoothing:class",)}, "holds 'label_smoothing:class'"),
        ({"outer_steps": -1}, "outer_steps is -1"),
        ({"workers": 2}, r"workers is 2 with trials=0 and trials_at_once=1; expected no more"),
        ({"workers": 3, "trials": 9, "trials_at_once": 2}, "Give --trials_at_once=3"),
        ({"workers": 0}, "workers is 0; expected at least 1"),
        ({"engine": "slurm"}, "engine is 'slurm'"),
        ({"ray_address": "auto"}, "an address with ray alone"),
        ({"initial_deviation": -1.0}, "initial_deviation is -1.0"),
    ],
)
def test_flags_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        HyperparameterExperiment(**changes)


@pytest.mark.slow
def test_the_script_tunes_and_goes_on(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "scripts/tune_drmad.py"),
        "--steps=20",
        "--outer_steps=2",
        "--trials=3",
        "--trials_at_once=2",
        "--workers=2",
        "--threads=1",
        "--check_steps=5",
        "--hyperparameters=l2:unit,learning_rate:layer:3,momentum",
        f"--directory={tmp_path / 'run'}",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "cosine" in ran.stdout
    assert "Test: " in ran.stdout
    again = [
        command[0],
        command[1],
        f"--flagfile={tmp_path / 'run' / 'flags.txt'}",
        "--outer_steps=3",
    ]
    ran = subprocess.run(again, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert len((tmp_path / "run" / "outer_steps.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_importing_the_room_loads_neither_optuna_nor_matplotlib():
    code = (
        "import sys; from keras_qan import drmad; drmad.Tuner;"
        "print([m in sys.modules for m in ('optuna', 'keras_qan.plots.figures', 'tf_agents')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert ran.stdout.split("\n")[0] == "[False, False, False]"
