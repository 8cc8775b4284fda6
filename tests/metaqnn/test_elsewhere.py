"""Trials that workers run are those that this process would have run."""

from __future__ import annotations

import dataclasses

import pytest
from test_search import QUICK, SPACE, data, plain

from keras_qan.engine import engine_by_name
from keras_qan.metaqnn import EpsilonSchedule, Learning, MetaQNN, Stopping, trials_on


@pytest.mark.slow
def test_a_search_on_two_workers_is_the_one_that_trains_two_at_a_time_here(tmp_path):
    def found(name, **more):
        learning = Learning(EpsilonSchedule.scaled(6), replays=4)
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
        rows = [plain(dataclasses.replace(row, seconds=0.0)) for row in search.run(4)]
        return rows, sorted(path.name for path in (tmp_path / name / "weights").iterdir())

    with engine_by_name("local", 2) as two:
        assert found("two", engine=trials_on(two)) == found("here")
