"""Averages by Optuna, then the descent."""

import logging
import sys

import pytest
from drmad.small import batches, build, data

from keras_qan import drmad

optuna = pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def quiet():
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    yield
    optuna.logging.set_verbosity(level)


def search(hyperparameters=None, **options):
    return drmad.search_then_descend(
        build,
        batches(*data()),
        data(seed=1),
        hyperparameters or [drmad.L2(per="weight"), drmad.LearningRate()],
        training=drmad.Training(steps=20),
        **options,
    )


@pytest.mark.slow
def test_the_descent_begins_at_the_best_average_and_a_killed_search_goes_on(tmp_path, monkeypatch):
    measured = drmad.Tuner.evaluate
    calls = []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measured(self, *arguments)

    monkeypatch.setattr(drmad.Tuner, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        search(directory=tmp_path, trials=6, outer_steps=3)
    assert (tmp_path / "averages.db").exists()
    monkeypatch.setattr(drmad.Tuner, "evaluate", measured)
    tuner = search(directory=tmp_path, trials=6, outer_steps=3)
    ended = [t for t in tuner.study.trials if t.state.is_finished()]
    assert 6 <= len(ended) <= 7
    assert tuner.history[0]["val_loss"] == pytest.approx(tuner.study.best_value, rel=1e-9)
    assert tuner.val_loss <= tuner.study.best_value
    assert len(tuner.history) == 3
    means = tuner.history[0]["hyperparameters"]["L2(per='weight')"]
    assert means["min"] == pytest.approx(means["max"])
    # Everything is done: a third call trains nothing.
    monkeypatch.setattr(drmad.Tuner, "_outer_step", None)
    assert search(directory=tmp_path, trials=6, outer_steps=3).val_loss == tuner.val_loss


@pytest.mark.slow
def test_the_study_can_be_kept_elsewhere_and_trials_are_pruned(tmp_path):
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    never = optuna.pruners.ThresholdPruner(upper=0.0)
    with pytest.raises(drmad.DivergedError, match="All 2 trials diverged or were pruned"):
        search(storage=url, trials=2, pruner=never)
    states = [t.state for t in optuna.load_study(study_name="averages", storage=url).trials]
    assert states == [optuna.trial.TrialState.PRUNED] * 2


def test_too_many_averages_are_refused():
    with pytest.raises(ValueError, match=r"21 hyperparameters with averages .* 1 to 20"):
        search([drmad.L2() for _ in range(21)])
    with pytest.raises(ValueError, match=r"0 hyperparameters with averages"):
        search([drmad.LossWeights()])
    with pytest.raises(ValueError, match="trials=0"):
        search(trials=0)


def test_without_optuna_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install keras-qan\[optuna\]"):
        search()
