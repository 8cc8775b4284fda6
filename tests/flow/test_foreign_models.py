"""Models and tools that we did not write, with our callback in their `fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_qan import QANCallback


@pytest.mark.stress
def test_a_keras_application_is_steered():
    # The smallest of them in layers, and an optimizer that is traced quickly.
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=4)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 32, 32, 3)).astype("float32"), rng.integers(0, 4, 48)
    shipped = QANCallback()
    model.fit(x, y, epochs=2, batch_size=8, verbose=0, validation_split=0.25, callbacks=[shipped])
    assert shipped.episodes == 0
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    callback = QANCallback(policy=None)
    model.fit(x, y, epochs=2, batch_size=8, verbose=0, validation_split=0.25, callbacks=[callback])
    assert callback.agent.arrays()["replay/written"] == 10  # 36 examples, 5 steps an epoch
    # Its first convolution is watched: 192 statistics, the rate, six numbers of the training.
    assert callback.agent.arrays()["replay/observation"].shape[1] == 199


@pytest.mark.slow
def test_keras_tuner_drives_one_agent_through_all_its_trials(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")

    def build(hp):
        model = keras.Sequential([keras.layers.Input((8,))])
        model.add(keras.layers.Dense(hp.Int("units", 4, 16), activation="relu"))
        model.add(keras.layers.Dense(1))
        model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "mse")
        return model

    tuner = keras_tuner.RandomSearch(
        build, objective="val_loss", max_trials=2, directory=tmp_path, project_name="search", seed=0
    )
    x = np.random.default_rng(0).normal(size=(120, 8)).astype("float32")
    callback = QANCallback(tmp_path / "qan")
    tuner.search(x, 2.0 * x[:, :1], epochs=2, validation_split=0.2, verbose=0, callbacks=[callback])
    assert callback.episodes == 2
    assert QANCallback.load(tmp_path / "qan").episodes == 2


def test_a_data_set_without_one_of_its_classes_is_steered():
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    y = rng.choice([0, 1, 3], 64)  # no example of class 2
    history = model.fit(rng.normal(size=(64, 5)), y, epochs=2, verbose=0, callbacks=[QANCallback()])
    assert np.isfinite(history.history["loss"]).all()
