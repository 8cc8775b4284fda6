"""The cost of spreading one model over devices and workers, and the differences it makes.

    python benchmarks/distribute/run.py --part=devices
    unshare -n sh -c 'ip link set lo up; python benchmarks/distribute/run.py --part=workers'
    python benchmarks/distribute/run.py --part=report

devices: one process, one CPU device against two logical ones: the losses of 50 steps, and which
share of a `fit` the callback takes. workers: two processes on 127.0.0.1; bytes are those of the
loopback interface, so it runs in a network of its own (as root), where nobody else talks. Every
row is written as it is found; those that are there are not measured again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.records import Records, Row
from benchmarks.common.tables import format_header, format_interval, format_mean, format_row
from keras_qan import QANCallback, distribute, models

_HERE = Path(__file__).parent
_PART = flags.DEFINE_enum("part", "report", ["devices", "workers", "worker", "report"], "which")
_OUTPUT = flags.DEFINE_string("output", str(_HERE / "results.jsonl"), "where rows go")
_PAIRS = flags.DEFINE_integer("pairs", 8, "pairs of fits to take the callback's share in")
_STEPS = flags.DEFINE_integer("steps", 50, "steps whose losses are compared")

#: What the losses are compared under.
HIGHER = "no callback, a rate of 0.125"
LABELS = ("no callback", HIGHER, "shipped policy")

#: Hidden units of the networks whose exchange is measured.
WIDTHS = (64, 512, 2048)

#: Steps of an epoch there, the first of three not measured.
WORKER_STEPS = 30


def read() -> list[Row]:
    """The rows found so far."""
    return Records(_OUTPUT.value).rows


def keep(**row: Any) -> None:
    """Adds a row."""
    Records(_OUTPUT.value).add(row)
    print(row, flush=True)


def is_known(**key: Any) -> bool:
    """True if there is a row with these values."""
    return any(all(row.get(name) == value for name, value in key.items()) for row in read())


# One process.


def images(number: int) -> tf.data.Dataset:
    """Made-up images of ten classes, that can be learned: batches of 64."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, number)
    means = rng.normal(size=(10, 16, 16, 1))
    x = (means[y] + 2.0 * rng.normal(size=(number, 16, 16, 1))).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(64, drop_remainder=True)


def student(strategy: tf.distribute.Strategy, name: str = "cnn") -> keras.Model:
    """The package's network under a strategy."""
    with strategy.scope():
        model = models.build(name, (16, 16, 1), 10, seed=0)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    return model


class Losses(keras.callbacks.Callback):
    """The loss of each step, from the epoch's running means."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []
        self.rates: list[float] = []
        self._sum = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the step's loss."""
        total = (logs or {})["loss"] * (batch + 1)
        self.found.append(total - self._sum)
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))
        self._sum = total


class Clock:
    """Counts the seconds that a callback spends in its own hooks."""

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self.seconds = 0.0
        for hook in ("train_begin", "epoch_begin", "train_batch_end", "epoch_end", "train_end"):
            name = f"on_{hook}"
            setattr(callback, name, self._timed(getattr(callback, name)))

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any, **named: Any) -> None:
            start = time.perf_counter()
            hook(*arguments, **named)
            self.seconds += time.perf_counter() - start

        return run


def two_cpus() -> dict[str, tf.distribute.Strategy]:
    """One device and two, in this process."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return {name: distribute.from_name(name) for name in ("one_device", "mirrored")}


def devices() -> None:
    """Losses of both, and the callback's share on both, in turn."""
    strategies = two_cpus()
    data = images(64 * _STEPS.value)
    for label in LABELS:
        for name, strategy in strategies.items():
            if is_known(part="losses", callback=label, strategy=name):
                continue
            losses = Losses()
            model = student(strategy)
            if label == HIGHER:
                model.optimizer.learning_rate = 0.125
            callbacks = [QANCallback(), losses] if label == "shipped policy" else [losses]
            model.fit(data, verbose=0, shuffle=False, callbacks=callbacks)
            found = {"losses": losses.found, "rates": losses.rates}
            keep(part="losses", callback=label, strategy=name, **found)
    if all(is_known(part="share", pair=_PAIRS.value, strategy=name) for name in strategies):
        return
    data = images(64 * 40)
    callbacks = {name: QANCallback() for name in strategies}
    clocks = {name: Clock(callback) for name, callback in callbacks.items()}
    students = {name: student(strategy) for name, strategy in strategies.items()}
    for pair in range(_PAIRS.value + 1):
        for name, model in students.items():
            if pair and is_known(part="share", pair=pair, strategy=name):
                continue
            model.optimizer.learning_rate = 0.01
            clocks[name].seconds = 0.0
            start = time.perf_counter()
            model.fit(data, verbose=0, epochs=3, shuffle=False, callbacks=[callbacks[name]])
            whole = time.perf_counter() - start
            if pair:  # the first compiles
                share = clocks[name].seconds / whole
                keep(part="share", pair=pair, strategy=name, seconds=whole, share=share)


# Two processes.


def loopback_bytes() -> int:
    """Bytes that were sent over the loopback interface so far."""
    for line in Path("/proc/net/dev").read_text(encoding="utf-8").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    raise OSError("No loopback interface in /proc/net/dev; expected Linux. Run it there.")


