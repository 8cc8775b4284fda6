"""Averages by Optuna, then the descent."""

import logging
import sys

import numpy as np
import pytest
from helpers.drmad_cases import averages, batches, build, data

from keras_qan import drmad
from keras_qan.drmad import search as search_module
from keras_qan.parallel import Call, make_executor

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
        hyperparameters or averages(),
        training=drmad.Training(steps=8),
        **options,
    )


def trials_of(tuner):
    """Everything that a trial is, but for when and where it was trained."""
    return [
        (t.number, t.state.name, t.params, t.value, t.intermediate_values)
        for t in tuner.study.trials
    ]


@pytest.mark.slow
def test_each_trial_is_told_when_asked(capsys):
    tuner = search(trials=2, outer_steps=0, verbose=2)
    expected = [f"trial {n}: complete, validation loss {loss:.4g}" for n, loss in enumerate(
        trial.value for trial in tuner.study.trials
    )]  # fmt: skip
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("trials: 0 of 2, ")
    assert [line for line in told if line.startswith("trial ")] == expected


@pytest.mark.slow
def test_the_descent_begins_at_the_best_average_and_a_killed_search_goes_on(tmp_path, monkeypatch):
    measured = drmad.Tuner.evaluate
    calls = []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measured(self, *arguments)

    monkeypatch.setattr(drmad.Tuner, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        search(directory=tmp_path, trials=3, outer_steps=2)
    assert (tmp_path / "averages.db").exists()
    monkeypatch.setattr(drmad.Tuner, "evaluate", measured)
    tuner = search(directory=tmp_path, trials=3, outer_steps=2)
    assert [t.state.is_finished() for t in tuner.study.trials] == [True] * 3
    assert trials_of(tuner) == trials_of(search(trials=3, outer_steps=0))
    assert tuner.history[0]["val_loss"] == pytest.approx(tuner.study.best_value, rel=1e-9)
    assert tuner.val_loss <= tuner.study.best_value
    assert len(tuner.history) == 2
    means = tuner.history[0]["hyperparameters"]["L2(per='weight')"]
    assert means["min"] == pytest.approx(means["max"])
    # Everything is done: a third call trains nothing.
    monkeypatch.setattr(drmad.Tuner, "_outer_step", None)
    assert search(directory=tmp_path, trials=3, outer_steps=2).val_loss == tuner.val_loss


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
    with pytest.raises(ValueError, match="trials is 0; expected at least 1"):
        search(trials=0)


def test_without_optuna_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-qan\[optuna\]'"):
        search()


class Worker:
    """An engine whose workers are elsewhere, but for the tests here; it notes what it was given."""

    workers, is_here = 2, False

    def __init__(self):
        self.given = []

    def map(self, calls):
        self.given.append([call.arguments["params"] for call in calls])
        for call in calls:
            yield call.perform()


SOURCE = Call("helpers.drmad_cases:averages_tuner", {})


@pytest.mark.stress
def test_trials_are_the_same_for_any_workers_and_after_a_kill(tmp_path, monkeypatch):
    options = {"trials": 7, "trials_at_once": 3, "outer_steps": 1}
    here = search(**options)
    worker = Worker()
    elsewhere = search(engine=worker, source=SOURCE, **options)
    assert [len(batch) for batch in worker.given] == [3, 3, 1]
    assert trials_of(elsewhere) == trials_of(here)
    assert elsewhere.history[0]["val_loss"] == here.history[0]["val_loss"]
    assert elsewhere.val_loss == here.val_loss
    # Killed while the second batch is trained, its first trial told.
    measured, calls = search_module.run_trial, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(search_module, "run_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        search(directory=tmp_path, **options)
    monkeypatch.setattr(search_module, "run_trial", measured)
    again = search(directory=tmp_path, **options)
    assert trials_of(again) == trials_of(here)
    assert again.val_loss == here.val_loss
    # In processes, of which one dies within its first trial.
    mark = tmp_path / "died"
    dying = Call("helpers.drmad_cases:tuner_that_dies_once", {"mark": str(mark)})
    with make_executor("local", 2) as two:
        processes = search(engine=two, source=dying, **options)
    assert mark.exists()
    assert trials_of(processes) == trials_of(here)
    assert processes.val_loss == here.val_loss
    assert processes.best_model() is not None


def test_trials_are_pruned_by_the_rule_of_optunas_median_pruner():
    """Against Optuna's own, on curves of which some are pruned and some are not."""
    rng = np.random.default_rng(0)
    curves = rng.normal(size=(12, 3))
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=4))
    averages = search_module.AverageSearch(study, None, trials_at_once=1, owns_study=True, seed=0)
    decisions = []
    for number, curve in enumerate(curves):
        should_prune = search_module.prunes_above(averages.limits(number))
        trial, reports, pruned = study.ask(), [], False
        for step, loss in enumerate(curve):
            reports.append((step, loss))
            trial.report(loss, step)
            pruned = trial.should_prune()
            assert should_prune(reports) == pruned
            if pruned:
                break
        decisions.append(pruned)
        state = optuna.trial.TrialState.PRUNED if pruned else None
        study.tell(trial, None if pruned else curve[-1], state=state)
    assert 0 < sum(decisions) < 8
    assert not any(decisions[:4])


def test_an_engine_without_a_source_or_with_a_pruner_is_refused():
    with pytest.raises(ValueError, match="no source, so that none could make the tuner"):
        search(engine=Worker(), trials=1)
    with pytest.raises(ValueError, match="prune by the rule of the median pruner alone"):
        search(engine=Worker(), source=SOURCE, pruner=optuna.pruners.NopPruner())
    with pytest.raises(TypeError, match=r"drmad_cases:data returned a tuple; expected the .*Tuner"):
        search(engine=Worker(), source=Call("helpers.drmad_cases:data", {}), trials=1)
    with pytest.raises(ValueError, match="trials_at_once is 0"):
        search(trials_at_once=0)
