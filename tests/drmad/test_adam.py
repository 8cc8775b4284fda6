"""Inner training with Adam: exact, and refused where it cannot be."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.drmad_cases import batches, build, data, tuner

from keras_qan import drmad

ADAM = keras.optimizers.Adam(0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-5)


def with_adam(optimizer=ADAM):
    def built(seed=0):
        model = build(seed)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(type(optimizer).from_config(optimizer.get_config()), loss)
        return model

    return built


def tuner_with_adam(hyperparameters, steps, **options):
    return tuner(
        hyperparameters,
        build_model=with_adam(),
        training=drmad.Training(steps=steps, optimizer="adam"),
        method="exact",
        **options,
    )


def unrolled_loss(numbers, steps):
    """The validation loss after Adam's steps, written out as Kingma & Ba 2015 have them."""
    penalties, rates, beta_1 = tf.exp(numbers[0]), tf.exp(numbers[1]), tf.sigmoid(numbers[2][0])
    examples = tf.exp(numbers[3])
    weights = [tf.convert_to_tensor(v) for v in build().trainable_variables]
    mean, square = ([tf.zeros_like(w) for w in weights] for _ in range(2))
    x, y = data()

    def losses(w, x, y):
        logits = tf.tanh(x @ w[0] + w[1]) @ w[2] + w[3]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)

    for step in range(steps):
        places = np.arange(8) + 8 * (step % 3)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            weighted = losses(weights, x[places], y[places]) * tf.gather(examples, places)
            loss = tf.reduce_sum(weighted) / 8
            loss += tf.reduce_sum(penalties[:20] * tf.reshape(weights[0], [-1]) ** 2)
            loss += tf.reduce_sum(penalties[20:] * tf.reshape(weights[2], [-1]) ** 2)
        gradients = tape.gradient(loss, weights)
        for n, g in enumerate(gradients):
            mean[n] = beta_1 * mean[n] + (1 - beta_1) * g
            square[n] = 0.95 * square[n] + 0.05 * g**2
            # Keras's epsilon is added before the roots are freed of their bias.
            correction = tf.sqrt(1 - 0.95 ** tf.constant(step + 1.0, "float64"))
            correction /= 1 - beta_1 ** (step + 1)
            weights[n] -= rates[n // 2, 0] * correction * mean[n] / (tf.sqrt(square[n]) + 1e-5)
    return tf.reduce_mean(losses(weights, *data(seed=1)))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [7, 300])
def test_exact_is_the_gradient_through_the_unrolled_training(steps):
    search = tuner_with_adam(
        [
            drmad.L2(per="weight", initial=3e-3),
            drmad.LearningRate(per="layer"),
            drmad.Momentum(),
            drmad.LossWeights(per="example", initial=0.9),
        ],
        steps,
    )
    numbers = [tf.constant(raw) for raw in search.initial_unconstrained()]
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        loss = unrolled_loss(numbers, steps)
    assert search.evaluate([n.numpy() for n in numbers]) == pytest.approx(float(loss), rel=1e-9)
    found = search.hypergradient()
    for name, expected in zip(found, tape.gradient(loss, numbers), strict=True):
        largest = np.abs(expected).max()
        assert largest > 1e-6, name
        np.testing.assert_allclose(found[name], expected, rtol=1e-8, atol=1e-8 * largest)


@pytest.mark.slow
def test_the_training_is_kerass_own_adam():
    x, y = data()
    model = with_adam()()
    model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0)
    search = tuner_with_adam([drmad.L2(initial=1e-8)], 12)
    expected = model.evaluate(*data(seed=1), verbose=0, return_dict=True)["loss"]
    assert search.evaluate(search.initial_unconstrained()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_an_input_that_is_always_zero_leaves_the_hypergradient_finite():
    x, y = data()
    x[:, 0] = 0.0
    search = tuner_with_adam([drmad.LearningRate("universal")], 5, train=batches(x, y))
    (found,) = search.hypergradient().values()
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 1e-6


def test_lines_are_refused():
    message = r"method is 'drmad_piecewise' with Training\(optimizer='adam'\); expected 'exact'"
    with pytest.raises(ValueError, match=message):
        tuner([drmad.L2()], training=drmad.Training(optimizer="adam"))
    search = tuner_with_adam([drmad.L2()], 2)
    with pytest.raises(ValueError, match=r"method is 'drmad' .* Give method='exact'"):
        search.hypergradient(method="drmad")


def test_what_this_adam_does_not_have_is_refused():
    build_model = with_adam(keras.optimizers.Adam(amsgrad=True))
    training = drmad.Training(optimizer="adam")
    with pytest.raises(ValueError, match="amsgrad=True; expected none"):
        tuner([drmad.L2()], build_model=build_model, training=training, method="exact")
    with pytest.raises(ValueError, match="optimizer is 'adagrad'; expected"):
        drmad.Training(optimizer="adagrad")


def test_settings_of_a_search_with_sgd_are_as_they_were():
    assert "optimizer" not in drmad.Training().config()
    assert drmad.Training(optimizer="adam").config()["optimizer"] == "adam"
