"""Curves on disk."""

from __future__ import annotations

import json
import math

import pytest

from keras_qan.early_stopping import CurveHistory, FinishedCurve

CURVE = FinishedCurve(
    "val_loss", (0.5, 0.25), {"depth": 2, "kind": "a"}, 2, False, ((1.0, 0.2, 0.1, 0.3),)
)


def test_what_was_added_is_read_again_also_by_another(tmp_path):
    CurveHistory(tmp_path).add(CURVE)
    assert CurveHistory(tmp_path).curves() == [CURVE]


def test_curves_that_another_process_adds_are_seen(tmp_path):
    one, other = CurveHistory(tmp_path), CurveHistory(tmp_path)
    one.add(CURVE)
    assert len(other.curves()) == 1
    one.add(CURVE)
    assert len(other.curves()) == 2


def test_a_line_that_a_kill_cut_short_is_left_out_and_harms_no_other(tmp_path):
    history = CurveHistory(tmp_path)
    history.add(CURVE)
    path = tmp_path / CurveHistory.FILE
    path.write_bytes(path.read_bytes() + b'{"monitor": "val_lo')
    assert CurveHistory(tmp_path).curves() == [CURVE]
    CurveHistory(tmp_path).add(CURVE)
    assert CurveHistory(tmp_path).curves() == [CURVE, CURVE]


def test_what_json_has_no_number_for_becomes_null(tmp_path):
    history = CurveHistory(tmp_path)
    history.add(
        FinishedCurve("val_loss", (0.5, math.nan), {}, 2, False, ((1.0, 0.2, -math.inf, 1.0),))
    )
    assert json.loads((tmp_path / CurveHistory.FILE).read_text())["values"] == [0.5, None]
    assert math.isnan(history.curves()[0].values[1])


def test_only_whole_curves_of_the_metric_are_learned_from(tmp_path):
    history = CurveHistory(tmp_path)
    for monitor, values, stopped in [
        ("val_loss", (0.5, 0.4), False),
        ("val_loss", (0.5, 0.4), True),
        ("val_loss", (0.5,), False),
        ("val_loss", (0.5, math.nan), False),
        ("val_accuracy", (0.5, 0.6), False),
    ]:
        history.add(FinishedCurve(monitor, values, {}, 2, stopped))
    assert [one.values for one in history.finished_curves("val_loss")] == [(0.5, 0.4)]
    assert len(history.curves()) == 5


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / CurveHistory.FILE).write_text('{"arm": "qan"}\n')
    with pytest.raises(ValueError, match="no learning curve"):
        CurveHistory(tmp_path).curves()
