"""Hypergradients by names and numbers: flags, workers, and the script."""

from __future__ import annotations

import contextlib

import pytest
from absl import flags
from helpers.scripts import ROOT, Script

from keras_qan.experiments.flags import define_flags, from_flags
from keras_qan.experiments.hyperparameters import HyperparameterExperiment


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [("mnist_drmad", ("l2:unit",)), ("mnist_drmad_cnn", ("l2:weight", "learning_rate:layer:5"))],
)
def test_the_flag_files_are_read(name, hyperparameters):
    holder = flags.FlagValues()
    define_flags(HyperparameterExperiment, holder)
    flags.DEFINE_string("flagfile", "", "", flag_values=holder)
    holder(["script", *holder.read_flags_from_files([f"--flagfile={ROOT}/configs/{name}.flags"])])
    experiment = from_flags(HyperparameterExperiment, holder)
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


SMALL = {"steps": 12, "examples": 200, "model": "4", "hyperparameters": ("l2:unit", "momentum")}


class Elsewhere:
    """An executor whose workers make their own tuner, but in this process."""

    workers, is_here = 2, False

    def map(self, calls):
        return (call.perform() for call in calls)


@pytest.mark.slow
def test_workers_make_the_tuner_of_the_experiment(monkeypatch):
    experiment = HyperparameterExperiment(
        **SMALL, outer_steps=1, trials=3, trials_at_once=2, workers=2
    )
    here, metrics = HyperparameterExperiment(
        **SMALL, outer_steps=1, trials=3, trials_at_once=2
    ).run()
    monkeypatch.setattr(
        HyperparameterExperiment, "make_executor", lambda _: contextlib.nullcontext(Elsewhere())
    )
    tuner, found = experiment.run()
    assert [trial.value for trial in tuner.study.trials] == [t.value for t in here.study.trials]
    assert (tuner.val_loss, found) == (here.val_loss, metrics)


def arguments(folder, *more):
    return [
        "--steps=20",
        "--outer_steps=2",
        "--trials=3",
        "--trials_at_once=2",
        "--check_steps=5",
        "--hyperparameters=l2:unit,learning_rate:layer:3,momentum",
        f"--directory={folder / 'run'}",
        *more,
    ]


@pytest.mark.slow
def test_the_script_tunes_and_resumes(tmp_path):
    first = Script("tune_drmad", *arguments(tmp_path), output=tmp_path / "first.txt")
    assert first.wait() == 0, first.output
    assert "cosine" in first.output
    assert "Test: " in first.output
    flagfile = f"--flagfile={tmp_path / 'run' / 'flags.txt'}"
    again = Script("tune_drmad", flagfile, "--outer_steps=3", output=tmp_path / "again.txt")
    assert again.wait() == 0, again.output
    assert len((tmp_path / "run" / "outer_steps.jsonl").read_text().splitlines()) == 3


@pytest.mark.stress
def test_the_script_tunes_with_workers(tmp_path):
    more = ("--workers=2", "--threads=1")
    ran = Script("tune_drmad", *arguments(tmp_path, *more), output=tmp_path / "output.txt")
    assert ran.wait() == 0, ran.output
    assert "Test: " in ran.output
