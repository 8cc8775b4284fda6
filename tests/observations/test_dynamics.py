import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.observations import (
    Generalisation,
    ObservationContext,
    SlopeDynamics,
    TrainingDynamics,
    loss_history,
    motion_numbers,
)
from keras_qan.qan.slope_ratio import SlopeEstimate


def context(rate=0.1, momentum=0.9, adaptive=0.0, slope=None, **history):
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
        optimizer=np.array([adaptive, gain, float(momentum > 0.0)]),
        num_steps=400.0,
        interval=16.0,
        slope=slope or SlopeEstimate(),
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


def test_the_state_without_units_by_hand():
    slope = SlopeEstimate(0.5, 0.125, -1.0, 7, 8, relative_step=0.01, highest=0.6)
    history = {"now": -1.0, "best": -1.5, "ceiling": math.log(0.4), "last_change": math.log(5.0)}
    found = SlopeDynamics()(context(slope=slope, **history))
    expected = [1.0, 0.5, 0.125, 4.0, 0.6, math.log(0.01), 0.0, 1.0]
    assert found[:8].tolist() == pytest.approx(expected)
    # What follows is what the other state has behind its rate.
    assert found[8:].tolist() == TrainingDynamics()(context(**history))[2:].tolist()


@pytest.mark.parametrize(
    "slope",
    [SlopeEstimate(), SlopeEstimate(3.0, 0.1, slope=1.0), SlopeEstimate(0.5, math.nan, -1.0)],
    ids=["no steps", "uphill", "no error"],
)
def test_a_ratio_that_is_not_known_is_said_not_to_be(slope):
    found = SlopeDynamics()(context(slope=slope))
    assert found[:4].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert np.isfinite(found).all()


def test_a_ratio_beyond_all_bounds_is_clipped():
    slope = SlopeEstimate(-1e9, 1e5, -1.0, 7, 8, relative_step=math.inf)
    assert SlopeDynamics()(context(slope=slope))[1:4].tolist() == [-3.0, 3.0, -8.0]


@settings(max_examples=30)
@given(st.floats(1e-6, 1e6), st.sampled_from([0.0, 0.9]))
def test_the_state_without_units_is_the_same_at_every_scale_of_the_rate(scale, momentum):
    slope = SlopeEstimate(0.5, 0.125, -1.0, 7, 8, relative_step=0.01)
    ceiling = math.log(0.4)
    ours, theirs = (
        SlopeDynamics()(context(0.1 * s, momentum, slope=slope, ceiling=ceiling + math.log(s)))
        for s in (1.0, scale)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


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
