"""Lines of progress where the output is no terminal: one when due, and one at the end."""

from __future__ import annotations

import pytest

from keras_qan.utils import progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_a_line_is_printed_when_due_and_after_the_last_episode(clock, capsys):
    lines = progress.Lines(seconds=5.0)
    lines.start("fits", 1, 4, 3)
    clock.now = 4.0
    lines.advance()
    clock.now = 9.5
    lines.advance()
    lines.advance()
    assert capsys.readouterr().out.splitlines() == [
        "fits: 1 of 4, 0 s", "fits: 3 of 4, 10 s", "fits: 4 of 4, 10 s",
    ]  # fmt: skip


def test_a_line_is_due_in_the_middle_of_a_long_fit(clock, capsys):
    lines = progress.Lines(seconds=5.0)
    lines.start("fits", 0, 2, 3)
    callback = lines.epochs()
    callback.on_epoch_begin(1)
    callback.on_train_batch_end(0)
    clock.now = 6.0
    callback.on_train_batch_end(1)
    assert capsys.readouterr().out.splitlines()[1:] == ["fits: 0 of 2, epoch 2 of 3, 6 s"]


def test_no_terminal_gets_lines():
    assert isinstance(progress.for_terminal(), progress.Lines)
