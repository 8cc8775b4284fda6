"""Imports without the lines that TensorFlow writes before its log can be set."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

#: Lines of TensorFlow's C++ log below an error, what introduces them, and the error that there is
#: no GPU.
_NOISE = re.compile(
    rb"([IW]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IW] |WARNING: All log messages before"
    rb"|To enable the following instructions|E\d{4} .*failed call to cuInit)"
)


@contextlib.contextmanager
def without_tensorflow_noise() -> Iterator[None]:
    """Hold back the standard error stream of a block, and pass on what is no noise.

    TensorFlow writes notes on the machine (oneDNN, a missing GPU) from C++, whatever the level of
    its log is. Errors and all other text come through when the block ends, however it ends.
    `TF_CPP_MIN_LOG_LEVEL` is set to 2 where the user has not set it, for what comes later.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        stream = sys.__stderr__
        descriptor = None if stream is None else stream.fileno()
    except (AttributeError, OSError, ValueError):
        descriptor = None
    if descriptor is None:
        yield  # there is no such stream to hold back
        return
    sys.stderr.flush()
    kept = os.dup(descriptor)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), descriptor)
        try:
            yield
            if "tensorflow" in sys.modules:
                # It looks for GPUs now, and complains now where there is none.
                sys.modules["tensorflow"].config.list_physical_devices()
        finally:
            sys.stderr.flush()
            os.dup2(kept, descriptor)
            os.close(kept)
            aside.seek(0)
            for line in aside.read().splitlines(keepends=True):
                if not _NOISE.match(line):
                    os.write(descriptor, line)
