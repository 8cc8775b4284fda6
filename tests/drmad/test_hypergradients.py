"""Every method against references that share no code with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.drmad_cases import ALL, build, data, tuner, unrolled_loss

from keras_qan import drmad


@pytest.fixture(scope="module")
def everything():
    return tuner(method="exact")


@pytest.fixture(scope="module")
def by_tape(everything):
    numbers = [tf.constant(raw) for raw in everything.initial_unconstrained()]
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        loss = unrolled_loss(numbers)
    return [g.numpy() for g in tape.gradient(loss, numbers)]


def flat(found):
    return np.concatenate([np.ravel(part) for part in found])


@pytest.mark.slow
def test_exact_is_the_gradient_through_the_unrolled_training(everything, by_tape):
    found = everything.hypergradient()
    assert [part.shape for part in found.values()] == [part.shape for part in by_tape]
    for name, part, expected in zip(found, found.values(), by_tape, strict=True):
        assert np.abs(expected).max() > 1e-6, name
        np.testing.assert_allclose(part, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("segment", [1, 2, 7])
def test_checkpoints_do_not_change_the_exact_hypergradient(everything, by_tape, segment):
    found = everything.hypergradient(method=drmad.Exact(segment=segment))
    np.testing.assert_allclose(flat(found.values()), flat(by_tape), rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_drmad_along_the_true_trajectory_is_exact(everything, by_tape):
    every_step = drmad.Drmad(legs=tuple(range(1, 7)))
    found = everything.hypergradient(method=every_step)
    np.testing.assert_allclose(flat(found.values()), flat(by_tape), rtol=1e-8, atol=1e-12)


def test_more_legs_come_closer_to_the_exact_hypergradient(everything):
    errors = [1.0 - everything.check(7, method=drmad.Drmad(legs=n)).cosine for n in (1, 2, 7)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] == pytest.approx(0.0, abs=1e-12)


def test_exact_agrees_with_finite_differences(everything):
    numbers = everything.initial_unconstrained()
    found = list(everything.hypergradient().values())
    rng = np.random.default_rng(3)
    directions = [rng.normal(size=raw.shape) for raw in numbers]
    ends = [
        everything.evaluate([r + h * d for r, d in zip(numbers, directions, strict=True)])
        for h in (1e-5, -1e-5)
    ]
    slope = sum(float(np.sum(g * d)) for g, d in zip(found, directions, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


# A linear model of one weight for each input and the mean squared error: a quadratic.


def linear(seed=0):
    del seed
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="float64"),
            keras.layers.Dense(1, use_bias=False, dtype="float64", name="linear"),
        ]
    )
    model.set_weights([np.array([[0.5], [-0.3], [0.2]])])
    model.compile(loss="mean_squared_error")
    return model


def regression(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(10, 3))
    return x, x @ np.array([[1.0], [0.0], [-1.0]]) + 0.3 * rng.normal(size=(10, 1))


def linear_tuner(hyperparameters, steps, **options):
    return drmad.Tuner(
        linear,
        tf.data.Dataset.from_tensor_slices(regression(0)).batch(10),
        regression(1),
        hyperparameters,
        training=drmad.Training(steps=steps, learning_rate=0.2, momentum=0.6),
        **options,
    )


def mse_gradient(w, x, y):
    return 2.0 * x.T @ (x @ w - y) / len(x)


@pytest.mark.slow
def test_a_single_step_by_hand():
    """w₁ = s w₀ − α (1 − γ) (g + 2 λ s w₀); the derivatives written out."""
    rate, momentum, penalty, scale = 0.3, 0.8, 0.05, 1.3
    found = linear_tuner(
        [
            drmad.L2(per="weight", initial=penalty),
            drmad.L1(per="universal", initial=penalty),
            drmad.LearningRate(per="universal", initial=rate),
            drmad.Momentum(initial=momentum),
            drmad.InitialScale(per="universal", initial=scale),
        ],
        steps=1,
        method="exact",
    ).hypergradient()
    (x, y), (x_val, y_val) = regression(0), regression(1)
    start = np.array([[0.5], [-0.3], [0.2]])
    w = scale * start
    g = mse_gradient(w, x, y) + 2 * penalty * w + penalty * np.sign(w)
    end = w - rate * (1 - momentum) * g
    dw = mse_gradient(end, x_val, y_val)
    hessian = 2.0 * x.T @ x / len(x) + 2.0 * penalty * np.eye(3)
    expected = [
        # ∂w₁/∂λ = −α (1 − γ) 2 w, times λ for the logarithm
        (-rate * (1 - momentum) * 2 * w * dw).ravel() * penalty,
        [np.sum(-rate * (1 - momentum) * np.sign(w) * dw) * penalty],
        [[np.sum(-(1 - momentum) * g * dw) * rate]],
        # ∂w₁/∂γ = α g, times γ (1 − γ) for the logit
        [np.sum(rate * g * dw) * momentum * (1 - momentum)],
        # ∂w₁/∂s = (I − α (1 − γ) H) w₀
        [np.sum((start - rate * (1 - momentum) * hessian @ start) * dw) * scale],
    ]
    for part, by_hand in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(part, by_hand, rtol=1e-10)


@pytest.mark.slow
def test_on_a_quadratic_the_line_carries_the_state_back_without_error():
    """H is the same everywhere, so δw at the start is exact however the weights are guessed."""
    hyperparameters = [drmad.InitialScale(per="universal"), drmad.L2(initial=0.01)]
    search = linear_tuner(hyperparameters, steps=12)
    exact = search.hypergradient(method="exact")
    line = search.hypergradient(method="drmad")
    np.testing.assert_allclose(
        line["InitialScale(per='universal')"], exact["InitialScale(per='universal')"], rtol=1e-10
    )
    # The penalty's own derivative does see the weights: close, and not equal.
    a, b = line["L2(per='layer')"], exact["L2(per='layer')"]
    assert np.sign(a) == np.sign(b)
    assert a != pytest.approx(b, rel=1e-6)


@pytest.mark.slow
def test_implicit_is_the_ridge_regressions_derivative_once_it_has_converged():
    """w* = (A + λ I)⁻¹ b with A = xᵀx / n; dL/dλ = −∇Lᵀ (A + λ I)⁻¹ w*."""
    penalty = 0.1
    search = linear_tuner([drmad.L2(per="universal", initial=penalty)], steps=400)
    found = search.hypergradient(method=drmad.Implicit(terms=400, batches=1))
    (x, y), (x_val, y_val) = regression(0), regression(1)
    a = x.T @ x / len(x) + penalty * np.eye(3)
    w = np.linalg.solve(a, x.T @ y / len(x))
    by_value = -mse_gradient(w, x_val, y_val).T @ np.linalg.solve(a, w)
    expected = (by_value * penalty).item()
    assert found["L2(per='universal')"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_fewer_steps_in_reverse_come_near_the_full_number():
    """On a quadratic, where the training is slow enough for its steps to be taken together."""
    search = drmad.Tuner(
        linear,
        tf.data.Dataset.from_tensor_slices(regression(0)).batch(10),
        regression(1),
        [drmad.L2(initial=0.01), drmad.LearningRate("universal", initial=0.02)],
        training=drmad.Training(steps=100, momentum=0.3),
    )
    full = flat(search.hypergradient(method="drmad").values())
    coarse = flat(search.hypergradient(method=drmad.Drmad(reverse_steps=25)).values())
    np.testing.assert_allclose(coarse, full, rtol=0.15)


@pytest.mark.slow
def test_the_training_is_keras_own_sgd_with_momentum():
    x, y = data()
    model = build()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    x_val, y_val = data(seed=1)
    expected = model.evaluate(x_val, y_val, verbose=0, return_dict=True)["loss"]
    # The compiled rate of 0.05 is α = 0.05 / (1 − 0.5).
    search = tuner([drmad.L2(initial=1e-8)], steps=6)
    assert search.evaluate(search.initial_unconstrained()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_large_tensors_do_not_trip_over_the_graph_rewriters_temporary_variables():
    before = tf.config.optimizer.get_experimental_options()

    def wide(seed):
        del seed
        model = keras.Sequential(
            [keras.Input((784,)), keras.layers.Dense(50, "relu"), keras.layers.Dense(10)]
        )
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(15_000, 784)).astype("float32"), rng.integers(0, 10, 15_000)
    search = drmad.Tuner(
        wide,
        (x, y),
        (x[:2_000], y[:2_000]),
        [drmad.L2(per="weight")],
        training=drmad.Training(steps=150, batch_size=50),
    )
    found = search.hypergradient(method="exact")
    assert np.isfinite(found["L2(per='weight')"]).all()
    after = tf.config.optimizer.get_experimental_options()
    assert [o.pop("disable_meta_optimizer", False) for o in (before, after)] == [False, False]
    assert after == before


def test_all_names_are_tuned(everything):
    assert list(everything.values) == [h.name for h in ALL]
    assert everything.num_hyperparameters == 35 + 2 + 6 + 2 + 1 + 24 + 2
