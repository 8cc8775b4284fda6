"""TensorFlow's notes are held back; everything else on standard error comes through."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, sys
from keras_qan.utils.quiet import without_tensorflow_noise
with without_tensorflow_noise():
    os.write(2, b"I0000 00:00:17.4 926 port.cc:153] oneDNN custom operations are on.\\n")
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called\\n")
    os.write(2, b"E0000 00:00:17.4 926 other.cc:1] something is really wrong\\n")
    print("a warning of Python's", file=sys.stderr)
    {more}
print("after", file=sys.stderr)
"""


def run(more="pass"):
    ran = subprocess.run(
        [sys.executable, "-c", CODE.format(more=more)], capture_output=True, text=True, check=False
    )
    return ran.stderr.splitlines()


def test_notes_are_left_out_and_errors_are_passed_on():
    assert run() == [
        "E0000 00:00:17.4 926 other.cc:1] something is really wrong",
        "a warning of Python's",
        "after",
    ]


def test_what_was_written_before_an_exception_is_not_lost():
    lines = run("raise ValueError('broken')")
    assert lines[1] == "a warning of Python's"
    assert lines[-1] == "ValueError: broken"


def test_a_closed_stream_does_no_harm():
    code = (
        "import sys; sys.__stderr__ = None\n"
        "from keras_qan.utils.quiet import without_tensorflow_noise\n"
        "with without_tensorflow_noise(): print('fine')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "fine\n"
