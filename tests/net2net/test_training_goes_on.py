"""After growth, training goes on: no jump of the loss, and no rise that the old model lacks."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import net2net

L = keras.layers
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.02, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.002),
    "adamw": lambda: keras.optimizers.AdamW(0.002),
}
GROWTHS = {
    "wider": lambda m: net2net.grow(m, {"first": 12, "second": 24, "third": 64}),
    "deeper": lambda m: net2net.grow(m, deepen=["second", "third"]),
    "both": lambda m: net2net.grow(m, {"second": 24, "third": 64}, deepen=["third"]),
}


def teacher(optimizer):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(8, 3, padding="same", name="first"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2D(16, 3, strides=2, activation="relu", name="second"),
            L.Flatten(),
            L.Dense(32, "relu", name="third"),
            L.Dense(10, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def train(model, x, y, steps, seed):
    """Train, and return the first step's own loss and the loss on all data every five steps."""
    generator = np.random.default_rng(seed)
    first, found = None, [full_loss(model, x, y)]
    for step in range(1, steps + 1):
        batch = generator.choice(len(x), 64, replace=False)
        loss = float(model.train_on_batch(x[batch], y[batch]))
        first = loss if first is None else first
        if step % 5 == 0:
            # One batch's loss says more about the batch than about the model.
            found.append(full_loss(model, x, y))
    return first, np.array(found)


def full_loss(model, x, y):
    chances = model.predict_on_batch(x)[np.arange(len(y)), y]
    return float(-np.log(chances + 1e-7).mean())


@pytest.fixture(
    scope="module",
    params=["momentum", "adam", pytest.param("adamw", marks=pytest.mark.stress)],
)
def trained(request):
    """One teacher's growths, and what it does itself without growth."""
    data = load_digits()
    x, y = data.images[..., None].astype("float32") / 16.0, data.target
    model = teacher(OPTIMIZERS[request.param]())
    train(model, x, y, 60, seed=0)
    grown = {name: grow(model) for name, grow in GROWTHS.items()}
    return grown, train(model, x, y, 50, seed=1), x, y


@pytest.mark.slow
@pytest.mark.parametrize("growth", GROWTHS)
def test_the_loss_does_not_jump_and_does_not_rise_more_than_without_growth(trained, growth):
    grown, (plain_first, plain), x, y = trained
    grown_first, wide = train(grown[growth], x, y, 50, seed=1)
    assert abs(grown_first - plain_first) <= 1e-4
    assert wide.max() - wide[0] <= plain.max() - plain[0] + 1e-3
