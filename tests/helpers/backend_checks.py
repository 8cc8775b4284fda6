"""What holds on every backend: each function is one check, and asserts.

    cd tests && PYTHONPATH=.. KERAS_BACKEND=jax python -m helpers.backend_checks [NAME ...]

runs them in one process and prints a line of JSON for each: its name, and what went wrong. There,
without TensorFlow as the backend, nothing can import it. With `--strict` it ends at the first
check that fails.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

if __name__ == "__main__" and os.environ.get("KERAS_BACKEND") != "tensorflow":
    sys.modules["tensorflow"] = None  # type: ignore[assignment]

import keras
import numpy as np
from helpers import recorded_trainings

import keras_qan
import net2net
from keras_qan import DQN, CurveStopping, Decay, Hold, QANCallback, Raise, TrainingDynamics
from keras_qan.actions import Cosine
from keras_qan.agents import ConstantAgent
from keras_qan.diagnostics import SlopeRatio
from keras_qan.early_stopping import CurveHistory
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.variables import synchronize
from keras_qan.utils.backend import backend_name

#: How far the log validation loss may end from the recorded one: initial weights are other ones.
SPREAD = {"good": 0.5, "far too low": 0.5, "diverging": 0.7}


def data() -> tuple[np.ndarray, np.ndarray]:
    """A line with noise, 128 examples of 4 numbers."""
    x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
    noise = np.random.default_rng(1).normal(size=(128, 1)).astype("float32")
    return x, 2.0 * x[:, :1] + 0.1 * noise


def student(optimizer: Any = None, units: int = 8, **compiled: Any) -> keras.Model:
    """A small network for `data`; SGD at 0.01 unless told otherwise."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dense(1, dtype="float32", name="output"),
        ]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.01), "mse", **compiled)
    return model


def fit(model: keras.Model, *callbacks: Any, epochs: int = 4, **named: Any) -> list[float]:
    """Train for 8 steps an epoch and return the losses of the epochs."""
    x, y = data()
    settings = {"batch_size": 16, "epochs": epochs, "verbose": 0, "shuffle": False, **named}
    losses: list[float] = model.fit(x, y, callbacks=list(callbacks), **settings).history["loss"]
    return losses


class Watched(QANCallback):
    """A bare callback that keeps its decisions."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.decisions: list[Any] = []

    def _record(self, decision: Any) -> None:
        self.decisions.append(decision)
        super()._record(decision)


def takes_decisions_and_learns(model: keras.Model, **named: Any) -> list[float]:
    """Assert that a bare callback decides and moves the rate, and the loss falls."""
    callback = Watched()
    losses = fit(model, callback, epochs=18, **named)  # more than 100 steps
    assert len(callback.decisions) >= 5, len(callback.decisions)
    rates = {decision.rate for decision in callback.decisions}
    assert len(rates) > 3, rates
    assert all(math.isfinite(rate) for rate in rates)
    assert losses[-1] < losses[0], losses
    return losses


def check_bare_callback() -> None:
    takes_decisions_and_learns(student(), validation_split=0.25)


def check_rescue() -> None:
    rate = 1e3
    alone = fit(student(keras.optimizers.SGD(rate)), epochs=8)
    assert not alone[-1] < 1e3, alone
    callback = Watched()
    steered = fit(student(keras.optimizers.SGD(rate)), callback, epochs=8)
    assert steered[-1] < 5.0, steered
    assert callback.decisions[-1].rate < rate / 10


class StepsBack(keras.callbacks.Callback):
    """Takes a snapshot after a few steps, and goes back to it twice."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.access = ModelAccess(self.model, [TrainingDynamics()], can_step_back=True)
        self.access.snapshot.begin()
        self.number = -1
        self.differed: list[bool] = []

    def weights(self) -> list[np.ndarray]:
        model = self.model
        kept = [*model.trainable_variables, *model.optimizer.variables[2:]]
        return [np.array(keras.ops.convert_to_numpy(v.value)) for v in kept]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.number += 1
        self.access.synchronize()
        if self.number == 2:
            self.access.snapshot.take()
            self.kept = self.weights()
        if self.number in (5, 9):
            now = self.weights()
            self.differed.append(any((a != b).any() for a, b in zip(now, self.kept, strict=True)))
            self.access.snapshot.restore()
            for restored, kept in zip(self.weights(), self.kept, strict=True):
                np.testing.assert_array_equal(restored, kept)


def check_exact_restore() -> None:
    for optimizer in (keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.01)):
        callback = StepsBack()
        fit(student(optimizer), callback, epochs=2)
        assert callback.differed == [True, True]


