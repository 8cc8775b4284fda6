import math

import numpy as np
import pytest

from keras_qan.observations import (
    Generalisation,
    ObservationContext,
    TrainingDynamics,
    loss_history,
    motion_numbers,
)


def context(rate=0.1, momentum=0.9, adaptive=0.0, scale=1.0, **history):
    values = loss_history.start_history()._replace(**history)
    gain = 0.0 if adaptive else -math.log(1.0 - momentum)
    return ObservationContext(
        kernels=[],
        rate=rate,
        initial_rate=rate,
        progress=0.25,
        log_losses=np.zeros(3),
        decisions_in_part=1.0,
        history=values,
        motion=np.array([-7.0, 0.5, -2.0]),
        optimizer=np.array([adaptive, gain]),
        num_steps=400.0,
        interval=16.0,
    )


#: What differs from one training of a population to the next.
STACKED = ("rate", "initial_rate", "history", "motion", "optimizer")


def motion(now, before, last, start, steps):
    """The motion of a kernel, from the kernels themselves."""
    change, distance = now - before, now - start
    pairs = [(change, change), (change, last), (last, last), (now, now)]
    pairs += [(distance, distance), (start, start)]
    return motion_numbers([np.sum(a * b, dtype=np.float64) for a, b in pairs], steps)


def test_its_numbers_by_hand():
    history = {"now": -1.0, "before": -0.5, "earlier": -0.25, "best": -1.5, "step_backs": 2.0}
    history |= {"ceiling": math.log(0.4), "last_change": math.log(5.0)}
    expected = [
        math.log(0.1 / (1.0 - 0.9)), 0.0, 0.25, math.log(0.76), math.log(400.0), math.log(0.04),
        -1.0, -0.5, -0.25, 0.5, -1.5, math.log(5.0), math.log(0.25), 2.0, -7.0, 0.5, -2.0,
    ]  # fmt: skip
    found = TrainingDynamics()(context(**history))
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_sgd_with_momentum_counts_as_plain_sgd_with_its_effective_rate():
    with_momentum = TrainingDynamics()(context(rate=0.01, momentum=0.9))
    plain = TrainingDynamics()(context(rate=0.1, momentum=0.0))
    np.testing.assert_allclose(with_momentum, plain, atol=1e-5)


def test_the_rate_of_adam_is_told_apart():
    adam = TrainingDynamics()(context(rate=0.1, adaptive=1.0))
    assert adam[:2].tolist() == pytest.approx([math.log(0.1), 1.0])


def test_motion_by_hand():
    before, moved = np.array([3.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)
    last, start = np.array([1.0, 1.0], np.float32), np.array([0.0, 3.0], np.float32)
    found = motion(before + moved, before, last, start, 4.0)
    # ‖Δw‖ = 4, ‖w‖ = 5, √n = 2; Δw · last = 4, ‖last‖ = √2; ‖w - w₀‖ = ‖(3, 1)‖, ‖w₀‖ = 3.
    expected = [math.log(4 / (5 * 2)), 4 / (4 * math.sqrt(2)), math.log(math.sqrt(10) / 3)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_generalisation_by_hand():
    history = {"now": -3.0, "validated": 1.0, "validation": -1.0, "validation_before": -1.25}
    found = Generalisation()(context(**history, validation_best=-1.5))
    assert found.tolist() == [1.0, 2.0, 0.5, 0.25]


def test_without_a_validation_nothing_is_said_of_generalisation():
    assert Generalisation()(context(now=-3.0)).tolist() == [0.0] * 4


def test_a_validation_loss_beyond_all_bounds_is_clipped():
    history = {"now": -20.0, "validated": 1.0, "validation": 2.0}
    found = Generalisation()(context(**history, validation_best=-20.0))
    assert found.tolist() == [1.0, 4.0, 4.0, 2.0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_motion_does_not_know_the_scale_of_the_weights(scale):
    rng = np.random.default_rng(0)
    parts = [(scale * rng.normal(size=50)).astype(np.float32) for _ in range(4)]
    expected = motion(*(part / np.float32(scale) for part in parts), 9.0)
    np.testing.assert_allclose(motion(*parts, 9.0), expected, rtol=1e-3)


def test_motion_of_weights_that_did_not_move_is_finite():
    still = np.ones(3, np.float32)
    assert np.isfinite(motion(still, still, 0 * still, still, 1.0)).all()


def test_a_population_is_observed_as_each_of_its_students():
    alone = [context(rate, now=now) for rate, now in ((0.1, -1.0), (0.5, 0.5))]
    columns = {name: [getattr(one, name) for one in alone] for name in STACKED}
    history = loss_history.LossHistory(*map(np.array, zip(*columns["history"], strict=True)))
    stacked = {name: np.stack(values) for name, values in columns.items() if name != "history"}
    together = alone[0]._replace(**stacked, history=history)
    found = TrainingDynamics()(together)
    np.testing.assert_allclose(found, [TrainingDynamics()(s) for s in alone], rtol=1e-6)


def test_kernels_that_are_infinite_move_without_a_warning():
    sums = np.array([np.inf, 0.0, 0.0, np.inf, np.inf, 4.0])
    assert np.isnan(motion_numbers(sums, 3)).any()  # the controller takes 0 for what is no number
