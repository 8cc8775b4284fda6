"""replay: the epochs that stopping would have saved."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.curves import saturating

from keras_qan import early_stopping
from keras_qan.early_stopping import CurveError, CurvePredictor, TooFewCurvesError, replay
from keras_qan.early_stopping.curves import as_curves
from keras_qan.early_stopping.replaying import replay_with
from keras_qan.early_stopping.rule import StopRule

FAST = {"predictor": CurvePredictor(["least_squares"])}


def test_epochs_are_counted_and_curves_are_stopped_as_the_stopper_says():
    class AfterTwo:
        def fit(self, rows):
            self.learned = rows.tolist()

        def stop_at(self, row, observed, ends):
            return 0.25 if row != 3 and observed == 2 else None

    stopper = AfterTwo()
    curves = as_curves(np.tile(np.linspace(0.1, 0.5, 5), (6, 1)) + np.arange(6)[:, None])
    found = replay_with(stopper, curves, 2, StopRule(), seed=4)
    order = np.random.default_rng(4).permutation(6)
    assert stopper.learned == order[:2].tolist()
    stopped = [row for row in order[2:] if row != 3]
    assert found.stopped.tolist() == stopped
    assert found.epochs_spent == 5 * (6 - len(stopped)) + 2 * len(stopped)
    assert found.epochs_full == 30
    assert found.best == 5
    assert found.best_kept == (5 not in stopped)
    assert found.predicted[stopped].tolist() == [0.25] * len(stopped)
    assert np.isnan(np.delete(found.predicted, stopped)).all()


def test_stopping_saves_epochs_and_keeps_the_best():
    curves, features = saturating(200)
    found = replay(curves, features, num_train=50, confidence=0.95, seed=1, **FAST)
    assert found.best_kept
    assert found.speed_up > 1.8
    assert found.epochs_spent == found.epochs.sum() < found.epochs_full == 200 * 12
    assert set(found.order[:50]).isdisjoint(found.stopped)


def test_losses_are_the_mirror_image_of_accuracies():
    curves, features = saturating(120)
    up = replay(curves, features, 40, confidence=0.95, seed=2, **FAST)
    down = replay(-curves, features, 40, confidence=0.95, seed=2, mode="min", **FAST)
    np.testing.assert_array_equal(up.epochs, down.epochs)
    assert up.best == down.best


@pytest.mark.slow
def test_keeping_more_of_the_best_spends_more():
    curves, features = saturating(150)
    spent = [
        replay(curves, features, 40, confidence=0.95, keep_best=n, seed=0, **FAST).epochs_spent
        for n in (1, 5, 20)
    ]
    assert spent == sorted(spent)
    assert spent[0] < spent[-1]


def test_curves_of_different_lengths_are_replayed():
    curves, features = saturating(120)
    ragged = [row[: 8 + index % 5] for index, row in enumerate(curves)]
    found = replay(ragged, features, 60, confidence=0.9, seed=0, **FAST)
    lengths = np.array([len(row) for row in ragged])
    assert (found.epochs <= lengths).all()
    assert found.epochs_full == lengths.sum()
    assert len(found.stopped)


def test_same_seed_same_replay_and_another_seed_another_order():
    curves, features = saturating(80)
    one, same, other = (
        replay(curves, features, 30, confidence=0.9, seed=s, **FAST) for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.epochs, same.epochs)
    assert one.order.tolist() != other.order.tolist()


@pytest.mark.slow
def test_it_works_with_what_it_has_by_default():
    curves, features = saturating(130, epochs=4)
    assert replay(curves, features).epochs_spent <= 130 * 4


def test_too_few_curves_are_refused_with_what_is_missing():
    curves, features = saturating(60)
    with pytest.raises(TooFewCurvesError, match=r"99 are needed for confidence=0\.99"):
        replay(curves, features, num_train=50)
    with pytest.raises(TooFewCurvesError, match="101 are needed"):
        replay(curves, features, num_train=100)
    with pytest.raises(CurveError, match="num_train is 0"):
        replay_with(None, as_curves(curves), 0, StopRule(), 0)


def test_the_old_name_of_the_result_leads_to_the_new_one():
    with pytest.warns(DeprecationWarning, match="ReplayResult"):
        assert early_stopping.Replay is early_stopping.ReplayResult
