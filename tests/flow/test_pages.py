"""README and the page of results say what the benchmarks' tables say; those, what was measured."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from benchmarks import pages
from benchmarks.common.code import without_words
from benchmarks.common.tables import replace_table
from benchmarks.rally.growth import HEADINGS
from benchmarks.versus_schedules.report import replace_tables

ROOT = Path(__file__).parents[2]


def records(path):
    return [json.loads(line) for line in (ROOT / "benchmarks" / path).read_text().splitlines()]


@pytest.mark.parametrize("page", pages.BLOCKS)
def test_a_page_is_what_the_script_writes(page):
    assert pages.written(page) == (ROOT / page).read_text(encoding="utf-8"), (
        f"{page} differs from the benchmarks' tables: run `python benchmarks/pages.py`."
    )


def test_a_figure_that_was_changed_by_hand_is_found(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(text.replace("**3.1**", "**1.0**"), encoding="utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert pages.written("README.md") == text


def test_a_page_without_the_marks_is_refused(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("nothing", encoding="utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"no place for 'ranks': <!--ranks-->"):
        pages.written("README.md")


def test_the_gaps_of_other_networks_are_those_of_the_kept_lines():
    rows = [row for row in records("versus_schedules/zero_shot.jsonl") if row["steps"] == 240]
    losses = {}
    for row in rows:
        losses[row["task"], row["arm"], row["rate"], row["seed"]] = row["test_loss"]
    ratios = {}
    for (task, arm, rate, seed), loss in losses.items():
        if arm == "qan" and (task, "none", rate, seed) in losses:
            ratios.setdefault(task, []).append(loss / losses[task, "none", rate, seed])
    gaps = pages.zero_shot_gaps()
    assert set(gaps) == set(ratios)
    for task, found in ratios.items():
        geometric_mean = math.prod(found) ** (1 / len(found))
        assert math.exp(gaps[task]) == pytest.approx(geometric_mean)


def test_the_table_of_habits_is_that_of_its_records():
    text = (ROOT / "benchmarks" / "habits" / "RESULTS.md").read_text(encoding="utf-8")
    code = re.search(r"code `(\w+)`", text)[1]
    steered = [row for row in records("habits/with.jsonl") if row["code"] == code]
    plain = {(row["situation"], row["seed"]): row for row in records("habits/without.jsonl")}
    table = {row["situation"]: row for row in pages.read_table("habits", "situation")}
    losses = {}
    for row in steered:
        other = plain[row["situation"], row["seed"]]["scores"]
        for part, scores in row["scores"].items():
            name = f"{row['situation']}: {part}" if part else row["situation"]
            losses.setdefault(name, []).append(scores["loss"] - other[part]["loss"])
    assert set(losses) == set(table)
    for name, found in losses.items():
        assert table[name]["pairs"] == str(len(found))
        assert float(table[name]["difference"]) == pytest.approx(sum(found) / len(found), abs=6e-5)


@pytest.mark.parametrize(("task", "heading"), list(HEADINGS.items()))
def test_the_tables_of_the_rally_are_those_of_its_records(task, heading):
    rows = [row for row in records("rally/growth.jsonl") if row["task"] == task]
    nothing = {row["seed"]: row["test_accuracy"] for row in rows if row["arm"] == "from nothing"}
    table = {row["arm"]: row for row in pages.read_table("rally", "arm", heading)}
    assert set(table) == {row["arm"] for row in rows}
    for arm, cells in table.items():
        own = [row for row in rows if row["arm"] == arm]
        assert cells["seeds"] == str(len(own))
        if arm != "from nothing":
            gaps = [row["test_accuracy"] - nothing[row["seed"]] for row in own]
            said = float(cells["minus from nothing's"].split("%")[0])
            assert said == pytest.approx(100 * sum(gaps) / len(gaps), abs=0.006)


def test_the_tables_of_the_schedules_are_replaced_and_the_prose_stays():
    text = "# Head\n\nprose\n\n## A: one\nold\n\n## Reading\nmore\n"
    assert replace_tables(text, "## A: one\nnew") == (
        "# Head\n\nprose\n\n## A: one\nnew\n\n## Reading\nmore\n"
    )


def test_the_first_table_below_a_heading_is_replaced_and_nothing_else():
    text = "# Head\n\n| a |\n\n## B\n\nwords\n\n| b |\n| 1 |\n\nmore\n\n| c |\n"
    assert replace_table(text, "B", "| b |\n| 2 |") == text.replace("| 1 |", "| 2 |")


def test_words_are_no_part_of_the_code_that_was_measured():
    code = "def f(x):\n    return x + 1\n"
    told = 'def f(x):\n    """Add."""\n    return x + 1  # one\n'
    assert without_words(told) == without_words(code)
    assert without_words(told) != without_words(code.replace("1", "2"))
    assert (
        without_words('class E(ValueError):\n    """No."""\n') == "class E(ValueError):\n    pass"
    )
