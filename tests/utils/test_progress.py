"""Lines of progress where the output is no terminal: one when due, and one at the end."""

from __future__ import annotations

import time

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


def test_a_silence_is_broken_whatever_is_computed_meanwhile(capsys):
    with progress.Lines(seconds=0.02) as lines:
        lines.start("fits", 0, 2, 3)
        lines.epochs().on_epoch_begin(1)
        time.sleep(0.1)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "fits: 0 of 2, 0 s"
    assert "fits: 0 of 2, epoch 2 of 3, 0 s" in printed[1:]


def test_nothing_is_printed_when_the_block_is_over(capsys):
    with progress.Lines(seconds=0.01) as lines:
        lines.start("fits", 0, 2, 0)
    time.sleep(0.03)
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("verbose", "expected"),
    [
        (0, []),
        (1, ["fits: 0 of 2, 0 s", "the best so far", "fits: 2 of 2, 0 s"]),
        ("auto", ["fits: 0 of 2, 0 s", "the best so far", "fits: 2 of 2, 0 s"]),
        (2, ["fits: 0 of 2, 0 s", "the best so far", "fit 2: 0.5"]),
    ],
)
def test_verbosity_is_that_of_keras(verbose, expected, capsys):
    with progress.for_verbosity(verbose) as shown:
        shown.start("fits", 0, 2, 0)
        shown.advance()
        shown.say("the best so far")
        shown.advance()
        shown.say("fit 2: 0.5", is_decision=False)
    assert capsys.readouterr().out.splitlines() == expected


def test_bars_show_decisions_above_them(capsys):
    with progress.Bars() as bars:
        bars.start("fits", 0, 2, 0)
        bars.say("model [0]: the best so far")
        bars.say("model 1: 0.5", is_decision=False)
    printed = capsys.readouterr().out
    assert "model [0]: the best so far" in printed
    assert "model 1" not in printed


def test_another_verbosity_is_refused():
    with pytest.raises(ValueError, match=r"verbose is 3; expected 0, 1, 2 or 'auto'"):
        progress.for_verbosity(3)


def test_no_terminal_gets_lines():
    assert isinstance(progress.for_terminal(), progress.Lines)
