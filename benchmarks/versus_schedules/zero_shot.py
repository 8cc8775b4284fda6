"""The bare callback and the rule of the slope ratio on other kinds of networks, from any rate.

    python benchmarks/versus_schedules/zero_shot.py --tasks=text-lstm,cifar-vit   # TFDS_DATA_DIR
    python benchmarks/versus_schedules/zero_shot.py --report
    python benchmarks/versus_schedules/zero_shot.py --steps=240 --seeds=3 --write

All arms of a seed have the same initial weights and the same batches. `fit` is given half of the
held-out examples as validation data; the score is the loss on the other half after the last step.
Every training is a line in a file, and what is there is not done again.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from absl import app, flags
from more_tasks import DEFAULT_RATES, MORE_TASKS, TUNED_ON
from tasks import Task
from trainings import Scheduled

from benchmarks.common.records import Records, Row, read_rows
from benchmarks.common.scores import log_score
from benchmarks.common.tables import format_header, format_row
from keras_qan import QANCallback
from keras_qan.actions import Cosine
from keras_qan.experiments.model_factory import ModelFactory

_TASKS = flags.DEFINE_list("tasks", list(MORE_TASKS), "which tasks, in this order")
_ARMS = flags.DEFINE_list("arms", [], "which arms only; all by default")
_FACTORS = flags.DEFINE_list("factors", [], "which multiples of the default rate only")
_SEEDS = flags.DEFINE_integer("seeds", 1, "unseen seeds", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 320, "steps of a training", lower_bound=8)
_OUT = flags.DEFINE_string("out", "runs/benchmarks/zero_shot", "where the lines are kept")
_REPORT = flags.DEFINE_bool("report", False, "only print the table of what is there")
_WRITE = flags.DEFINE_bool("write", False, "put the lines into zero_shot.jsonl, for the pages")

#: The lines that README and the pages are written from.
KEPT = Path(__file__).resolve().parent / "zero_shot.jsonl"

FIRST_SEED = 3_000_000

#: Epochs of a training, each with a validation.
EPOCHS = 8

#: Arms → multiples of the default rate that they start from. "unlimited" is the shipped policy
#: without the limit of its raises.
ARMS = {
    "none": (1.0,),
    "slope": (1.0, 0.01, 0.1, 10.0, 100.0),
    "qan": (1.0, 0.1, 10.0),
    "unlimited": (1.0, 0.1, 10.0),
    "cosine": (1.0, 10.0, 3.0, 0.3, 30.0),
    "plateau": (1.0,),
    "adamw": (1.0,),
}

#: Arms that steer the rate.
STEERED = ("qan", "unlimited", "slope")

#: Rates of which a cosine has to be the best for it to count as tuned.
FEWEST_RATES = 3

#: The rate of the arm that is AdamW in one configuration, whatever the task's optimizer.
ADAMW_RATE = 1e-3


class Bench:
    """Trains students of one task.

    Args:
      task: the data, the network and its optimizer.
      steps: the length of a training.
    """

    def __init__(self, task: Task, steps: int) -> None:
        self._task, self._steps = task, steps
        self._arrays = task.load()
        self._factories: dict[str, ModelFactory] = {}

    def _student(self, seed: int, rate: float, kind: str) -> keras.Model:
        example = tf.data.Dataset.from_tensors((self._arrays.x[:8], self._arrays.y[:8]))
        if kind not in self._factories:
            self._factories[kind] = ModelFactory(
                lambda number: self._task.build(
                    number, 1.0, keras.optimizers.AdamW(1.0) if kind == "adamw" else None
                ),
                example,
            )
        model = self._factories[kind].build(seed)
        model.optimizer.learning_rate.assign(rate)
        return model

    def _batches(self, seed: int) -> tf.data.Dataset:
        """Whole batches, shuffled anew each epoch of the data."""
        rng = np.random.default_rng([seed, 3])
        count, size = len(self._arrays.x), self._task.batch_size
        rows: list[np.ndarray] = []
        while len(rows) < self._steps:
            rows.extend(rng.permutation(count)[: count // size * size].reshape(-1, size))
        x, y = tf.constant(self._arrays.x), tf.constant(self._arrays.y)
        chosen = tf.constant(np.array(rows[: self._steps], np.int32))
        batches = tf.data.Dataset.from_tensor_slices(chosen)
        return batches.map(lambda rows: (tf.gather(x, rows), tf.gather(y, rows))).repeat()

    def _callbacks(self, arm: str) -> list[keras.callbacks.Callback]:
        if arm == "cosine":
            return [Scheduled(Cosine(), self._steps)]
        if arm == "plateau":
            return [keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1)]
        if arm == "slope":
            return [QANCallback(policy="slope")]
        return [QANCallback(raises_by_slope=arm == "qan")] if arm in STEERED else []

    def train(self, arm: str, rate: float, seed: int) -> Row:
        """One training; plain data."""
        arrays = self._arrays
        model = self._student(seed, rate, "adamw" if arm == "adamw" else "own")
        half = len(arrays.validation_x) // 2
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # divergence is in the record
            history = model.fit(
                self._batches(seed),
                epochs=EPOCHS,
                steps_per_epoch=self._steps // EPOCHS,
                validation_data=(arrays.validation_x[:half], arrays.validation_y[:half]),
                validation_batch_size=500,
                callbacks=self._callbacks(arm),
                verbose=0,
            )
        seconds = time.perf_counter() - started
        test = arrays.validation_x[half:], arrays.validation_y[half:]
        return {
            "test_loss": float(model.evaluate(*test, batch_size=500, verbose=0)),
            "rates": [float(f"{v:.3g}") for v in history.history.get("learning_rate", [])],
            "seconds": round(seconds, 2),
        }


def plays(name: str, seeds: range) -> Iterator[tuple[str, str, float, int, int]]:
    """Yield task, arm, rate, seed and steps of every training."""
    for seed in seeds:
        for arm, factors in ARMS.items():
            for factor in factors:
                if (_ARMS.value and arm not in _ARMS.value) or not _is_asked(factor):
                    continue
                rate = ADAMW_RATE if arm == "adamw" else DEFAULT_RATES[name] * factor
                yield name, arm, float(f"{rate:.6g}"), seed, _STEPS.value


def _is_asked(factor: float) -> bool:
    return not _FACTORS.value or factor in map(float, _FACTORS.value)


def report(rows: list[Row]) -> str:
    """Return the table: the mean log test loss of each arm, and gaps over the seeds of both."""
    columns = ["task", "steps", "seeds", "no callback", "plateau", "AdamW 1e-3"]
    columns += ["tuned cosine (rate)"]
    columns += [f"{arm} {factor:g}×" for arm in STEERED for factor in sorted(ARMS[arm])]
    lines = [format_header(*columns)]
    gaps: dict[tuple[int, str, str, bool], list[float]] = {}
    for name, steps in sorted({(row["task"], row["steps"]) for row in rows}):
        own = [row for row in rows if (row["task"], row["steps"]) == (name, steps)]
        cells, more = _line(name, own)
        lines.append(format_row(name, steps, len({row["seed"] for row in own}), *cells))
        for key, values in more.items():
            gaps.setdefault((steps, *key, name in TUNED_ON), []).extend(values)
    lines += [
        "",
        format_header("steps", "arm", "beside", "tasks", "median", "mean", "worst", "cells"),
    ]
    for (steps, arm, beside, is_tuned), values in sorted(gaps.items()):
        kind = "the rule was tuned on" if is_tuned else "held out"
        numbers = (f"{each:+.3f}" for each in (np.median(values), np.mean(values), max(values)))
        lines.append(format_row(steps, arm, beside, kind, *numbers, len(values)))
    return "\n".join(lines)


def _text(scores: dict[int, float]) -> str:
    return f"{np.mean(list(scores.values())):.3f}" if scores else "–"


def _gap(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """Return the mean difference over the seeds of both, in a list; an empty one without any."""
    both = ours.keys() & theirs.keys()
    return [float(np.mean([ours[seed] - theirs[seed] for seed in both]))] if both else []


def _line(name: str, rows: list[Row]) -> tuple[list[str], dict[tuple[str, str], list[float]]]:
    default = DEFAULT_RATES[name]

    def scores(arm: str, rate: float) -> dict[int, float]:
        """Scores by seed."""
        return {
            row["seed"]: log_score(row["test_loss"])
            for row in rows
            if row["arm"] == arm and np.isclose(row["rate"], rate)
        }

    cosines = {factor: scores("cosine", default * factor) for factor in ARMS["cosine"]}
    known = {factor: found for factor, found in cosines.items() if found}
    best = min(known, key=lambda factor: float(np.mean(list(known[factor].values()))), default=1.0)
    # A cosine is tuned by at least three rates.
    tuned = known[best] if len(known) >= FEWEST_RATES else {}
    none = scores("none", default)
    cells = [_text(none), _text(scores("plateau", default)), _text(scores("adamw", ADAMW_RATE))]
    cells.append(f"{_text(tuned)} ({default * best:.2g})" if tuned else "–")
    gaps: dict[tuple[str, str], list[float]] = {}
    for arm in STEERED:
        for factor in sorted(ARMS[arm]):
            found = scores(arm, default * factor)
            cells.append(_text(found))
            gaps.setdefault((arm, "tuned cosine"), []).extend(_gap(found, tuned))
            if factor == 1.0:
                key = (arm, "no callback, default rate")
                gaps.setdefault(key, []).extend(_gap(found, none))
    return cells, {key: values for key, values in gaps.items() if values}


def keep(rows: list[Row], keys: tuple[str, ...]) -> None:
    """Put rows into the kept file, in the place of those of the same trainings."""
    found = {tuple(row[key] for key in keys): row for row in read_rows(KEPT)}
    for row in rows:
        named = {key: row[key] for key in keys}
        found[tuple(named.values())] = named | {"test_loss": round(row["test_loss"], 4)}
    KEPT.write_text("".join(json.dumps(row) + "\n" for row in found.values()), encoding="utf-8")


def main(_: list[str]) -> None:
    """Train what is missing, then print the table."""
    keys = ("task", "arm", "rate", "seed", "steps")
    seeds = range(FIRST_SEED, FIRST_SEED + _SEEDS.value)
    rows: list[Any] = []
    for name in MORE_TASKS:
        records = Records(Path(_OUT.value) / f"{name}.jsonl", *keys)
        if name in _TASKS.value and not _REPORT.value:
            bench = Bench(MORE_TASKS[name], _STEPS.value)
            for key in records.missing(plays(name, seeds)):
                row = dict(zip(keys, key, strict=True)) | bench.train(*key[1:4])
                records.add(row)
                found = log_score(row["test_loss"])
                print(*key[:4], f"{found:.3f}", f"{row['seconds']} s", flush=True)
        rows += records.rows
    print(report(rows))
    if _WRITE.value:
        keep([row for row in rows if row["steps"] == _STEPS.value], keys)


if __name__ == "__main__":
    app.run(main)
