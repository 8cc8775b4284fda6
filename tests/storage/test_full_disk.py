"""A full disk: one message with the way on; what was there stays, and another try works."""

from __future__ import annotations

import errno
import os

import pytest

from keras_qan.early_stopping import CurveHistory, FinishedCurve
from keras_qan.early_stopping import history as history_module
from keras_qan.metaqnn import records
from keras_qan.metaqnn.records import ModelRecord
from keras_qan.plots.report import write_report
from keras_qan.storage import files

MESSAGE = r"No space left on device while .* was written\. .*free some space, and go on"


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def curve(value):
    return FinishedCurve("val_loss", (1.0, value), {}, 2)


def row(number):
    return ModelRecord(number, "[SM]", 1.0, "trained", 0.5, 0.5, (0.5,), 0.0, 10, 0.1, 0, 1.0)


def save_figure(path):
    from keras_qan.plots.figures import make_figure, save

    save(make_figure(1, size=(1, 1))[0], path)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda path: write_report(path, title="A run"), "report.html"),
        pytest.param(save_figure, "figure.png", marks=pytest.mark.slow),
    ],
)
def test_a_report_or_figure_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, write, name):
    (tmp_path / name).write_text("the one before")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=MESSAGE):
        write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "the one before"
    monkeypatch.undo()
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() != b"the one before"


def test_a_models_row_is_added_whole_or_not_at_all(tmp_path, monkeypatch):
    records.append(tmp_path, row(0))
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=MESSAGE):
        records.append(tmp_path, row(1))
    monkeypatch.undo()
    assert [found.number for found in records.read(tmp_path)] == [0]
    records.append(tmp_path, row(1))
    assert [found.number for found in records.read(tmp_path)] == [0, 1]


@pytest.mark.parametrize("cut", [False, True])
def test_a_curve_that_found_no_space_is_not_read_and_the_next_one_is(tmp_path, monkeypatch, cut):
    history = CurveHistory(tmp_path)
    history.add(curve(0.5))
    write = os.write

    def partly(handle, content):
        return write(handle, content[:9]) if cut else full()

    monkeypatch.setattr(history_module.os, "write", partly)
    with pytest.raises(OSError, match=MESSAGE):
        history.add(curve(0.25))
    monkeypatch.undo()
    history.add(curve(0.125))
    assert [found.values[-1] for found in history.curves()] == [0.5, 0.125]
