"""The benchmark of fourteen tasks: its tables follow from its lines, and no training is lost."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "versus_schedules"


@pytest.fixture(scope="module", autouse=True)
def _on_path():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def row(arm, factor, seed, score, validation=None, task="mnist-wide"):
    """A line whose log test loss is `score`; validation losses are of other examples."""
    rates = {"adamw": 1e-3}
    values = [score if validation is None else validation]
    return {
        "task": task,
        "arm": arm,
        "rate": rates.get(arm, 1e-3 * factor),
        "seed": seed,
        "steps": 400,
        "test_loss": math.exp(score),
        "val_losses": [math.exp(value) for value in values],
    }


def tables(rows):
    from zero_shot_report import report

    found = {}
    for line in report(rows).splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line[2:-2].split("|")]
            found.setdefault(cells[0], []).append(cells)
    return found


def test_the_rate_of_a_cosine_is_chosen_by_validation_and_judged_by_the_test():
    rows = [
        row("cosine", factor, 0, test, validation)
        for factor, test, validation in ((0.1, -1.0, -1.0), (1.0, -3.0, -1.5), (10.0, -2.0, -1.6))
    ]
    rows += [row("qan", 1.0, 0, -2.5), row("none", 1.0, 0, -1.0)]
    found = tables(rows)
    assert "-2.000 (0.01)" in found["mnist-wide"][0]
    of_qan = {tuple(cells[1:3]): cells for cells in found["qan"] if len(cells) == 8}
    assert of_qan["all", "tuned cosine, from each rate"][4] == "-0.500"
    assert of_qan["all", "no callback, from the default rate"][4] == "-1.500"


def test_two_rates_are_too_few_to_call_a_schedule_tuned():
    rows = [row("cosine", factor, 0, -1.0) for factor in (1.0, 10.0)] + [row("qan", 1.0, 0, -2.0)]
    assert not any("tuned" in cells[2] for cells in tables(rows)["qan"] if len(cells) == 8)


def test_differences_are_over_the_seeds_of_both():
    rows = [row("none", 1.0, seed, -1.0) for seed in (0, 1)]
    rows += [row("qan", 1.0, 1, -1.3), row("qan", 1.0, 2, -9.0)]
    found = next(cells for cells in tables(rows)["qan"] if len(cells) == 8)
    assert found[4:] == ["-0.300", "-0.300", "-0.300", "0"]


def test_ranks_are_over_the_rates_that_all_arms_have_and_one_configuration_counts_at_each():
    rows = [row("adamw", 1.0, 0, -1.5)]
    for factor, none, qan in ((0.1, -1.0, -2.0), (1.0, -1.0, -1.0), (10.0, -2.0, -3.0)):
        rows += [row("none", factor, 0, none), row("qan", factor, 0, qan)]
    found = tables(rows)
    of_ranks = {arm: next(c for c in found[arm] if len(c) == 3) for arm in ("qan", "adamw", "none")}
    ranks = {arm: cells[1].split()[0] for arm, cells in of_ranks.items()}
    # Ranks of qan: 1, a tie of the second and third place, 1; of adamw: 2, 1, 3.
    assert ranks == {"qan": "1.50", "adamw": "2.00", "none": "2.50"}


def test_speed_is_the_share_of_the_steps_to_what_no_callback_ends_with():
    plain, steered = row("none", 1.0, 0, -1.0), row("qan", 1.0, 0, -1.0)
    plain["val_losses"], steered["val_losses"] = [4.0, 3.0, 2.0, 1.0], [2.0, 1.0, 0.5, 0.4]
    other = row("qan", 1.0, 1, -1.0) | {"val_losses": [2.0, 2.0, 2.0, 2.0]}
    also = row("none", 1.0, 1, -1.0) | {"val_losses": [4.0, 3.0, 2.0, 1.0]}
    assert tables([plain, steered, other, also])["qan"][-1] == ["qan", "1.25", "1 of 2"]


def test_far_rates_are_compared_with_the_callback_from_the_default_rate_and_rank_nowhere():
    rows = [row("qan", factor, 0, score) for factor, score in ((1.0, -2.0), (1e-6, -1.5))]
    rows += [row("qan", 1.0, 1, -9.0), row("none", 1.0, 0, -1.0), row("qan", 1e4, 0, -2.25)]
    found = tables(rows)
    assert found["mnist-wide"][-1][1:] == ["1", "+0.500", "–", "–", "-0.250", "+1.000"]
    assert found["median"] == [["median", "", "+0.500", "–", "–", "-0.250", "+1.000"]]
    assert next(cells for cells in found["qan"] if len(cells) == 8)[3] == "1"


def test_the_tables_of_the_results_are_those_of_the_kept_lines():
    from horizons import KEPT
    from zero_shot import RESULTS
    from zero_shot_report import report

    from benchmarks.common.tables import replace_block

    rows = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    text = RESULTS.read_text(encoding="utf-8")
    assert replace_block(text, "zero_shot", report(rows), RESULTS.name) == text


WORKER = """
import json, os, sys
for line in sys.stdin:
    task, number = json.loads(line)
    print("said by the way")
    if number == 3:
        try:  # one dies, though two may come here at once
            open(sys.argv[1], "x").close()
            os._exit(1)
        except FileExistsError:
            pass
    print("ROW " + json.dumps({"task": task, "number": number}), flush=True)
"""


@pytest.mark.parametrize("count", [1, 2])
def test_workers_answer_each_key_and_a_dead_one_costs_none(tmp_path, count):
    from workers import Workers

    script, rows = tmp_path / "worker.py", []
    script.write_text(WORKER)
    keys = [(task, number) for number in range(5) for task in ("a", "b")]
    workers = Workers([str(script), str(tmp_path / "died")], count)
    if count == 1:
        with pytest.raises(RuntimeError, match="trainings are left"):
            workers.run(keys, rows.append)
        workers.run([key for key in keys if key not in _keys(rows)], rows.append)
    else:
        workers.run(keys, rows.append)
    assert sorted(_keys(rows)) == sorted((t, n) for n in range(5) for t in ("a", "b"))


def _keys(rows):
    return [(row["task"], row["number"]) for row in rows]