class Meter(keras.callbacks.Callback):
    """Bytes and seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Reads the meters."""
        self._before = loopback_bytes(), time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Reads them again."""
        self.bytes.append(loopback_bytes() - self._before[0])
        self.seconds.append(time.perf_counter() - self._before[1])


def dense(strategy: tf.distribute.Strategy, width: int) -> keras.Model:
    """A network of as many parameters as are wanted."""
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.layers.Input((256,)),
                keras.layers.Dense(width, "relu"),
                keras.layers.Dense(10),
            ]
        )
        model.compile(
            keras.optimizers.SGD(0.001, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    return model


def worker() -> None:
    """One of two workers: what an epoch of each network exchanges, and what a decision adds."""
    strategy = distribute.from_name("multi_worker")
    team = distribute.current_worker_group()
    assert team is not None
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16 * WORKER_STEPS, 256)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 10, len(x)))).batch(16)
    for width in WIDTHS:
        meter = Meter()
        model = dense(strategy, width)
        model.fit(data, epochs=3, verbose=0, shuffle=False, callbacks=[meter])
        if team.is_chief:
            keep(
                part="steps",
                width=width,
                parameters=model.count_params(),
                steps=WORKER_STEPS,
                bytes=meter.bytes[1:],
                seconds=meter.seconds[1:],
            )
    # The rate is left alone, so that nothing but the decisions differs.
    for every in (2, 6):
        meter = Meter()
        callback = QANCallback(decide_every=every, rate_bounds=(1e-3, 1.001e-3))
        model = dense(strategy, WIDTHS[0])
        model.fit(data, epochs=3, verbose=0, shuffle=False, callbacks=[callback, meter])
        if team.is_chief:
            observation = callback._state.controller._episode.observation
            keep(
                part="decisions",
                every=every,
                decisions=WORKER_STEPS // every,
                features=int(observation.shape[0]),
                actions=len(callback.settings.actions or ()),
                bytes=meter.bytes[1:],
                seconds=meter.seconds[1:],
            )


def workers() -> None:
    """Starts both."""
    if is_known(part="decisions"):
        return
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
    started = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, __file__, "--part=worker", f"--output={_OUTPUT.value}"]
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        started.append(subprocess.Popen(command, env=environment))
    codes = [one.wait() for one in started]
    if any(codes):
        sys.exit(f"The workers ended with {codes}; expected 0 of each. See what they said above.")


# What it comes to.


def report() -> None:
    """Prints the tables."""
    found = read()
    difference = "largest relative difference of a step's loss"
    print(format_header("callback", difference, "at step", "of a rate"))
    for label in LABELS:
        one, two = (
            np.asarray(next([r["losses"], r["rates"]] for r in found if _is(r, label, name)))
            for name in ("one_device", "mirrored")
        )
        losses, rates = np.abs(one - two) / one
        place = f"{losses.argmax() + 1} of {len(losses)}"
        print(format_row(label, f"{losses.max():.1e}", place, f"{rates.max():.1e}"))
    print("\n" + format_header("device", "share of fit in the callback", "95 %", "s a fit"))
    shares = {}
    for name in ("one_device", "mirrored"):
        mine = [r for r in found if r["part"] == "share" and r["strategy"] == name]
        shares[name] = np.asarray([r["share"] for r in mine])
        seconds = np.median([r["seconds"] for r in mine])
        share = (f"{shares[name].mean():.2%}", format_interval(shares[name], ".2%"))
        print(format_row(name, *share, f"{seconds:.2f}"))
    apart = shares["mirrored"] - shares["one_device"]
    print(f"\nmirrored − one_device: {format_mean(apart, '+.2%')}, paired\n")
    columns = ("parameters", "bytes of them", "bytes a step, both workers", "ms a step")
    print(format_header(*columns))
    points = []
    for row in (r for r in found if r["part"] == "steps"):
        size = 4 * row["parameters"]
        each = np.mean(row["bytes"]) / row["steps"]
        points.append((size, each))
        ms = 1e3 * np.median(row["seconds"]) / row["steps"]
        print(format_row(f"{row['parameters']:,}", f"{size:,}", f"{each:,.0f}", f"{ms:.1f}"))
    slope, fixed = np.polyfit(*zip(*points, strict=True), 1)
    print(
        f"\nbytes a step, sent by a worker: {fixed / 2:,.0f} + {slope / 2:.4f} · bytes of weights\n"
    )
    many, few = (r for r in found if r["part"] == "decisions")
    extra = (np.mean(many["bytes"]) - np.mean(few["bytes"])) / 2
    each = extra / (many["decisions"] - few["decisions"])
    print(
        f"bytes a decision, sent by a worker: {each:,.0f} ({many['features']} features, "
        f"{many['actions']} actions)"
    )


def _is(row: dict[str, Any], callback: str, strategy: str) -> bool:
    key = "losses", callback, strategy
    return (row["part"], row.get("callback"), row.get("strategy")) == key


def main(_: list[str]) -> None:
    """Runs one part."""
    {"devices": devices, "workers": workers, "worker": worker, "report": report}[_PART.value]()


if __name__ == "__main__":
    app.run(main)
