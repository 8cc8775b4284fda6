"""MetaQNN with and without warm starts, really trained, at equal processor time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common.records import Records, Row
from benchmarks.search.replays import HIGH_START, brief
from benchmarks.search.report import Trace, rises
from benchmarks.search.table import Task, average_seconds
from keras_qan.metaqnn import MetaQNN, QLearning

#: Columns of the report.
MEANS = ("models", "after_one_epoch", "inherited")
#: Whether each model starts from a relative.
ARMS = {"plain": False, "warm starts": True}


def run(task: Task, out: Path, seeds: int, seconds: float) -> None:
    """Searches with every arm and seed for a processor time, a line each."""
    records = Records(out, "arm", "seed")
    keys = ((arm, seed) for seed in range(seeds) for arm in ARMS)
    for arm, seed in records.missing(keys):
        records.add({"arm": arm, "seed": seed} | search(task, seed, seconds, ARMS[arm]))


def search(task: Task, seed: int, seconds: float, warm_start: bool) -> Row:
    """One search: what was best when, and how its models began."""
    learning = QLearning(brief(round(seconds / average_seconds(task))), **HIGH_START)
    trace: Trace = []
    with tempfile.TemporaryDirectory() as folder:
        searched = MetaQNN(
            task.space, task.splits(), folder, seed, learning, task.recipe, warm_start=warm_start
        )
        began, before = time.process_time(), -1
        while searched.num_models > before:  # no more are found in a space that is known
            before = searched.num_models
            searched.run(before + 1, verbose=0)
            share = (time.process_time() - began) / seconds
            if share > 1.0:
                break
            trace.append((share, searched.best(1)[0].score))
        rows = searched.models[: len(trace)]
    return {
        "models": len(rows),
        "after_one_epoch": float(np.median([row.curve[0] for row in rows])),
        "inherited": float(np.mean([row.share for row in rows])),
        "trace": rises(trace),
    }
