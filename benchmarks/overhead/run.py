"""What QAN costs in time and memory, beside the same trainings without it.

    python benchmarks/overhead/run.py --backend=jax --parts=fresh,cnn

Trainings with and without the callback alternate, so that the ratio holds when the machine's speed
drifts. A ratio is the median over pairs, with a bootstrap 95 % interval over the pairs. On a
machine that other work keeps busy, `--clock=processor` counts the seconds that all threads of the
process were running, in the place of those that passed.

On TensorFlow, a fit whose optimizer is not built yet traces the training step twice. The callback
builds it before the first step, and so spares one of them: a gain that has nothing to do with what
the callback costs. So the optimizer is built beforehand in both arms, unless a row says otherwise.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any


def _said(name: str, default: str) -> str:
    given = [a.split("=", 1)[1] for a in sys.argv if a.lstrip("-").startswith(f"{name}=")]
    return given[-1] if given else default


# Both have to be said before Keras is imported.
CHOSEN = {"backend": "tensorflow", "device": "auto"}
os.environ["KERAS_BACKEND"] = BACKEND = _said("backend", CHOSEN["backend"])
if _said("device", CHOSEN["device"]) == "cpu":
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402

from keras_qan import QANCallback  # noqa: E402
from keras_qan.qan import presets  # noqa: E402

PARTS = ("imports", "first", "fresh", "cnn", "decisions", "paper", "tuner", "memory", "wide")
_PARTS = flags.DEFINE_list("parts", list(PARTS), f"what to measure: {', '.join(PARTS)}")
_PAIRS = flags.DEFINE_integer("pairs", 20, "pairs of fits of the small network")
_LONG_PAIRS = flags.DEFINE_integer("long_pairs", 3, "pairs of long fits, processes and searches")
_STEPS = flags.DEFINE_integer("steps", 2000, "steps of a long fit")
_WIDE = flags.DEFINE_string("wide", "wrn-40-4", "which wide residual network")
_WIDE_STEPS = flags.DEFINE_integer("wide_steps", 391, "steps of it; 391 are an epoch of CIFAR-10")
_WIDE_ARM = flags.DEFINE_enum("wide_arm", "paper", ["without", "shipped", "paper"], "its callback")
_FITS = flags.DEFINE_integer("fits", 100, "fits of fresh models to watch the memory over")
_CLOCK = flags.DEFINE_enum("clock", "wall", ["wall", "processor"], "which seconds to count")
_CHILD = flags.DEFINE_enum("child", "", ["", "first", "memory"], "used by the script itself")
_WITH = flags.DEFINE_bool("with_callback", True, "used by the script itself")
flags.DEFINE_enum("backend", CHOSEN["backend"], ["tensorflow", "jax", "torch"], "Keras's backend")
flags.DEFINE_enum("device", CHOSEN["device"], ["auto", "cpu", "gpu"], "what to compute on")

Pair = tuple[float, float]


def seconds() -> float:
    """Seconds of the chosen clock."""
    return time.perf_counter() if _CLOCK.value == "wall" else time.process_time()


def mlp(*_: Any) -> keras.Model:
    """A small network for tables."""
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((20,)), dense(64, "relu"), dense(64, "relu"), dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def cnn() -> keras.Model:
    """A network for MNIST: two convolutions."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def table(rows: int = 640) -> tuple[np.ndarray, np.ndarray]:
    """Noise with classes that can be learned."""
    x = np.random.default_rng(0).normal(size=(rows, 20)).astype("float32")
    return x, np.argmax(x[:, :10], axis=1)


def images() -> tuple[np.ndarray, np.ndarray]:
    """10,000 MNIST images, or noise of that size where MNIST is not at hand: time is the same."""
    try:
        from keras_qan import data

        train = data.load("mnist", train_fraction=0.2).train
        return train.x, train.y
    except (FileNotFoundError, ImportError):
        rng = np.random.default_rng(0)
        return rng.normal(size=(10_000, 28, 28, 1)).astype("float32"), rng.integers(0, 10, 10_000)


