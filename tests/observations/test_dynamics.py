import math

import numpy as np
import pytest
import tensorflow as tf

from keras_qan.observations import (
    Generalisation,
    ObservationContext,
    TrainingDynamics,
    loss_history,
    motion,
)


def situation(rate=0.1, momentum=0.9, adaptive=0.0, scale=1.0, **memory):
    values = loss_history.start()._replace(**{n: tf.constant(v) for n, v in memory.items()})
    gain = 0.0 if adaptive else -math.log(1.0 - momentum)
    return ObservationContext(
        kernels=[],
        rate=tf.constant(rate),
        initial_rate=tf.constant(rate),
        progress=tf.constant(0.25),
        log_losses=tf.zeros([3]),
        pace=tf.constant(1.0),
        track=values,
        motion=tf.constant([-7.0, 0.5, -2.0]),
        optimizer=tf.constant([adaptive, gain]),
        num_steps=tf.constant(400.0),
        interval=tf.constant(16.0),
    )


def test_its_numbers_by_hand():
    memory = {"now": -1.0, "before": -0.5, "earlier": -0.25, "best": -1.5, "step_backs": 2.0}
    memory |= {"ceiling": math.log(0.4), "last_change": math.log(5.0)}
    expected = [
        math.log(0.1 / (1.0 - 0.9)), 0.0, 0.25, math.log(0.76), math.log(400.0), math.log(0.04),
        -1.0, -0.5, -0.25, 0.5, -1.5, math.log(5.0), math.log(0.25), 2.0, -7.0, 0.5, -2.0,
    ]  # fmt: skip
    found = TrainingDynamics()(situation(**memory)).numpy()
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_sgd_with_momentum_counts_as_plain_sgd_with_its_effective_rate():
    with_momentum = TrainingDynamics()(situation(rate=0.01, momentum=0.9)).numpy()
    plain = TrainingDynamics()(situation(rate=0.1, momentum=0.0)).numpy()
    np.testing.assert_allclose(with_momentum, plain, atol=1e-5)


def test_the_rate_of_adam_is_told_apart():
    adam = TrainingDynamics()(situation(rate=0.1, adaptive=1.0)).numpy()
    assert adam[:2].tolist() == pytest.approx([math.log(0.1), 1.0])


def test_motion_by_hand():
    before, moved = np.array([3.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)
    last, start = np.array([1.0, 1.0], np.float32), np.array([0.0, 3.0], np.float32)
    found = motion(before + moved, before, last, start, tf.constant(4.0)).numpy()
    # ‖Δw‖ = 4, ‖w‖ = 5, √n = 2; Δw · last = 4, ‖last‖ = √2; ‖w - w₀‖ = ‖(3, 1)‖, ‖w₀‖ = 3.
    expected = [math.log(4 / (5 * 2)), 4 / (4 * math.sqrt(2)), math.log(math.sqrt(10) / 3)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_generalisation_by_hand():
    memory = {"now": -3.0, "validated": 1.0, "validation": -1.0, "validation_before": -1.25}
    found = Generalisation()(situation(**memory, validation_best=-1.5)).numpy()
    assert found.tolist() == [1.0, 2.0, 0.5, 0.25]


def test_without_a_validation_nothing_is_said_of_generalisation():
    assert Generalisation()(situation(now=-3.0)).numpy().tolist() == [0.0] * 4


def test_a_validation_loss_beyond_all_bounds_is_clipped():
    memory = {"now": -20.0, "validated": 1.0, "validation": 2.0}
    found = Generalisation()(situation(**memory, validation_best=-20.0)).numpy()
    assert found.tolist() == [1.0, 4.0, 4.0, 2.0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_motion_does_not_know_the_scale_of_the_weights(scale):
    rng = np.random.default_rng(0)
    parts = [(scale * rng.normal(size=50)).astype(np.float32) for _ in range(4)]
    expected = motion(*(part / np.float32(scale) for part in parts), tf.constant(9.0)).numpy()
    np.testing.assert_allclose(motion(*parts, tf.constant(9.0)).numpy(), expected, rtol=1e-3)


def test_motion_of_weights_that_did_not_move_is_finite():
    still = np.ones(3, np.float32)
    assert np.isfinite(motion(still, still, 0 * still, still, tf.constant(1.0)).numpy()).all()


def test_a_population_is_observed_as_each_of_its_students():
    alone = [situation(rate, now=now) for rate, now in ((0.1, -1.0), (0.5, 0.5))]
    together = tf.nest.map_structure(lambda *values: tf.stack(values), *alone)
    together = together._replace(num_steps=alone[0].num_steps, interval=alone[0].interval)
    found = TrainingDynamics()(together).numpy()
    np.testing.assert_allclose(found, [TrainingDynamics()(s).numpy() for s in alone], rtol=1e-6)
