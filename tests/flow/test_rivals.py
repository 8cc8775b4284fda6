"""What the benchmark of schedules sets beside QAN follows the published rules."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_qan.qan.variables import synchronize

FOLDER = Path(__file__).parents[2] / "benchmarks" / "versus_schedules"


@pytest.fixture(scope="module")
def rivals():
    sys.path.insert(0, str(FOLDER))
    try:
        import rivals

        yield rivals
    finally:
        sys.path.remove(str(FOLDER))


BEND = np.array([1.0, 0.3, 5.0], np.float32)
START = np.array([0.5, -2.0, 1.0], np.float32)


def steps_of(optimizer, count):
    """The points that an optimizer goes through on ½ Σ bend w²."""
    variable = keras.Variable(START)
    optimizer.build([variable])
    points = []
    for _ in range(count):
        optimizer.apply([keras.ops.convert_to_tensor(BEND * np.array(variable))], [variable])
        points.append(np.array(variable))
    return np.array(points)


def test_prodigy_follows_its_published_rule(rivals):
    w, first, distance = START.astype(float), 1e-3, 1e-3
    moment, square, total, numerator = 0.0, 0.0, 0.0, 0.0
    expected = []
    for _ in range(25):
        gradient = BEND * w
        numerator = 0.999**0.5 * numerator + distance**2 / first * gradient @ (START - w)
        total = 0.999**0.5 * total + distance**2 / first * gradient
        moment = 0.9 * moment + 0.1 * distance * gradient
        square = 0.999 * square + 0.001 * (distance * gradient) ** 2
        w = w - distance * moment / (np.sqrt(square) + distance * 1e-8)
        distance = max(distance, numerator / np.abs(total).sum())
        expected.append(w)
    assert distance > 10 * first
    assert steps_of(rivals.Prodigy(first=first), 25) == pytest.approx(np.array(expected), abs=1e-4)


def test_the_hypergradient_raises_the_rate_by_the_cosine_of_gradient_and_last_step(rivals):
    optimizer = rivals.hypergradient(keras.optimizers.SGD)(0.01)
    w, rate, last = START.astype(float), 0.01, np.zeros(3)
    for number, point in enumerate(steps_of(optimizer, 10)):
        gradient = BEND * w
        if number:
            cosine = gradient @ last / np.linalg.norm(gradient) / np.linalg.norm(last)
            rate *= 1 + 0.02 * cosine
        last = rate * gradient
        w = w - last
        assert point == pytest.approx(w, rel=1e-4)
    assert float(optimizer.learning_rate) == pytest.approx(rate, rel=1e-4)
    assert rate > 0.011


def linear(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])


def test_gen_takes_the_rate_at_the_bottom_of_the_parabola(rivals):
    """On a quadratic loss in one direction the parabola is exact: η* from any rate."""
    x = np.tile(np.array([[1.0, 0.0, 0.0]], np.float32), (64, 1))
    y = np.full((64, 1), 2.0, np.float32)
    model = linear()
    model.compile(keras.optimizers.SGD(0.01), "mse")
    gen = rivals.GeneralizedNewton(x, y, num_steps=10_000, seed=0)
    model.fit(x, y, 64, epochs=1, verbose=0, callbacks=[gen])
    # Loss (w − 2)²: the move D = η · 2 (2 − w) leaves (1 − 2η) (2 − w), which is (½ − η)/η times D.
    assert gen._rate == pytest.approx(0.9 * 0.01 + 0.1 * (0.5 - 0.01), rel=1e-3)


def test_schedule_free_is_evaluated_at_its_average(rivals):
    """It trains at y = 0.9 x + 0.1 z, z the optimizer's own iterate, and x is the average."""
    model = linear()
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.1)
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [2.0], [3.0]], np.float32)
    trained = []

    def keep(batch, logs):
        synchronize(model)
        trained.append(np.array(model.trainable_variables[0]))

    note = keras.callbacks.LambdaCallback(on_train_batch_end=keep)
    model.fit(x, y, 8, epochs=2, verbose=0, callbacks=[note, rivals.AveragedAtEnd([])])
    average, own = np.array(model.trainable_variables[0]), np.array(optimizer._momentums[0])
    assert np.abs(average - own).max() > 0.01
    assert 0.9 * average + 0.1 * own == pytest.approx(trained[-1], rel=1e-5)


def test_the_warm_up_takes_a_fiftieth_of_the_training(rivals):
    schedule = rivals.WarmedUp(lambda progress: 1.0 - progress)
    assert schedule(0.01) == pytest.approx(0.99 * (0.01125 / 0.02))
    assert schedule(0.02) == pytest.approx(0.98)
    assert schedule(0.5) == pytest.approx(0.5)
