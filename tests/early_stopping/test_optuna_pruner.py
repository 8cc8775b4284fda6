"""CurvePruner in Optuna's studies."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    optuna = pytest.importorskip("optuna", reason="Optuna is not installed")

from keras_qan.early_stopping import CurvePredictor, CurvePruner

EPOCHS = 6


@pytest.fixture(autouse=True)
def quiet():
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)


def objective(sign=1.0):
    def run(trial):
        best = trial.suggest_float("best", 0.2, 1.0)
        trial.suggest_categorical("kind", ["a", None, 3])
        values = sign * best * (1 - np.exp(-np.arange(1, EPOCHS + 1) / 2.0))
        for step, value in enumerate(values):
            trial.report(float(value), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(values[-1])

    return run


def study(direction, **arguments):
    pruner = CurvePruner(confidence=0.9, predictor=CurvePredictor(["least_squares"]), **arguments)
    return optuna.create_study(
        direction=direction, pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
    )


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_trials_behind_are_pruned_and_the_best_is_kept(direction, sign):
    run = study(direction)
    run.optimize(objective(sign), n_trials=30)
    pruned = [t for t in run.trials if t.state == optuna.trial.TrialState.PRUNED]
    complete = [t for t in run.trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert all(t.number >= 10 for t in pruned)
    assert len(pruned) > 10
    best = max(t.params["best"] for t in run.trials)
    assert max(t.params["best"] for t in complete) == best


def test_keeping_many_prunes_fewer():
    few, many = study("maximize"), study("maximize", keep_best=8)
    for run in (few, many):
        run.optimize(objective(), n_trials=25)
    states = [sum(t.state.name == "PRUNED" for t in run.trials) for run in (few, many)]
    assert states[0] > states[1]


def test_trials_without_reports_or_with_nan_are_left_alone():
    run = study("maximize")
    run.optimize(objective(), n_trials=12)
    trial = run.ask()
    assert not trial.should_prune()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial.report(float("nan"), 0)
    assert not trial.should_prune()


def test_several_objectives_are_refused():
    run = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match="2 objectives"):
        CurvePruner().prune(run, run.ask())


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="num_steps is 1"):
        CurvePruner(num_steps=1)


@pytest.mark.slow
def test_without_optuna_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['optuna.pruners'] = None; sys.modules['optuna'] = None\n"
        "from keras_qan.early_stopping import CurvePredictor\n"
        "try:\n    from keras_qan.early_stopping import CurvePruner\n"
        "except ImportError as error:\n    assert 'keras-qan[optuna]' in str(error), error\n"
        "else:\n    raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("odd", ["value", "choice", "late name"])
def test_a_study_goes_on_whatever_its_trials_hold(odd):
    def run(trial):
        if odd == "choice":
            trial.suggest_categorical("clipnorm", [0.5, 1.0, float("inf")])
        if odd == "late name":
            trial.suggest_categorical("width", [*range(60), "many"])
        value = objective()(trial)
        return float("inf") if odd == "value" and trial.number == 5 else value

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=CurvePruner(confidence=0.9),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study.optimize(run, n_trials=40)
    assert len(study.trials) == 40
    told = [w for w in caught if "CurvePruner cannot describe" in str(w.message)]
    assert len(told) <= 1
