"""The rule that stops."""

from __future__ import annotations

import numpy as np
import pytest

from keras_qan.early_stopping.intervals import Prediction
from keras_qan.early_stopping.rule import StopRule

# Nineteen residuals between -0.09 and 0.09: at 0.95 the largest counts.
RESIDUALS = np.linspace(-0.09, 0.09, 19)


def prediction(*ends):
    count = len(ends)
    return Prediction(np.array(ends), [RESIDUALS] * count, np.full(count, 2), 0.9, "conformal")


def test_accuracy_that_cannot_reach_the_best_is_stopped_and_one_that_might_is_not():
    rule = StopRule(confidence=0.95)
    assert rule.should_stop(prediction(0.70, 0.72), rule.threshold([0.8, 0.5])).tolist() == [
        True,
        False,
    ]


def test_loss_is_stopped_on_the_other_side():
    rule = StopRule(confidence=0.95, mode="min")
    assert rule.threshold([0.8, 0.5]) == 0.5
    assert rule.should_stop(prediction(0.60, 0.58), 0.5).tolist() == [True, False]


def test_lower_confidence_stops_earlier():
    assert StopRule(confidence=0.9).should_stop(prediction(0.72), 0.8)[0]


def test_nth_best_and_margin_lower_the_bar():
    ends = [0.5, 0.9, 0.7, 0.8]
    assert StopRule(keep_best=3).threshold(ends) == 0.7
    assert StopRule(keep_best=2, margin=0.05).threshold(ends) == pytest.approx(0.75)
    assert StopRule(keep_best=2, margin=0.05, mode="min").threshold(ends) == pytest.approx(0.75)
    assert StopRule(keep_best=5).threshold(ends) is None


def test_what_it_takes():
    assert StopRule(confidence=0.99).curves_needed("conformal", 10) == 99
    assert StopRule(confidence=0.99).curves_needed("gaussian", 10) == 10
    assert StopRule(confidence=0.5, keep_best=30).curves_needed("gaussian", 10) == 30


@pytest.mark.parametrize(
    "arguments",
    [
        {"confidence": 1.0},
        {"confidence": 0.0},
        {"keep_best": 0},
        {"keep_best": 1.5},
        {"margin": -0.1},
        {"margin": float("nan")},
        {"mode": "auto"},
    ],
)
def test_bad_arguments_are_refused_with_what_was_received(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"^{name} is {value!r}; expected "):
        StopRule(**arguments)
