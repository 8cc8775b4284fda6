"""The benchmark against a search: what counts after how many trainings."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "versus_schedules"


@pytest.fixture(scope="module", autouse=True)
def _on_path():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def search_of(trials, seed=0):
    """A search whose trials have these log losses, validation and test."""
    losses = [["cosine", 1e-3, *map(math.exp, trial)] for trial in trials]
    return {"task": "mnist-wide", "seed": seed, "trials": losses, "steps": 400}


def line(factor, validation, test, seed=0):
    return {
        "task": "mnist-wide",
        "arm": "qan",
        "rate": 1e-3 * factor,
        "seed": seed,
        "steps": 400,
        "val_losses": [9.0, math.exp(validation)],
        "test_loss": math.exp(test),
    }


def test_a_search_is_judged_by_the_test_loss_of_its_best_validation_so_far():
    from search_report import after

    row = search_of([(-1.0, -3.0), (-2.0, -1.5), (-1.5, -9.0)] + [(-3.0, -2.5)] * 3)
    assert [round(after(row, budget), 6) for budget in (1, 3, 6)] == [-3.0, -1.5, -2.5]


def test_a_training_that_diverged_is_never_the_best():
    from search_report import after

    row = search_of([(-1.0, -1.0)])
    row["trials"].insert(0, ["none", 10.0, None, None])
    assert after(row, 2) == pytest.approx(-1.0)


def test_the_callback_is_paired_with_the_search_of_its_seed():
    from search_report import report

    lines = [line(f, -f, -1.0 - f) for f in (0.01, 0.1, 1.0, 10.0, 100.0)]
    lines += [line(1.0, -7.0, -7.0, seed=1)]  # a seed that lacks four of its rates
    searches = [search_of([(-1.0, -1.0)] * 20), search_of([(-8.0, -8.0)] * 20, seed=1)]
    row = next(r for r in report(searches, lines).splitlines() if r.startswith("| mnist-wide"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["1", "-2.000", "-101.000", *["-1.000"] * 3, "-1.000", *["-100.000"] * 2]


def test_the_table_of_the_results_is_that_of_the_kept_lines():
    from horizons import KEPT
    from search_report import report

    from benchmarks.common.records import read_rows
    from benchmarks.common.tables import replace_block

    page = FOLDER / "RESULTS.md"
    text = page.read_text(encoding="utf-8")
    table = report(read_rows(FOLDER / "versus_search.jsonl"), read_rows(KEPT))
    assert replace_block(text, "versus_search", table, page.name) == text