def cifar10(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first of CIFAR-10's 50,000 training images."""
    from keras_qan import data

    splits = data.load("cifar10")
    parts = (splits.train, splits.validation)
    x, y = (np.concatenate([getattr(part, name) for part in parts]) for name in "xy")
    return x[:rows], y[:rows]


def built(model: keras.Model) -> keras.Model:
    """The model, its optimizer built as the callback would."""
    model.optimizer.build(model.trainable_variables)
    return model


def fit_table(callbacks: Sequence[Any], is_built: bool = True) -> float:
    """Seconds of 100 steps of a fresh small network, in 5 epochs with validation."""
    x, y = table()
    model = built(mlp()) if is_built else mlp()
    start = seconds()
    model.fit(x, y, 32, 5, 0, callbacks=list(callbacks), validation_data=(x[:128], y[:128]))
    return seconds() - start


def alternate(fit: Callable[[list[Any]], float], pairs: int, warm_up: bool = True) -> list[Pair]:
    """Seconds without and with the callback, in turn; the first pair is left out."""
    found = []
    for number in range(pairs + warm_up):
        gc.collect()
        if number % 2:
            without = fit([])
            steered = fit([QANCallback()])
        else:
            steered = fit([QANCallback()])
            without = fit([])
        found.append((without, steered))
    return found[warm_up:]


def middle(values: Sequence[float]) -> str:
    """The median and its bootstrap 95 % interval."""
    array = np.asarray(values)
    draws = np.random.default_rng(0).integers(0, len(array), (2000, len(array)))
    low, high = np.quantile(np.median(array[draws], axis=1), [0.025, 0.975])
    return f"{np.median(array):.3f} | {low:.3f} … {high:.3f}"


def row(name: str, pairs: list[Pair], unit: float = 1.0) -> None:
    """Print the medians without and with the callback, and the ratio."""
    without, steered = (np.median(column) * unit for column in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    print(f"| {name} | {without:.2f} | {steered:.2f} | {middle(ratios)} |", flush=True)


def timed(owner: Any, name: str) -> list[float]:
    """Return the list to which each call of a method adds its milliseconds from now on."""
    took: list[float] = []
    method = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        start = seconds()
        result = method(*arguments, **named)
        took.append(1e3 * (seconds() - start))
        return result

    setattr(owner, name, call)
    return took


def child(kind: str, with_callback: bool) -> float:
    """What a process of its own measures: this script, called again."""
    command = [sys.executable, __file__, f"--child={kind}", f"--with_callback={with_callback}"]
    command += [f"--{name}={_said(name, default)}" for name, default in CHOSEN.items()]
    command += [f"--fits={_FITS.value}", f"--clock={_CLOCK.value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_imports() -> None:
    """Seconds that the imports take after Keras's own, each in a new process."""
    for statement in ("import keras_qan", "from keras_qan import QANCallback"):
        code = (
            f"import time, keras; t = time.perf_counter(); {statement}; "
            "print(time.perf_counter() - t)"
        )
        took = [
            float(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)
            for _ in range(2 * _LONG_PAIRS.value + 1)
        ]
        print(f"| `{statement}` after keras, s | | | {middle(took)} |", flush=True)


def measure_first() -> None:
    """The first fit of a process."""
    pairs = [(child("first", False), child("first", True)) for _ in range(_LONG_PAIRS.value)]
    row("first fit in a process, 100 steps, s", pairs)


def measure_fresh() -> None:
    """Fits of fresh models with new callbacks."""
    row("fresh model, 100 steps, s", alternate(fit_table, _PAIRS.value))
    as_written = alternate(lambda chosen: fit_table(chosen, False), _PAIRS.value)
    row("the same, the optimizer not built beforehand, s", as_written)


def measure_cnn() -> None:
    """A long fit."""
    x, y = images()
    batch = 64
    epochs = max(1, _STEPS.value * batch // len(x))
    model = cnn()

    def fit(callbacks: list[Any]) -> float:
        model = built(cnn())
        start = seconds()
        model.fit(x, y, batch, epochs, 0, callbacks=callbacks, validation_data=(x[:1000], y[:1000]))
        return seconds() - start

    row(f"CNN, {epochs * -(-len(x) // batch)} steps, s", alternate(fit, _LONG_PAIRS.value, False))
    from keras_qan.qan.snapshot import Snapshot

    kib = Snapshot(model).num_bytes / 1024
    print(f"| snapshot of the CNN, KiB ({model.count_params()} parameters) | | {kib:.0f} | | |")


def measure_decisions() -> None:
    """Milliseconds of a decision within fit, as the callback takes them."""
    kinds = {"frozen": {}, "with learning": {"policy": None, "decide_every": 2}}
    x, y = table(6400)
    for kind, settings in kinds.items():
        if settings and BACKEND != "tensorflow":
            continue
        callback = QANCallback(**settings)
        took = timed(callback.state.controller, "decide")
        for _ in range(4):
            mlp().fit(x, y, 32, 2, 0, callbacks=[callback])
        usable = took[len(took) // 2 :]
        high = np.quantile(usable, 0.95)
        print(f"| decision, {kind}, ms (95th percentile {high:.2f}) | | | {middle(usable)} |")


def measure_paper() -> None:
    """A decision at every step, with the paper's preset: milliseconds of a step."""
    if BACKEND != "tensorflow":
        return
    x, y = images()
    callback = QANCallback(**presets.paper())

    def fit(callbacks: list[Any]) -> float:
        model = cnn()
        model.fit(x[:64], y[:64], 64, verbose=0)
        start = seconds()
        model.fit(x[:6400], y[:6400], 64, 6, 0, callbacks=[callback] if callbacks else [])
        return (seconds() - start) / 600

    row("paper's preset, a step, ms", alternate(fit, _LONG_PAIRS.value), unit=1e3)


def measure_tuner() -> None:
    """Random searches of KerasTuner."""
    try:
        import keras_tuner
    except ImportError:
        return
    x, y = table()

    def build(found: Any) -> keras.Model:
        model = built(mlp())
        rate = found.Float("rate", 1e-5, 1e-1, sampling="log")
        model.optimizer.learning_rate = rate
        return model

    def search(callbacks: list[Any]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            tuner = keras_tuner.RandomSearch(
                build, "val_loss", max_trials=20, seed=0, directory=folder
            )
            start = seconds()
            tuner.search(
                x, y, epochs=5, verbose=0, callbacks=callbacks, validation_data=(x[:128], y[:128])
            )
            return seconds() - start

    row("20 trials of KerasTuner, s", alternate(search, _LONG_PAIRS.value, False))


def measure_wide() -> None:
    """Steps of the paper's network on CIFAR-10, with one callback or none.

    A process has one arm, since the memory is the most that the process had. The step has to be
    over when the callback is called, as on TensorFlow's CPU: elsewhere the callback's part contains
    the waiting for it.
    """
    from keras_qan import models

    settings = presets.paper() if _WIDE_ARM.value == "paper" else {}
    callback = QANCallback(**settings)
    if settings:  # past the agent's warm-up: from here on each decision brings an update
        x, y = images()
        cnn().fit(x[:6400], y[:6400], 64, 6, 0, callbacks=[callback])
    x, y = cifar10(128 * _WIDE_STEPS.value)
    model = models.build(_WIDE.value, (32, 32, 3), 10, seed=0, weight_decay=5e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: ends.append(seconds())
    )
    hook = timed(callback, "on_train_batch_end")
    decisions = timed(callback.state.controller, "decide")
    callbacks = [clock] if _WIDE_ARM.value == "without" else [callback, clock]
    start = seconds()
    history = model.fit(x, y, 128, verbose=0, callbacks=callbacks).history
    total = seconds() - start
    name = f"{_WIDE.value}, {_WIDE_ARM.value}"
    print(f"| {name}, {len(ends)} steps of 128, compiling, s | | {total:.1f} | | |")
    print(f"| a step after the first, s | | | {middle(np.diff(ends))} |")
    for what, took in {"the callback's part of a step": hook, "a decision": decisions}.items():
        if took:
            share = sum(took) / total / 10
            print(f"| {what}, ms ({len(took)}, {share:.2f} % of the time) | | | {middle(took)} |")
    print(f"| loss and accuracy of the steps | | {history} | | |")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| resident memory, the most so far, MiB | | {resident:.0f} | | |")
    print(f"| memory of the device, the most so far, MiB | | {_device_memory()} | | |", flush=True)


def _device_memory() -> str:
    """MiB that the computing device had in use at most; `–` where the backend does not tell."""
    if BACKEND == "jax":
        import jax

        found = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    elif BACKEND == "torch":
        import torch

        found = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    else:
        found = 0
    return f"{found / 2**20:.0f}" if found else "–"


def measure_memory() -> None:
    """Resident memory that each fit of a fresh model leaves behind."""
    without, steered = (child("memory", chosen) for chosen in (False, True))
    print(f"| left by each of {_FITS.value} fits, MiB | {without:.2f} | {steered:.2f} | | |")


def resident_growth(with_callback: bool, fits: int) -> float:
    """MiB that a fit leaves behind, after the first tenth of the fits."""
    before = 0.0
    for number in range(fits):
        if number == fits // 10:
            before = _resident()
        fit_table([QANCallback()] if with_callback else [])
    return (_resident() - before) / (fits - fits // 10)


def _resident() -> float:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def main(_: list[str]) -> None:
    """Print a table."""
    if _CHILD.value == "first":
        print(fit_table([QANCallback()] if _WITH.value else []))
    elif _CHILD.value == "memory":
        print(resident_growth(_WITH.value, _FITS.value))
    else:
        python = sys.version.split()[0]
        print(f"Keras {keras.__version__} on {BACKEND}, Python {python}, {os.cpu_count()} cores.\n")
        print("| what | without | with | median, or ratio | 95 % |\n|---|---|---|---|---|")
        for part in _PARTS.value:
            globals()[f"measure_{part}"]()


if __name__ == "__main__":
    app.run(main)
