"""Trials that workers run are those that this process would have run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_qan.metaqnn import (
    EpsilonSchedule,
    MetaQNN,
    QLearning,
    Recipe,
    Space,
    Stopping,
)
from keras_qan.parallel import make_executor

SPACE = Space(filters=(4, 8), sizes=(3,), pools=((2, 2),), dense=(8,), max_dense=1, max_depth=3)
QUICK = Recipe(stages=((0.03, 2),), batch_size=16, dropout=False, restart_after=0)


def data():
    rng = np.random.default_rng(0)
    y = np.arange(48) % 3
    x = rng.normal(scale=0.3, size=(48, 6, 6, 1)).astype("float32")
    for label in range(3):
        x[y == label, label] += 1.0
    return (x, y), (x[:24], y[:24])


def plain(row):
    """All of a row but the time it took and what is NaN, which equals nothing."""
    found = dataclasses.asdict(row) | {"seconds": 0.0}
    return {name: value for name, value in found.items() if value == value}


@pytest.mark.stress
def test_a_search_on_two_workers_is_the_one_that_trains_two_at_a_time_here(tmp_path):
    def found(name, **more):
        learning = QLearning(EpsilonSchedule.scaled(6), replays=4)
        search = MetaQNN(
            SPACE,
            data(),
            tmp_path / name,
            learning=learning,
            recipe=QUICK,
            stopping=Stopping(),
            warm_start=True,
            parallel=2,
            **more,
        )
        rows = [plain(row) for row in search.run(3)]
        return rows, sorted(path.name for path in (tmp_path / name / "weights").iterdir())

    with make_executor("local", 2) as two:
        assert found("two", engine=two) == found("here")
