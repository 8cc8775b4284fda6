import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.experiments.statistics import DIVERGED_LOG_LOSS, compare, interval, steps_to


def test_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(3).normal(5.0, 2.0, size=400)
    half = 1.96 * values.std() / 20.0
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_interval_is_repeatable_and_narrower_at_a_lower_level():
    values = np.random.default_rng(0).normal(size=30)
    low, high = interval(values)
    assert interval(values) == (low, high)
    assert interval(values, seed=1) != (low, high)
    inner_low, inner_high = interval(values, level=0.5)
    assert low < inner_low < values.mean() < inner_high < high


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6))
def test_interval_lies_within_the_values(values):
    low, high = interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [math.inf, 2.0]])
def test_interval_needs_two_numbers(values):
    assert all(math.isnan(end) for end in interval(values))


def test_interval_of_equal_values_is_a_point_without_a_warning():
    assert interval([2.0, 2.0, math.nan, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (2.0, 10.0),  # below the first epoch's loss: nothing is known before it
        (1.0, 10.0),
        (0.8, 14.0),  # 1.0 → 0.5 between 10 and 20: 0.8 lies two fifths of the way
        (0.5, 20.0),
        (0.4, math.inf),
    ],
)
def test_steps_to_a_target_are_linear_between_epochs(target, expected):
    assert steps_to(target, [10, 20, 30], [1.0, 0.5, 0.6]) == pytest.approx(expected)


def test_steps_to_counts_the_first_time_only():
    assert steps_to(0.5, [1, 2, 3, 4], [1.0, 0.5, 0.9, 0.1]) == 2.0


@pytest.mark.parametrize("first", [math.inf, math.nan])
def test_steps_to_after_an_epoch_that_diverged_is_the_epochs_end(first):
    assert steps_to(0.5, [10, 20], [first, 0.4]) == 20.0


def test_steps_to_of_no_epochs_is_never():
    assert steps_to(1.0, [], []) == math.inf


def evaluation(arm, seed, val_loss, rate=0.1, **more):
    record = {"arm": arm, "phase": "evaluate", "seed": seed, "episode": seed, "val_loss": val_loss}
    return record | {"initial_learning_rate": rate} | more


def test_compare_by_hand():
    e = math.exp
    episodes = [
        evaluation("constant", 0, e(-1.0), test_loss=0.4, test_accuracy=0.8),
        evaluation("constant", 1, e(-2.0), test_loss=0.6, test_accuracy=0.9),
        evaluation("qan", 0, e(-2.0), test_loss=0.2, test_accuracy=0.9),
        evaluation("qan", 1, e(-3.5), test_loss=0.3, test_accuracy=1.0),
        {"arm": "qan", "phase": "train", "episode": 0, "initial_learning_rate": 0.1},
    ]
    # The target is exp(-1.5) ≈ 0.223; seed 0 of qan passes it half-way through its second epoch.
    target = e(-1.5)
    curves = {("qan", 0): [1.0, 2 * target - 1.0], ("qan", 1): [target / 2, 0.1]}
    epochs = [
        {"arm": arm, "phase": "evaluate", "episode": seed, "step": 100 * (n + 1), "val_loss": loss}
        for (arm, seed), losses in curves.items()
        for n, loss in enumerate(losses)
    ]
    epochs += [{**epoch, "phase": "train", "val_loss": 0.0} for epoch in epochs]
    first, second = compare(episodes, epochs)
    assert (first["arm"], second["arm"]) == ("qan", "constant")
    assert first["log_val_loss"] == pytest.approx(-2.75)
    assert second["log_val_loss"] == pytest.approx(-1.5)
    assert first["minus_reference"] == 0.0
    assert second["minus_reference"] == pytest.approx((1.0 + 1.5) / 2)
    low, high = second["minus_reference_interval"]
    assert 1.0 <= low < high <= 1.5
    assert (first["seeds"], second["seeds"]) == (2, 2)
    assert first["test_loss"] == pytest.approx(0.25)
    assert second["test_accuracy"] == pytest.approx(0.85)
    assert first["steps_to_target"] == pytest.approx((150.0 + 100.0) / 2)
    assert second["steps_to_target"] == math.inf
    assert (first["diverged"], second["diverged"]) == (0, 0)


@pytest.mark.parametrize(
    "more",
    [{"val_loss": None}, {"val_loss": 1e9}, {"val_loss": -1.0}, {"diverged": True}],
)
def test_a_diverged_training_spoils_the_mean_by_a_bounded_amount(more):
    good = evaluation("constant", 0, math.exp(-1.0))
    (row,) = compare([good, evaluation("constant", 1, 0.5) | more], [])
    assert row["log_val_loss"] == pytest.approx((-1.0 + DIVERGED_LOG_LOSS) / 2)
    assert row["diverged"] == int("diverged" in more)


def test_differences_are_paired_by_the_seeds_that_both_arms_have():
    episodes = [
        evaluation("qan", 0, 1.0),
        evaluation("qan", 1, math.exp(-4.0)),
        evaluation("random", 0, math.exp(0.5)),
        evaluation("random", 2, 9.0),
    ]
    row = next(row for row in compare(episodes, []) if row["arm"] == "random")
    assert row["minus_reference"] == pytest.approx(0.5)


def test_each_initial_rate_is_compared_on_its_own():
    episodes = [
        evaluation(arm, 0, loss * rate, rate)
        for rate in (0.4, 0.1)
        for arm, loss in (("qan", 1.0), ("constant", 2.0))
    ]
    found = [(row["initial_learning_rate"], row["arm"]) for row in compare(episodes, [])]
    assert found == [(0.1, "qan"), (0.1, "constant"), (0.4, "qan"), (0.4, "constant")]


def test_without_a_reference_there_are_means_but_no_differences():
    (row,) = compare([evaluation("cosine", 0, 1.0), evaluation("cosine", 1, 1.0)], [])
    assert row["log_val_loss"] == 0.0
    assert math.isnan(row["minus_reference"])
    assert math.isnan(row["test_loss"])


def test_nothing_compares_to_nothing():
    assert compare([], []) == []