def check_steps_per_execution() -> None:
    if backend_name() == "torch":  # Keras knows none there
        with raises(ValueError, "must be 1 with the PyTorch backend"):
            fit(student(steps_per_execution=4), QANCallback())
        return
    for steps in (4, 3):
        takes_decisions_and_learns(student(steps_per_execution=steps))


def check_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = student(keras.optimizers.Adam(0.01))
        assert hasattr(model.optimizer, "inner_optimizer")
        takes_decisions_and_learns(model)
        keras.config.set_dtype_policy("mixed_bfloat16")
        takes_decisions_and_learns(student())
    finally:
        keras.config.set_dtype_policy("float32")


def check_gradient_accumulation() -> None:
    model = student(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2))
    takes_decisions_and_learns(model)


def check_loss_scale_optimizer() -> None:
    inner = keras.optimizers.Adam(0.01)
    takes_decisions_and_learns(student(keras.optimizers.LossScaleOptimizer(inner)))


def check_averaged_weights() -> None:
    takes_decisions_and_learns(student(keras.optimizers.Adam(0.01, use_ema=True)))


def check_jit_compile() -> None:
    if backend_name() != "torch":  # there it is torch.compile, which wants a C++ compiler
        takes_decisions_and_learns(student(jit_compile=True))


def check_run_eagerly() -> None:
    takes_decisions_and_learns(student(run_eagerly=True))


def check_multi_optimizer() -> None:
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        return
    model = student()
    parts = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.02))
    parts["output.*"] = keras.optimizers.SGD(0.01)
    model.compile(keras.optimizers.MultiOptimizer(parts), "mse")
    takes_decisions_and_learns(model)
    before = ModelAccess(model, []).read_rates()
    rates = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: rates.append(ModelAccess(model, []).read_rates())
    )
    fit(model, QANCallback(actions=[Decay(0.5)], agent=ConstantAgent(), decide_every=16), note)
    np.testing.assert_allclose(rates[-1] / before, 0.25, rtol=1e-5)
    np.testing.assert_allclose(ModelAccess(model, []).read_rates(), before, rtol=1e-5)


def check_rate_that_cannot_be_assigned() -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    with raises(ValueError, "expected a number"):
        fit(student(keras.optimizers.SGD(schedule)), QANCallback())


def check_directory_goes_on() -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TensorBoard is not installed")
        for number in (1, 2):
            callback = QANCallback(directory=folder)
            fit(student(), callback)
            assert callback.episodes == number
            del callback
        frozen = QANCallback.load(folder, explore=False)
        assert fit(student(), frozen)[-1] < 5.0
        lines = (Path(folder) / "episodes.jsonl").read_text().splitlines()
        assert len(lines) == 2


def check_curve_stopping() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for rate in (1e-2, 2e-2, 3e-2, 1e-5):
            stopper = CurveStopping(history=folder, monitor="val_loss", confidence=0.9)
            fit(student(keras.optimizers.SGD(rate)), stopper, validation_split=0.25)
        assert len(CurveHistory(folder).curves()) == 4


def check_net2net() -> None:
    x, _ = data()
    model = student(keras.optimizers.Adam(0.01))
    fit(model)
    grown = net2net.widen(model, "hidden", 16)
    np.testing.assert_allclose(
        grown.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )
    # A network that is trained already keeps its rate.
    callback = Watched()
    losses = fit(grown, callback)
    assert len(callback.decisions) >= 6, len(callback.decisions)
    assert losses[-1] < losses[0], losses


def check_recorded_trainings() -> None:
    for name, record in recorded_trainings.recorded().items():
        before = record["val_loss"][-1]
        # They were recorded along a cosine, and without the limit of raises.
        callback = QANCallback(raises_by_slope=False, schedule=Cosine())
        after = recorded_trainings.train(name, [callback])["val_loss"][-1]
        difference = abs(math.log(after) - math.log(before))
        assert difference < SPREAD[name], (name, before, after)


def check_learning_says_what_it_needs() -> None:
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *more: (
        None if name == "tf_agents" else find(name, *more)
    )
    try:
        with raises(ImportError, "lacks .*tf_agents.*pip install"):
            callback = QANCallback(actions=[Decay(0.5), Hold(), Raise(2.0)], agent=DQN())
            fit(student(), callback)
    finally:
        importlib.util.find_spec = find


def check_what_needs_tensorflow_says_so() -> None:
    if backend_name() == "tensorflow":
        return
    for name in ("selection", "drmad", "MetaMomentum", "MetaQNN", "Rally"):
        with raises(RuntimeError, f"keras_qan.{name} needs Keras on TensorFlow.*KERAS_BACKEND"):
            getattr(keras_qan, name)
        if name.islower():
            with raises(RuntimeError, f"keras_qan.{name} needs Keras on TensorFlow"):
                importlib.import_module(f"keras_qan.{name}")


