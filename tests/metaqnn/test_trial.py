"""One trial: training, restarts, limits, and what is given back."""

from __future__ import annotations

import math
import pickle
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan.data import Examples
from keras_qan.early_stopping import CurveHistory, CurvePredictor, CurveStopping, FinishedCurve
from keras_qan.metaqnn import Recipe, Space, StateSpace, trial
from keras_qan.metaqnn.remote import call_for
from keras_qan.metaqnn.trial import Trial, TrialOutcome, run_trial

STATES = StateSpace(Space(filters=(8,), sizes=(3,), pools=((2, 2),)), (6, 6, 1), 3)


def examples(count=48, seed=0, label=None):
    """Three classes, told apart by which third of the image is bright."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = rng.normal(scale=0.3, size=(count, 6, 6, 1)).astype("float32")
    for third in range(3):
        x[y == third, 2 * third : 2 * third + 2] += 1.0
    return Examples(x, y if label is None else np.full(count, label))


def a_trial(recipe, validation=None, **more):
    return Trial(
        "[C(8,3,1), P(2,2), SM]",
        STATES,
        examples(),
        validation or examples(24, 1),
        recipe,
        5,
        **more,
    )


QUICK = Recipe(stages=((0.03, 3),), batch_size=16, dropout=False, restart_after=0)


@pytest.mark.slow
def test_it_trains_to_the_end_and_is_worth_its_best_validation_accuracy():
    outcome = run_trial(a_trial(QUICK))
    assert outcome.status == "trained"
    assert len(outcome.curve) == 3
    assert outcome.score == outcome.reward == max(outcome.curve) > 0.5
    assert (outcome.restarts, outcome.learning_rate) == (0, 0.03)
    assert math.isnan(outcome.predicted)


@pytest.mark.slow
def test_a_trial_leaves_the_settings_of_keras_as_they_are():
    layer = keras.layers.Dense(1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        run_trial(a_trial(QUICK))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.layers.Dense(1).name != layer.name


@pytest.mark.slow
def test_same_seed_same_curve_with_everything_switched_on():
    recipe = Recipe(
        stages=((0.01, 1), (0.002, 1)), batch_size=16, mirror=True, shift=1, optimizer="sgd"
    )
    assert run_trial(a_trial(recipe)).curve == run_trial(a_trial(recipe)).curve


@pytest.mark.slow
def test_a_model_no_better_than_chance_starts_anew_at_lower_rates_then_counts_as_chance():
    # Every validation label is a class that the training labels never are.
    hopeless = Trial(
        "[C(8,3,1), SM]",
        STATES,
        Examples(examples().x, examples().y % 2),
        examples(24, 1, label=2),
        Recipe(stages=((0.05, 4),), batch_size=8, restart_after=1, restarts=2),
        0,
    )
    outcome = run_trial(hopeless)
    assert outcome.status == "no_better_than_chance"
    assert outcome.reward == pytest.approx(1 / 3)
    assert outcome.restarts == 1
    assert outcome.learning_rate == pytest.approx(0.02)
    assert len(outcome.curve) == 1


def test_the_papers_five_rates():
    recipe = Recipe.paper()
    rates = [
        recipe.scale_rates(recipe.restart_factor**n).stages[0][0] for n in range(recipe.restarts)
    ]
    assert rates == pytest.approx([1e-3, 4e-4, 1.6e-4, 6.4e-5, 2.56e-5])
    assert [rate for rate, _ in recipe.stages] == pytest.approx([1e-3, 2e-4, 4e-5, 8e-6])
    assert recipe.epochs == 20
    assert Recipe.paper_final().epochs == 300


def test_what_does_not_fit_into_memory_is_dropped_without_a_reward(monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(trial, "fit_model", exhausted)
    outcome = run_trial(a_trial(QUICK))
    assert outcome.status == "out_of_memory"
    assert math.isnan(outcome.reward)
    assert math.isnan(outcome.score)


@pytest.mark.slow
def test_the_time_budget_ends_a_training():
    outcome = run_trial(a_trial(Recipe(stages=((0.01, 50),), max_seconds=1e-6, restart_after=1)))
    assert outcome.status == "out_of_time"
    assert len(outcome.curve) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["predicted", "observed"])
def test_a_stopped_trial_is_worth_what_was_asked_for(tmp_path, reward):
    history = CurveHistory(tmp_path)
    for end in np.linspace(2.0, 3.0, 20):  # beyond any accuracy: nothing can reach it
        values = tuple((end * np.array([0.9, 0.95, 1.0])).tolist())
        history.add(FinishedCurve("val_accuracy", values, {}, 3))
    stopper = CurveStopping(tmp_path, confidence=0.9, predictor=CurvePredictor(["least_squares"]))
    outcome = run_trial(a_trial(QUICK, stopper=stopper, reward=reward))
    assert outcome.status == "stopped"
    assert len(outcome.curve) < 3
    assert math.isfinite(outcome.predicted)
    expected = min(1.0, max(outcome.score, outcome.predicted))
    assert outcome.reward == (expected if reward == "predicted" else outcome.score)


@pytest.mark.slow
def test_weights_are_given_back_and_taken_over():
    given = run_trial(a_trial(QUICK, keep_weights=True)).weights
    assert set(given) == {f"{n}/{k}" for n in ("layer_1", "logits") for k in ("kernel", "bias")}
    model = trial.compile_model(a_trial(QUICK, weights=given), QUICK)
    for variable in model.variables:
        np.testing.assert_array_equal(np.asarray(variable), given[variable.path])


def test_a_trial_and_its_outcome_can_go_to_another_process_and_back(tmp_path):
    sent = pickle.loads(pickle.dumps(call_for(a_trial(QUICK, stopper=CurveStopping(tmp_path)))))
    assert sent.arguments["architecture"] == "[C(8,3,1), P(2,2), SM]"
    np.testing.assert_array_equal(sent.arguments["train"][0], examples().x)
    assert pickle.loads(pickle.dumps(TrialOutcome("trained", 0.5, 0.5))).score == 0.5


def test_dropout_rises_to_a_half_over_every_second_and_every_fully_connected_layer():
    from keras_qan.metaqnn import parse_architecture
    from keras_qan.metaqnn.build import build

    layers = parse_architecture("C(8,3,1), C(8,3,1), P(2,2), FC(64), SM")
    model = build(STATES, layers, dropout=True)
    rates = {layer.name: layer.rate for layer in model.layers if "dropout" in layer.name}
    assert rates == {"dropout_2": 0.25, "dropout_4": 0.5}


@pytest.mark.parametrize(
    "arguments",
    [
        {"stages": ()},
        {"stages": ((0.0, 3),)},
        {"optimizer": "lamb"},
        {"batch_size": 0},
        {"restart_factor": 1.0},
        {"max_seconds": 0.0},
    ],
)
def test_bad_recipes_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}; expected ")):
        Recipe(**arguments)
