"""The bare callback and the rule of the slope ratio on other kinds of networks, from any rate.

    python benchmarks/versus_schedules/zero_shot.py --tasks=text-lstm,cifar-vit   # TFDS_DATA_DIR
    python benchmarks/versus_schedules/zero_shot.py --report
    python benchmarks/versus_schedules/zero_shot.py --steps=240 --seeds=3 --write
    KERAS_BACKEND=jax python benchmarks/versus_schedules/zero_shot.py --horizons=400,2000,8000,20000

All arms of a seed have the same initial weights and the same batches. `fit` is given half of the
held-out examples as validation data; the score is the loss on the other half after the last step.
Every training is a line in a file, and what is there is not done again. Workers are processes,
each on a core of its own; JAX trains these small networks several times faster than TensorFlow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras
from absl import app, flags
from fits import ARMS, Bench
from horizons import FIRST_SEED, HORIZONS, KEPT, epochs_of
from more_tasks import ALL_TASKS, DEFAULT_RATES, MORE_TASKS
from workers import MARK, Workers
from zero_shot_report import report

from benchmarks.common.records import Records, Row, keep_rows
from benchmarks.common.scores import log_score
from benchmarks.common.tables import replace_block

_TASKS = flags.DEFINE_list("tasks", [], "which tasks only")
_ARMS = flags.DEFINE_list("arms", [], "which arms only")
_FACTORS = flags.DEFINE_list("factors", [], "which multiples of the default rate only")
_SEEDS = flags.DEFINE_integer("seeds", None, "unseen seeds; one, or those of each horizon")
_STEPS = flags.DEFINE_integer("steps", 320, "steps of a training", lower_bound=8)
_WORKERS = flags.DEFINE_integer("workers", 0, "processes; 0 trains in this one")
_HORIZONS = flags.DEFINE_list("horizons", [], "parts of the whole benchmark, by their steps")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/zero_shot", "where the lines are kept")
_REPORT = flags.DEFINE_bool("report", False, "only print the table of what is there")
_WRITE = flags.DEFINE_bool("write", False, "keep the lines, and write the tables")
_SERVE = flags.DEFINE_bool("serve", False, "used by the script itself: train what is asked for")

RESULTS = Path(__file__).with_name("RESULTS.md")

KEYS = ("task", "arm", "rate", "seed", "steps")

Key = tuple[str, str, float, int, int]


def plays() -> Iterator[Key]:
    """Yield task, arm, rate, seed and steps of every training that the flags ask for."""
    steps = int(_STEPS.value)
    names = tuple(_TASKS.value or MORE_TASKS)
    asked = {steps: (names, _SEEDS.value or 1, {a: e.factors for a, e in ARMS.items()})}
    if _HORIZONS.value:
        asked = {int(steps): HORIZONS[int(steps)] for steps in _HORIZONS.value}
    for number in range(_SEEDS.value or max(seeds for _, seeds, _ in asked.values())):
        for steps, (tasks, seeds, arms) in asked.items():
            for name in tasks if number < seeds else ():
                for arm, rate in _starts(name, arms) if _is_asked(name, _TASKS) else ():
                    yield name, arm, rate, FIRST_SEED + number, steps


def _starts(name: str, arms: dict[str, tuple[float, ...]]) -> Iterator[tuple[str, float]]:
    for arm, factors in arms.items():
        if not _is_asked(arm, _ARMS):
            continue
        own = ARMS[arm].rate
        if own is not None:
            yield arm, own
        for factor in factors:
            if not _FACTORS.value or factor in map(float, _FACTORS.value):
                yield arm, float(f"{DEFAULT_RATES[name] * factor:.6g}")


def _is_asked(name: str, flag: flags.FlagHolder[list[str]]) -> bool:
    return not flag.value or name in flag.value


def train(key: Key, benches: dict[str, Bench]) -> Row:
    """One training."""
    name, arm, rate, seed, steps = key
    if name not in benches:
        benches.clear()
        benches[name] = Bench(ALL_TASKS[name])
    row = benches[name].train(arm, rate, seed, steps, epochs_of(steps))
    return dict(zip(KEYS, key, strict=True)) | {"backend": keras.backend.backend()} | row


def keep(rows: list[Row]) -> None:
    """Keep rows, in the place of those of the same trainings, and write the tables."""
    short = [{k: v for k, v in row.items() if k not in ("rates", "seconds")} for row in rows]
    tables = report(keep_rows(KEPT, short, *KEYS))
    text = RESULTS.read_text(encoding="utf-8")
    RESULTS.write_text(replace_block(text, "zero_shot", tables, RESULTS.name), encoding="utf-8")


def serve() -> None:
    """Train what the lines of the standard input ask for."""
    benches: dict[str, Bench] = {}
    for line in sys.stdin:
        print(MARK + json.dumps(train(tuple(json.loads(line)), benches)), flush=True)


def main(_: list[str]) -> None:
    """Train what is missing, then print the table."""
    if _SERVE.value:
        serve()
        return
    keys = list(plays())
    names = {key[0] for key in keys}
    records = {name: Records(Path(_OUT.value) / f"{name}.jsonl", *KEYS) for name in ALL_TASKS}

    def done(row: Row) -> None:
        records[row["task"]].add(row)
        found = f"{log_score(row['test_loss']):.3f}"
        print(*(row[key] for key in KEYS), found, f"{row['seconds']} s", flush=True)

    known = {records[name].key_of(row) for name in names for row in records[name].rows}
    missing = [key for key in keys if key not in known and not _REPORT.value]
    if _WORKERS.value:
        Workers([__file__, "--serve"], _WORKERS.value).run(missing, done)
    else:
        benches: dict[str, Bench] = {}
        for key in sorted(missing, key=lambda key: list(ALL_TASKS).index(key[0])):
            done(train(key, benches))
    rows = [row for name in ALL_TASKS for row in records[name].rows]
    print(report(rows))
    if _WRITE.value:
        asked = set(keys)
        keep([row for row in rows if records[row["task"]].key_of(row) in asked])


if __name__ == "__main__":
    app.run(main)
