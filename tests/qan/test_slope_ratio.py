"""The slope ratio out of the optimizer's slots, beside gradients that a tape takes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.qan import variables
from keras_qan.qan.slope_ratio import SlopeMeter, estimate_of

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "sgd_decay": lambda: keras.optimizers.SGD(0.05, weight_decay=0.1),
    "momentum": lambda: keras.optimizers.SGD(0.02, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "ema": lambda: keras.optimizers.Adam(0.01, use_ema=True),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "lamb": lambda: keras.optimizers.Lamb(0.01),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "lion": lambda: keras.optimizers.Lion(0.003),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
    "rmsprop_momentum": lambda: keras.optimizers.RMSprop(0.01, momentum=0.8),
    "rmsprop_centered": lambda: keras.optimizers.RMSprop(0.01, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "muon": lambda: keras.optimizers.Muon(0.01),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.5), momentum=0.5
    ),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}


def student(optimizer, **compiled):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(2)]
    )
    model.compile(optimizer, "mse", **compiled)
    return model


def batches(num_steps, size=8):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(num_steps, size, 4)).astype("float32")
    return x, np.stack([x[..., 0] * x[..., 1], x[..., 2]], axis=-1)


def own_optimizer(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def decay_of(model, variable):
    optimizer = own_optimizer(model)
    decay = optimizer.weight_decay
    if isinstance(optimizer, keras.optimizers.Muon) and optimizer._should_use_adamw(variable):
        decay = optimizer.adam_weight_decay
    return (decay or 0.0) * optimizer._use_weight_decay(variable)


def rate_of(model, step):
    rate = own_optimizer(model)._learning_rate
    is_schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    return float(rate(step) if is_schedule else rate.numpy())


def dot(first, second):
    return sum(float(np.vdot(a, b)) for a, b in zip(first, second, strict=True))


def by_tape(model, num_steps=7):
    """Train, and return meters and ⟨g, d⟩, ⟨g, d before⟩ of each step from a tape's gradients.

    d is the change of the weights, but for that by weight decay. The meters begin after a step: the
    first measures on the host, the second where the weights are.
    """
    meters, rows, last = [SlopeMeter(model), SlopeMeter(model)], [], None
    for step, (x, y) in enumerate(zip(*batches(num_steps), strict=True)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        found = tape.gradient(loss, [v.value for v in model.trainable_variables])
        before = [v.numpy() for v in model.trainable_variables]
        model.train_on_batch(x, y)
        with pytest.MonkeyPatch.context() as patch:
            for meter, few in zip(meters, (10**6, 0), strict=True):
                patch.setattr(variables, "FEW_NUMBERS", few)
                meter.add_step()
        change = [
            v.numpy() - w * (1.0 - rate_of(model, step) * decay_of(model, v))
            for v, w in zip(model.trainable_variables, before, strict=True)
        ]
        rows.append([dot(found, change), dot(found, last or change)])
        last = change
    return meters, np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_give_the_ratio_that_the_gradients_of_a_tape_give(name):
    meters, rows = by_tape(student(OPTIMIZERS[name](), run_eagerly=True))
    starts, ends = rows[1:-1, 0], rows[2:, 1]
    for meter in meters:
        found = meter.estimate()
        assert meter.reason is None
        assert found.num_pairs == len(starts)
        assert found.slope == pytest.approx(np.mean(starts), rel=2e-3)
        assert found.ratio == pytest.approx(np.mean(ends) / np.mean(starts), rel=2e-3, abs=2e-3)
    on_host, on_device = meters
    assert all(isinstance(row, np.ndarray) for row in on_host._rows)
    assert all(tf.is_tensor(row) for row in on_device._rows)


def test_a_clipped_gradient_keeps_the_ratio_of_the_steps_that_were_taken():
    model = student(keras.optimizers.Adam(0.01, global_clipnorm=1e-3), run_eagerly=True)
    (meter, _), rows = by_tape(model)
    # Slot and slope hold the clipped gradient: another length, the same signs.
    assert np.sign(meter.estimate().ratio) == np.sign(np.mean(rows[2:, 1]) / np.mean(rows[1:-1, 0]))


def test_batches_that_only_accumulate_gradients_are_no_steps():
    model = student(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2), run_eagerly=True)
    meter = SlopeMeter(model)
    for x, y in zip(*batches(12), strict=True):
        model.train_on_batch(x, y)
        meter.add_step()
    # Six updates: the first begins, five are rows, four pairs.
    assert meter.estimate().num_pairs == 4
    assert meter.estimate().batches_a_step == 2


@pytest.mark.parametrize(
    ("optimizer", "compiled", "reason"),
    [
        ("adafactor", {}, "Adafactor has no slot"),
        ("ftrl", {}, "Ftrl has no slot"),
        ("adam", {"steps_per_execution": 2}, "steps_per_execution=2"),
    ],
)
def test_where_no_gradient_comes_back_there_is_a_reason_and_no_estimate(
    optimizer, compiled, reason
):
    model = student(optimizer, **compiled)
    model.optimizer.build(model.trainable_variables)
    meter = SlopeMeter(model)
    meter.add_step()
    meter.add_step()
    assert reason in meter.reason
    assert not meter.wants_step()
    assert not meter.estimate().is_known


def test_an_update_step_of_ones_own_gives_no_gradient():
    class Own(keras.optimizers.Adam):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, learning_rate * gradient)

    model = student(Own(0.01))
    model.optimizer.build(model.trainable_variables)
    meter = SlopeMeter(model)
    meter.add_step()
    assert "update step of its own" in meter.reason


def quadratic(curvature, rate, num_steps=6):
    """Rows of gradient descent on ½ curvature w² from w = 1: q is 1 - rate · curvature."""
    w, rows, last = 1.0, [], 0.0
    for _ in range(num_steps):
        gradient = curvature * w
        change = -rate * gradient
        w += change
        rows.append([gradient * change, gradient * last, change**2, w**2])
        last = change
    return np.array(rows)


@given(st.floats(0.1, 10.0), st.floats(0.01, 1.9))
def test_on_a_parabola_the_ratio_is_the_share_of_the_slope_that_a_step_leaves(curvature, step):
    found = estimate_of(quadratic(curvature, step / curvature))
    assert found.ratio == pytest.approx(1.0 - step, abs=1e-6)
    assert found.error == pytest.approx(0.0, abs=1e-6)
    assert found.slope < 0.0


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 100))
def test_the_ratio_has_no_unit(loss_unit, weight_unit, seed):
    rows = np.random.default_rng(seed).normal(size=(8, 4))
    rows[:, 0] -= 2.0
    rows[:, 2:] = rows[:, 2:] ** 2 + 0.1
    units = np.array([loss_unit, loss_unit, weight_unit**2, weight_unit**2])
    first, second = estimate_of(rows), estimate_of(rows * units)
    assert first.ratio == pytest.approx(second.ratio)
    assert first.error == pytest.approx(second.error)
    assert first.relative_step == pytest.approx(second.relative_step)


def test_steps_that_changed_nothing_are_left_out():
    rows = quadratic(1.0, 0.5, 8)
    rows[3] = 0.0
    rows[4, 1] = 0.0
    found = estimate_of(rows)
    assert found.ratio == pytest.approx(0.5)
    assert (found.num_pairs, found.num_steps) == (5, 8)


def test_numbers_that_are_none_give_no_estimate():
    rows = quadratic(1.0, 0.5)
    rows[2, 0] = np.nan
    found = estimate_of(rows)
    assert found.is_broken
    assert not found.is_known
    assert not estimate_of(np.zeros((0, 4))).is_broken
