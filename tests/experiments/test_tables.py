"""Tables fit the terminal that they are printed on."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from keras_qan.experiments import tables
from keras_qan.experiments.runner import RunReport
from keras_qan.plots.report import ReportTable
from keras_qan.rally.report import RallyReport


def printed(width, found):
    console = Console(file=io.StringIO(), width=width)
    tables.show(console, found)
    return console.file.getvalue()


def comparison(tmp_path):
    common = {"seeds": 3, "log_val_loss": -2.5, "interval": (-2.6, -2.4), "test_accuracy": 0.975,
              "steps_to_target": float("inf"), "diverged": 1}  # fmt: skip
    rows = [
        common | {"initial_learning_rate": rate, "arm": arm, "minus_reference": 1.25,
                  "minus_reference_interval": (1.04, 1.46)}
        for rate in (0.001, 0.24) for arm in ("qan", "constant", "plateau")
    ]  # fmt: skip
    return tables.comparison_tables(RunReport(rows, tmp_path, 0))


def test_the_demos_table_fits_eighty_columns_with_all_it_has_to_say(tmp_path):
    text = printed(80, comparison(tmp_path))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("+1.25 (+1.04 … +1.46)") == 4
    assert text.count("plateau") == 2
    assert "…\n" not in text


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal_gets_everything_that_is_not_minor(tmp_path, width):
    text = printed(width, comparison(tmp_path))
    joined = " ".join(text.split())
    assert joined.count("+1.25 (+1.04 … +1.46)") == 4
    assert max(map(len, text.splitlines())) <= width


def test_one_seed_has_no_interval_and_one_arm_nothing_to_be_behind():
    none = (math.nan, math.nan)
    row = {"seeds": 1, "log_val_loss": -2.5, "interval": none, "minus_reference_interval": none,
           "test_accuracy": math.nan, "steps_to_target": 7.0, "diverged": 0,
           "initial_learning_rate": 0.1}  # fmt: skip
    rows = [
        row | {"arm": "constant", "minus_reference": 0.25},
        row | {"arm": "cosine", "minus_reference": math.nan},
    ]
    text = printed(80, tables.comparison_tables(RunReport(rows, "run", 0)))
    assert "+0.25" in text
    assert "nan" not in text


def test_markup_in_a_cell_is_text():
    table = ReportTable("[bold]t", ("[red]a",), (("[1, 2]",),))
    text = printed(80, [table])
    assert "[1, 2]" in text
    assert "[red]a" in text


def test_a_report_prints_a_line_for_each_arm():
    row = {"initial_learning_rate": 0.01, "arm": "qan", "log_val_loss": -2.0, "seeds": 3,
           "interval": (-2.5, -1.5)}  # fmt: skip
    assert str(RunReport([row], Path("runs/mine"), 7)).splitlines() == [
        "from 0.01, qan: log validation loss -2.00 (-2.50 … -1.50), 3 seeds",
        "7 training episodes; run: runs/mine",
    ]


def test_a_rallys_report_prints_a_line_for_each_stage():
    stage = {"stage": 1, "examples": 1000, "parameters": 50, "steps": 8, "multiply_adds": 12345.0,
             "val_loss": 0.5, "val_accuracy": 0.75}  # fmt: skip
    assert str(RallyReport(None, [stage], [], {"accuracy": 0.7})).splitlines() == [
        "stage 1: 1,000 examples, 50 parameters, 8 steps, 1.23e+04 multiply-adds; val_loss 0.5, "
        "val_accuracy 0.75",
        "test: accuracy 0.7",
    ]
