"""The shipped policy against the schedules people use, on tasks that it never saw.

    python benchmarks/versus_schedules/run.py --tasks=mnist-mlp,cancer-mlp   # needs TFDS_DATA_DIR
    python benchmarks/versus_schedules/run.py --report

Schedules are tuned over seven rates on the task itself. Then all arms start from multiples of the
best constant rate, with the same initial weights and the same batches for a seed. Every training is
a line in a file, and what is there is not done again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import report
from absl import app, flags
from tasks import TASKS
from trainings import SCHEDULES, Runner

from benchmarks.common.records import Records, Row
from keras_qan.qan.policy import Policy, shipped

_TASKS = flags.DEFINE_list("tasks", list(TASKS), "which tasks")
_SEEDS = flags.DEFINE_integer("seeds", 8, "unseen seeds", lower_bound=1)
_POLICY = flags.DEFINE_string("policy", None, "another policy file than the shipped one")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/versus_schedules", "where the lines are kept")
_REPORT = flags.DEFINE_bool("report", False, "only print the tables of what is there")
_WRITE = flags.DEFINE_bool("write", False, "write the tables into RESULTS.md too")
_PARTS = flags.DEFINE_list("parts", ["tuning", "schedules", "policy"], "which parts, in this order")

FIRST_SEED = 2_000_000

#: Initial rates, relative to the best constant one.
FROM = (1 / 30, 1.0, 8.0)

#: Arms that start from each of them; the policy's own come last, as `shuffled` needs its states.
AT_EACH_RATE = ("constant", *SCHEDULES, "plateau", "schedule_free")
OF_THE_POLICY = ("random", "qan", "shuffled")


def is_known(rows: list[Row], arm: str, rate: float, seed: int) -> bool:
    """True if the training is among the rows."""
    return any(
        row["arm"] == arm and row["seed"] == seed and np.isclose(row["rate"], rate) for row in rows
    )


def _tuning(name: str, seeds: range) -> Iterator[tuple[str, float, int]]:
    for seed in seeds:
        for rate in TASKS[name].grid:
            yield "constant", rate, seed
            yield "cosine", rate, seed


def _starts(arms: tuple[str, ...], best: float, seeds: range) -> Iterator[Any]:
    for arm in arms:
        if arm == "adam":
            yield from (("adam", 0.001, seed) for seed in seeds)
            continue
        for seed in seeds:
            for factor in FROM:
                yield arm, best * factor, seed


def main(_: list[str]) -> None:
    """Trains what is missing, then prints the tables."""
    policy = Policy.load(_POLICY.value) if _POLICY.value else shipped()
    seeds = range(FIRST_SEED, FIRST_SEED + _SEEDS.value)
    for name in _TASKS.value if not _REPORT.value else ():
        runner = Runner(TASKS[name], policy)
        records = Records(Path(_OUT.value) / f"{name}.jsonl")
        for part in _PARTS.value:
            if part == "tuning":
                plays = _tuning(name, seeds)
            else:
                best = report.best_rate(records.rows, "constant")
                arms = (*AT_EACH_RATE, "adam") if part == "schedules" else OF_THE_POLICY
                plays = _starts(arms, best, seeds)
            for arm, rate, seed in plays:
                if not is_known(records.rows, arm, rate, seed):
                    bank = None
                    if arm == "shuffled":
                        bank = [
                            row["states"]
                            for row in records.rows
                            if row["arm"] == "qan" and row["seed"] != seed
                        ]
                    records.add(runner.train(arm, rate, seed, bank))
            print(f"{name}: {part} done", flush=True)
    tables = report.tables(Path(_OUT.value), FROM)
    print(tables)
    missing = [name for name in TASKS if not (Path(_OUT.value) / f"{name}.jsonl").exists()]
    if _WRITE.value and missing:
        print(f"RESULTS.md stays: there are no lines of {', '.join(missing)}.", file=sys.stderr)
    elif _WRITE.value:
        path = Path(__file__).with_name("RESULTS.md")
        path.write_text(report.replace_tables(path.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    app.run(main)
