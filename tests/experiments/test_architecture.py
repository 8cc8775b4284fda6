"""The search of architectures by names and numbers, and its report."""

from __future__ import annotations

import io

import pytest
from helpers.scripts import ROOT, parse
from rich.console import Console

from keras_qan.experiments.architecture import ArchitectureExperiment
from keras_qan.experiments.tables import print_search
from keras_qan.metaqnn import EpsilonSchedule, Space


def test_the_papers_flag_file_is_the_papers_experiment():
    path = ROOT / "configs" / "cifar10_metaqnn_paper.flags"
    found = parse(ArchitectureExperiment, f"--flagfile={path}")
    assert found.architectures() == Space.paper(18)
    assert found.learning().epsilon == EpsilonSchedule.paper()
    assert found.models == 2700
    assert (found.alpha, found.gamma, found.initial_value) == (0.01, 1.0, 0.5)
    assert found.validation_examples == 5000
    recipe = found.recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (20, 128, 5e-4)
    assert [rate for rate, _ in recipe.stages] == pytest.approx([1e-3, 2e-4, 4e-5, 8e-6])
    assert (recipe.mirror, recipe.dropout, recipe.restart_after) == (True, True, 1)
    assert (found.retrain, found.ensemble, found.final) == (10, 5, "paper")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"space": "huge"}, "small_images"),
        ({"models": 0}, "models is 0"),
        ({"retrain": 2, "ensemble": 5}, "ensemble is 5"),
        ({"final": "none"}, "final is 'none'"),
        ({"max_parameters": -1}, "max_parameters is -1"),
        ({"alpha": 0.0}, "learning_rate is 0.0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_flags_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        ArchitectureExperiment(**arguments)


@pytest.mark.stress
def test_a_search_on_digits_from_the_first_model_to_the_table(tmp_path):
    experiment = ArchitectureExperiment(
        directory=str(tmp_path / "run"), models=2, epochs=1, restart_after=0, retrain=2, ensemble=2,
        max_parameters=5000, train_fraction=0.2,
    )  # fmt: skip
    report = experiment.run()
    assert len(report.architectures) == len(report.test_accuracies) == 2
    assert 0.0 <= report.ensemble_accuracy <= 1.0
    console = Console(file=io.StringIO(), width=132)
    print_search(console, report)
    printed = console.file.getvalue()
    assert "the ensemble of these" in printed
    assert report.architectures[0] in printed
