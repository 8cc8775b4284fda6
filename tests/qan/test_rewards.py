import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.qan.rewards import Equation9, LogLossDrop

LOGS = st.lists(st.floats(-25.0, 2.0, width=32), min_size=1, max_size=30)


def rewards(reward, log_losses):
    before = [0.0, *log_losses[:-1]]
    count = float(len(log_losses))
    return [reward(b, a, count) for b, a in zip(before, log_losses, strict=True)]


def test_log_loss_drop_by_hand():
    assert rewards(LogLossDrop(), [-1.0, -0.5, -2.0]) == [1.0, -0.5, 1.5]
    assert LogLossDrop().uses_validation


def test_equation_9_by_hand():
    # Three decisions: the falls 1, -0.5, 1.5, each divided by T - 1 = 2.
    assert rewards(Equation9(), [-1.0, -0.5, -2.0]) == [0.5, -0.25, 0.75]
    assert not Equation9().uses_validation


def test_equation_9_of_a_single_decision_is_not_divided_by_zero():
    assert rewards(Equation9(), [-1.0]) == [1.0]


@given(LOGS)
def test_the_return_of_log_loss_drop_is_the_fall_of_the_log_loss(log_losses):
    assert np.sum(rewards(LogLossDrop(), log_losses)) == pytest.approx(-log_losses[-1], abs=1e-3)


@given(LOGS)
def test_the_return_of_equation_9_is_the_mean_fall_over_the_episode(log_losses):
    # Equation 9: -(1 / (T - 1)) Σ_{t=2..T} (log L_t - log L_{t-1}), with L_1 the first loss.
    expected = -log_losses[-1] / max(len(log_losses) - 1, 1)
    assert np.sum(rewards(Equation9(), log_losses)) == pytest.approx(expected, abs=1e-3)
