"""The cost of QAN: a decision and its parts, a whole `fit` with and without, and memory.

    python benchmarks/overhead/run.py

`fit` with and without the callback is timed in turn, pair by pair, in one process, so that the
ratio holds when the machine's speed drifts; figures are medians with bootstrap 95 % intervals.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import machine
from benchmarks.common.tables import format_header, format_interval, format_row
from keras_qan import QANCallback, WeightStatistics, data, models
from keras_qan.agents import DQN
from keras_qan.observations.weight_statistics import kernel_features

_PAIRS = flags.DEFINE_integer("pairs", 7, "pairs of fits to time")
_EPOCHS = flags.DEFINE_integer("epochs", 5, "epochs of a fit on 10,000 images")
_CALLS = flags.DEFINE_integer("calls", 300, "calls to time each part with")
_DECISIONS = flags.DEFINE_integer("decisions", 2000, "decisions to watch the memory over")


def student() -> keras.Model:
    """The MNIST network: two convolutions with 16 + 512 single kernels."""
    model = models.build("cnn", (28, 28, 1), 10, seed=0)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def images() -> tuple[np.ndarray, np.ndarray]:
    """10,000 MNIST images, or noise of that size where MNIST is not at hand: time is the same."""
    try:
        train = data.load("mnist", train_fraction=0.2).train
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        return rng.normal(size=(10_000, 28, 28, 1)).astype("float32"), rng.integers(0, 10, 10_000)
    return train.x, train.y


def milliseconds(call: Callable[[], object], calls: int) -> np.ndarray:
    """Milliseconds of each of so many calls, float64 `[calls]`."""
    for _ in range(20):
        call()
    took = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return 1e3 * np.asarray(took)


def in_numpy(kernel: np.ndarray) -> np.ndarray:
    """The same 192 statistics with NumPy and SciPy, kernel by kernel, as the original had them."""

    def describe(values: np.ndarray) -> np.ndarray:
        central = [np.mean((values - values.mean()) ** p) for p in range(1, 6)]
        shape = [stats.skew(values), stats.kurtosis(values)]
        quartiles = np.quantile(values, [0.25, 0.5, 0.75])
        return np.asarray([values.mean(), *quartiles, values.std(), *shape, *central])

    def pool(sets: list[np.ndarray]) -> np.ndarray:
        found = np.stack([describe(values.ravel()) for values in sets])
        return np.concatenate(
            [f(found, axis=0) for f in (np.mean, np.median, np.std, np.max, np.min)]
        )

    inputs, outputs = kernel.shape[-2:]
    rows = [kernel[..., i, :] for i in range(inputs)]
    columns = [kernel[..., j] for j in range(outputs)]
    singles = [kernel[..., i, j] for i in range(inputs) for j in range(outputs)]
    return np.concatenate([describe(kernel.ravel()), pool(rows), pool(columns), pool(singles)])


def report(name: str, took: np.ndarray) -> None:
    """Prints one row."""
    high_end = f"{np.quantile(took, 0.95):.2f}"
    print(format_row(name, f"{np.median(took):.2f}", format_interval(took, ".2f"), high_end))


def parts_of_a_decision(calls: int) -> None:
    """Each part alone, and the whole in one call."""
    print(format_header("part", "median ms", "95 % of the mean", "95th percentile"))
    model = student()
    kernels = [layer.kernel.value for layer in model.layers if "conv" in layer.name]
    features = tf.function(kernel_features)
    for kernel, number in zip(kernels, (16, 512), strict=True):
        report(f"features of {number} kernels", milliseconds(lambda k=kernel: features(k), calls))
        host = kernel.numpy()
        slow = milliseconds(lambda h=host: in_numpy(h), max(calls // 20, 5))
        report(f"the same in NumPy, {number} kernels", slow)
    agent = DQN()
    agent.build(199, 5)
    act = tf.function(lambda o, e: agent.act(o, e), autograph=False)
    learn = tf.function(lambda o, a, r, d: agent.learn(o, a, r, d), autograph=False)
    observation, yes = tf.random.stateless_normal([199], [0, 1]), tf.constant(True)
    report("policy", milliseconds(lambda: act(observation, yes), calls))
    action, one = tf.constant(1, tf.int64), tf.constant(1.0)
    for step in range(400):
        learn(observation, action, one, tf.constant(float(step % 20 != 19)))
    report(
        "replay write and two updates of 128 transitions",
        milliseconds(lambda: learn(observation, action, one, one), calls),
    )
    for name, layers in (("16 kernels", None), ("528 kernels", [0, 1])):
        report(f"whole decision, {name}", whole_decisions(layers, calls))


def steady_callback(layers: list[int] | None) -> QANCallback:
    """A callback whose agent has begun to learn."""
    observations = list(QANCallback(policy=None).settings.observations)
    observations[0] = WeightStatistics(layers)
    # Rates that no training breaks off at; which actions are taken does not change what they cost.
    callback = QANCallback(observations=observations, decide_every=1, rate_bounds=(1e-6, 0.02))
    x, y = images()
    student().fit(x[:16_00], y[:16_00], batch_size=8, verbose=0, callbacks=[callback])
    callback._state.settings.decide_every = None
    return callback


def whole_decisions(layers: list[int] | None, calls: int) -> np.ndarray:
    """Milliseconds of each decision within `fit`, learning included, as the callback takes them."""
    callback = steady_callback(layers)
    callback._state.settings.decide_every = 2
    took: list[float] = []
    decide = callback._controller.decide

    def timed(*arguments: object) -> object:
        start = time.perf_counter()
        found = decide(*arguments)
        took.append(1e3 * (time.perf_counter() - start))
        return found

    callback._controller.decide = timed  # type: ignore[method-assign]
    x, y = images()
    student().fit(x[: 16 * calls], y[: 16 * calls], batch_size=8, verbose=0, callbacks=[callback])
    return np.asarray(took[20:])


def whole_fits(layers: list[int] | None, pairs: int, epochs: int) -> None:
    """`fit` with and without, in turn."""
    x, y = images()
    held_out = (x[:1000], y[:1000])
    callback = steady_callback(layers)
    plain, steered = student(), student()
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    for pair in range(pairs + 1):
        order = [("without", plain, []), ("with", steered, [callback])]
        for name, model, callbacks in order if pair % 2 else reversed(order):
            model.optimizer.learning_rate = 1e-3
            gc.collect()
            start = time.perf_counter()
            model.fit(
                x,
                y,
                batch_size=128,
                epochs=epochs,
                validation_data=held_out,
                verbose=0,
                callbacks=callbacks,
            )
            if pair:  # the first pair compiles
                seconds[name].append(time.perf_counter() - start)
    ratios = np.asarray(seconds["with"]) / np.asarray(seconds["without"])
    watched = "16 kernels" if layers is None else "528 kernels"
    medians = (f"{np.median(seconds[name]):.2f}" for name in ("without", "with"))
    ratio = (f"{np.median(ratios):.3f}", format_interval(ratios, ".3f"))
    print(format_row(watched, *medians, *ratio))


def first_use() -> None:
    """The one-time cost of the first `fit` of a process: importing TF-Agents and compiling."""
    x, y = images()
    model = student()
    model.fit(x[:256], y[:256], batch_size=128, verbose=0)
    callback = QANCallback(policy=None)
    start = time.perf_counter()
    model.fit(x[:256], y[:256], batch_size=128, verbose=0, callbacks=[callback])
    first = time.perf_counter() - start
    start = time.perf_counter()
    model.fit(x[:256], y[:256], batch_size=128, verbose=0, callbacks=[callback])
    print(f"First use in a process: {first - (time.perf_counter() - start):.1f} s, once.")


def memory(decisions: int) -> None:
    """Resident memory before and after many decisions with a full replay memory."""
    callback = QANCallback(
        decide_every=1, agent=DQN(replay_capacity=1000), rate_bounds=(1e-6, 0.02)
    )
    x = np.zeros((8 * decisions // 2, 28, 28, 1), "float32")
    y = np.zeros(len(x), "int64")
    model = student()
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[callback])
    before = _resident()
    for _ in range(2):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[callback])
    after = _resident()
    rows = callback.agent.arrays()["replay/observation"].shape[0]
    print(
        f"{decisions} decisions after the first {decisions // 2}: {after - before:+.1f} MiB "
        f"resident ({before:.0f} → {after:.0f}); replay memory holds {rows} of 1000 transitions."
    )


def _resident() -> float:
    gc.collect()
    return machine.resident_bytes() / 2**20


def main(_: list[str]) -> None:
    """Prints everything."""
    print(f"{machine.describe()}.\n")
    first_use()
    print()
    parts_of_a_decision(_CALLS.value)
    print("\n" + format_header("watched", "s without", "s with", "ratio (median)", "95 %"))
    for layers in (None, [0, 1]):
        whole_fits(layers, _PAIRS.value, _EPOCHS.value)
    print()
    memory(_DECISIONS.value)


if __name__ == "__main__":
    app.run(main)