def check_two_devices() -> None:
    if backend_name() != "jax":
        return
    import jax

    assert len(jax.devices()) == 2
    plain = takes_decisions_and_learns(student())
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        spread = takes_decisions_and_learns(student())
        np.testing.assert_allclose(spread, plain, rtol=1e-3)
        check_exact_restore()
        check_rescue()
    finally:
        keras.distribution.set_distribution(None)


def check_sharded_weights() -> None:
    if backend_name() != "jax":
        return
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"])
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*hidden/kernel"] = (None, "model")
    distribution = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    plain = takes_decisions_and_learns(student())
    keras.distribution.set_distribution(distribution)
    try:
        model = student()
        kernel = model.get_layer("hidden").kernel
        assert kernel.value.sharding.shard_shape((4, 8)) == (4, 4)
        np.testing.assert_allclose(takes_decisions_and_learns(model), plain, rtol=1e-3)
        assert kernel.value.sharding.shard_shape((4, 8)) == (4, 4)
        check_exact_restore()
    finally:
        keras.distribution.set_distribution(None)


class KeepsWeights(keras.callbacks.Callback):
    """Keeps the weights before the first step and after each."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.weights = [self.flat()]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        synchronize(self.model)
        self.weights.append(self.flat())

    def flat(self) -> np.ndarray:
        values = [keras.ops.convert_to_numpy(w.value) for w in self.model.trainable_variables]
        return np.concatenate([np.ravel(value) for value in values]).astype(float)


def check_slope_ratio() -> None:
    """Compare the ratio with that of a linear model's gradients, which are known."""
    x, y = data()
    x, y = x[:96], y[:96]
    design = np.concatenate([x, np.ones((96, 1))], axis=1).reshape(6, 16, 5)
    for optimizer in (
        keras.optimizers.SGD(0.05),
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.optimizers.AdamW(0.1, weight_decay=0.1),
        keras.optimizers.RMSprop(0.05),
        keras.optimizers.Lion(0.02),
    ):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        kept, watch = KeepsWeights(), SlopeRatio(every=10, window=5)
        settings = {"batch_size": 16, "shuffle": False, "verbose": 0}
        history = model.fit(x, y, callbacks=[kept, watch], **settings).history
        weights = np.array(kept.weights)
        errors = np.einsum("nbi,ni->nb", design, weights[:-1]) - y.reshape(6, 16)
        gradients = np.einsum("nbi,nb->ni", design, errors) / 8.0
        decay = (optimizer.weight_decay or 0.0) * float(optimizer.learning_rate)
        steps = weights[1:] - weights[:-1] * (1.0 - decay)
        ends = np.sum(gradients[2:] * steps[1:-1])
        expected = ends / np.sum(gradients[1:-1] * steps[1:-1])
        found = history["slope_ratio"][0]
        assert abs(found - expected) < 2e-3 * max(1.0, abs(expected)), (optimizer, found, expected)


def check_slope_policy() -> None:
    """From a rate that is far too low and one that is far too high the loss falls."""
    for optimizer in (keras.optimizers.Adam(1e-5), keras.optimizers.SGD(100.0, momentum=0.9)):
        callback = Watched(policy="slope")
        losses = fit(student(optimizer), callback, epochs=12)
        assert losses[-1] < 0.3 * losses[0] or losses[-1] < 0.3, losses
        ratios = [decision.slope[0] for decision in callback.decisions[1:]]
        assert sum(math.isfinite(ratio) for ratio in ratios) > len(ratios) / 2, ratios


class raises:  # noqa: N801  (pytest is not asked for outside of the tests)
    """Assert that the block raises an error whose message matches."""

    def __init__(self, kind: type[Exception], pattern: str) -> None:
        self.kind, self.pattern = kind, pattern

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        """Look at the error."""
        import re

        assert kind is not None, f"nothing was raised; expected {self.pattern!r}"
        assert issubclass(kind, self.kind), error
        assert re.search(self.pattern, str(error)), error
        return True


CHECKS = {
    name.removeprefix("check_"): function
    for name, function in list(globals().items())
    if name.startswith("check_")
}

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    is_strict = "--strict" in sys.argv
    for asked in [name for name in sys.argv[1:] if name != "--strict"] or CHECKS:
        wrong = None
        try:
            CHECKS[asked]()
        except Exception:
            wrong = traceback.format_exc()
        print(json.dumps({"check": asked, "wrong": wrong}), flush=True)
        if wrong and is_strict:
            sys.exit(wrong)
