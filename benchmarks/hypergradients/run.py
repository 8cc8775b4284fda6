"""The cost of a hypergradient by the length of the training, and its accuracy.

TFDS_DATA_DIR=... python benchmarks/hypergradients/run.py

Time and memory: every point is a process of its own. Rows go to results.jsonl as they are found; a
interrupted run resumes.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.machine import memory_mib
from benchmarks.common.records import Records, Row
from benchmarks.common.tables import format_header, format_row

_HERE = Path(__file__).parent
_LENGTHS = flags.DEFINE_list("lengths", ["100", "316", "1000", "3162", "10000"], "steps")
_SEEDS = flags.DEFINE_integer("seeds", 2, "of the agreement with exact")
_POINT = flags.DEFINE_string("point", "", "what one process measures; for the benchmark itself")
_OUTPUT = flags.DEFINE_string("output", str(_HERE / "results.jsonl"), "where rows go")

ARMS = ("training", "stored", "checkpointed", "drmad", "drmad_piecewise")


def tuner(model: str, per: str, steps: int, *, rate: float = 0.05, momentum: float = 0.95,
          seed: int = 0, real: bool = True) -> Any:  # fmt: skip
    """A tuner of L2 penalties on images."""
    import keras

    from keras_qan import drmad, models
    from keras_qan.experiments.hyperparameters import perceptron

    def build_model(seed: int) -> keras.Model:
        if model == "cnn":
            made = models.build("cnn", (28, 28, 1), 10, seed=seed)
        else:
            made = perceptron((28, 28, 1), [50, 50, 50], 10, seed)
        made.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return made

    return drmad.Tuner(
        build_model,
        *images(real, seed),
        [drmad.L2(per=per, initial=1e-3)],
        training=drmad.Training(
            steps=steps, batch_size=50, learning_rate=rate, momentum=momentum, seed=seed
        ),
    )


def images(real: bool, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """15,000 for training and 5,000 for validation: MNIST's, or noise, which costs the same."""
    if not real:
        rng = np.random.default_rng(seed)
        return [
            (rng.normal(size=(size, 28, 28, 1)).astype("float32"), rng.integers(0, 10, size))
            for size in (15_000, 5_000)
        ]
    from keras_qan import data

    splits = data.load("mnist", seed=seed)
    kept = np.random.default_rng(seed).permutation(len(splits.train))[:15_000]
    return [
        (splits.train.x[kept], splits.train.y[kept]),
        (splits.validation.x[:5_000], splits.validation.y[:5_000]),
    ]


