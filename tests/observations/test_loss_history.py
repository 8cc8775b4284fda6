import math

import pytest

from keras_qan.observations import loss_history
from keras_qan.observations.loss_history import LOG_LOSS_BOUNDS, NO_CEILING


def at(**numbers):
    return loss_history.start_history()._replace(**numbers)


def test_a_loss_is_the_log_of_its_ratio_to_the_first_one():
    assert float(loss_history.relative_log(1.0, 4.0)) == pytest.approx(-math.log(4.0))


@pytest.mark.parametrize("loss", [math.inf, math.nan, 1e30])
def test_a_loss_that_is_no_number_or_beyond_all_bounds_is_the_worst(loss):
    found = loss_history.relative_log(loss, 1.0)
    assert float(found) == LOG_LOSS_BOUNDS[1]


def test_losses_move_up_and_the_best_stays():
    history = loss_history.start_history()
    for loss in (-1.0, -3.0, -2.0):
        history = loss_history.with_loss(history, loss)
    found = [float(v) for v in (history.now, history.before, history.earlier, history.best)]
    assert found == [-2.0, -3.0, -1.0, -3.0]


@pytest.mark.parametrize(
    ("now", "best", "expected"),
    [
        (0.1, 0.0, False),  # above the first loss, but by noise
        (0.8, 0.0, True),  # more than twice the first loss
        (-1.0, -5.0, False),  # far above the best, but still below the first loss
        (0.01, -2.0, True),  # all that was gained is lost
    ],
)
def test_a_jump_is_above_the_first_loss_and_twice_the_best(now, best, expected):
    assert bool(loss_history.has_jumped(at(now=now, best=best))) is expected


def test_a_step_back_lowers_the_ceiling_and_forgets_the_bad_loss():
    history = at(now=1.5, before=0.2, best=-1.0)
    history = loss_history.with_rate(history, 0.5, 0.1, True)
    assert float(history.ceiling) == pytest.approx(math.log(0.5))
    assert float(history.step_backs) == 1.0
    assert float(history.now) == float(history.before) == -1.0
    assert float(history.last_change) == pytest.approx(math.log(0.2))
    history = loss_history.with_rate(history, 2.0, 0.6, True)
    assert float(history.ceiling) == pytest.approx(math.log(0.5))


def test_an_ordinary_decision_leaves_ceiling_and_losses_alone():
    history = at(now=1.5, best=-1.0)
    history = loss_history.with_rate(history, 0.5, 1.0, False)
    assert (float(history.ceiling), float(history.step_backs)) == (NO_CEILING, 0.0)
    assert float(history.now) == 1.5


def test_the_first_validation_is_its_own_best_and_the_one_before():
    history = loss_history.with_validation(loss_history.start_history(), -0.5)
    found = (
        history.validated,
        history.validation,
        history.validation_before,
        history.validation_best,
    )
    assert [float(value) for value in found] == [1.0, -0.5, -0.5, -0.5]


def test_validations_move_up_and_the_best_stays():
    history = loss_history.start_history()
    for loss in (-1.0, -3.0, -2.0):
        history = loss_history.with_validation(history, loss)
    found = (history.validation, history.validation_before, history.validation_best)
    assert [float(value) for value in found] == [-2.0, -3.0, -3.0]