def cost(model: str, per: str, arm: str, steps: int) -> dict[str, Any]:
    """Seconds (wall and processor) and memory of one hypergradient, compiled beforehand."""
    from keras_qan import drmad

    ways: dict[str, Any] = {
        "training": drmad.Drmad(),
        "stored": drmad.Exact(segment=steps),
        "checkpointed": drmad.Exact(),
        "drmad": drmad.Drmad(max_growth=None),
        "drmad_piecewise": drmad.Drmad(legs=4, max_growth=None),
    }
    found = tuner(model, per, steps, real=False)
    start = found.initial_unconstrained()

    def once(length: int) -> int:
        method = drmad.Exact(segment=length) if arm == "stored" else ways[arm]
        inner = found.inner_loop(length)
        values = inner.values(start)
        snapshots = inner.snapshots(values, method.snapshot_steps(length))
        if arm != "training":
            method.differentiate(inner, values, snapshots).by_value[0].numpy()
        return len(snapshots)

    once(5)
    gc.collect()
    # The peak so far is that of importing and compiling: it is counted from here.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory_mib("VmRSS")
    seconds, processor = [], []
    for _ in range(max(1, min(5, 2_000 // steps))):
        marks = time.perf_counter(), time.process_time()
        once(steps)
        seconds.append(time.perf_counter() - marks[0])
        processor.append(time.process_time() - marks[1])
    return {
        "what": "cost",
        "model": model,
        "per": per,
        "arm": arm,
        "steps": steps,
        "hyperparameters": found.num_hyperparameters,
        "seconds": float(np.median(seconds)),
        "processor_seconds": float(np.median(processor)),
        "resident_before": before,
        "peak": memory_mib("VmHWM"),
    }


def agreement(seed: int, rate: float, momentum: float) -> list[dict[str, Any]]:
    """Cosine and signs of each approximation against exact, for every length."""
    from keras_qan import drmad
    from keras_qan.drmad.inner_loop import DivergedError
    from keras_qan.drmad.methods import compare_gradients, hypergradient

    found = tuner("mlp", "unit", 10_000, rate=rate, momentum=momentum, seed=seed)
    start = found.initial_unconstrained()
    methods = {
        "drmad": drmad.Drmad(),
        "drmad, no limit": drmad.Drmad(max_growth=None),
        "drmad, T/10 steps": drmad.Drmad(reverse_steps=10**9),
        "4 legs": drmad.Drmad(legs=4),
        "16 legs": drmad.Drmad(legs=16),
        "64 legs": drmad.Drmad(legs=64),
        "implicit": drmad.Implicit(),
    }
    rows = []
    for steps in map(int, _LENGTHS.value):
        inner = found.inner_loop(steps)
        exact = hypergradient(inner, start, drmad.Exact()).gradients
        for name, method in methods.items():
            if "T/10" in name:
                method = drmad.Drmad(reverse_steps=steps // 10)
            row = {"what": "agreement", "seed": seed, "rate": rate, "momentum": momentum,
                   "steps": steps, "arm": name}  # fmt: skip
            try:
                approximate = hypergradient(inner, start, method)
                check = compare_gradients(name, steps, ["l2"], approximate.gradients, exact)
                row |= {"cosine": check.cosine, "signs": check.sign_agreement,
                        "ratio": check.ratio, "reached": approximate.reached}  # fmt: skip
            except DivergedError:
                row |= {"cosine": None, "signs": None, "ratio": None, "reached": None}
            rows.append(row)
    return rows


def measure(point: str) -> list[Row]:
    """Measures the point of that name."""
    kind, *rest = point.split("/")
    if kind == "cost":
        return [cost(rest[0], rest[1], rest[2], int(rest[3]))]
    return agreement(int(rest[0]), float(rest[1]), float(rest[2]))


def points() -> list[str]:
    """All points, in the order that they are measured in."""
    found = [f"cost/mlp/unit/{arm}/{steps}" for steps in _LENGTHS.value for arm in ARMS]
    found += [f"cost/cnn/weight/{arm}/200" for arm in ARMS]
    settings = ((0.05, 0.95), (0.3, 0.9))
    found += [f"agreement/{s}/{r}/{m}" for r, m in settings for s in range(_SEEDS.value)]
    return found


def print_tables(found: list[Row]) -> None:
    """Prints the rows as tables."""
    columns = ("model, steps", "way", "seconds", "times training", "MiB above before", "peak MiB")
    print(format_header(*columns))
    costs = [row for row in found if row["what"] == "cost"]
    for row in costs:
        base = next(r for r in costs if r["arm"] == "training"
                    and (r["model"], r["steps"]) == (row["model"], row["steps"]))  # fmt: skip
        print(
            format_row(
                f"{row['model']} ({row['hyperparameters']:,}), {row['steps']}",
                row["arm"],
                f"{row['seconds']:.2f}",
                f"{row['processor_seconds'] / base['processor_seconds']:.1f}",
                f"{row['peak'] - row['resident_before']:.0f}",
                f"{row['peak']:.0f}",
            )
        )
    found = [row for row in found if row["what"] == "agreement"]
    for rate, momentum in dict.fromkeys((r["rate"], r["momentum"]) for r in found):
        lengths = list(dict.fromkeys(r["steps"] for r in found))
        print(f"\nα = {rate}, γ = {momentum}: cosine / agreeing signs, mean over seeds")
        print(format_header("way", *(f"T = {steps}" for steps in lengths)))
        for arm in dict.fromkeys(r["arm"] for r in found):
            cells = []
            for steps in lengths:
                own = [r for r in found if (r["rate"], r["momentum"], r["steps"], r["arm"])
                       == (rate, momentum, steps, arm)]  # fmt: skip
                good = [r for r in own if r["cosine"] is not None]
                cell = "not finite"
                if good:
                    cosine, signs = (np.mean([r[k] for r in good]) for k in ("cosine", "signs"))
                    cell = f"{cosine:.2f} / {signs:.0%}"
                    cell += f" ({len(good)} of {len(own)})" if len(good) < len(own) else ""
                cells.append(cell)
            print(format_row(arm, *cells))


def main(_: list[str]) -> None:
    """Measures what is missing, each point in a process of its own, and prints the tables."""
    if _POINT.value:
        for row in measure(_POINT.value):
            print(json.dumps(row | {"point": _POINT.value}))
        return
    records = Records(_OUTPUT.value, "point")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(_HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    for (point,) in list(records.missing((point,) for point in points())):
        ran = subprocess.run(
            [sys.executable, __file__, f"--point={point}", f"--seeds={_SEEDS.value}",
             "--lengths=" + ",".join(_LENGTHS.value)],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
        if ran.returncode or not lines:
            sys.exit(f"{point} failed:\n{ran.stderr[-2000:]}")
        for line in lines:
            records.add(json.loads(line))
        print(point, file=sys.stderr, flush=True)
    print_tables(records.rows)


if __name__ == "__main__":
    app.run(main)
