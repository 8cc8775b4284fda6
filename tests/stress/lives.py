"""One life of a run: a forked process that goes on with it until it ends or is ended.

Lives are forked from a process that has imported TensorFlow and never uses it, so that each begins
at once and with nothing of another.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_qan.distribute import WorkerLostError
from keras_qan.storage.lock import DirectoryInUseError
from keras_qan.storage.signals import Stopped
from tests.stress import small_run

#: How a life may end; anything else is an error of ours.
FINISHED, STOPPED, NO_SPACE, IN_USE, RAISED, LOST = 0, 10, 11, 12, 13, 14

#: Called in the process of a life; returns further keywords of `small_run.go`.
Setup = Callable[[], dict[str, Any]]


class InjectedError(Exception):
    """Raised by the data pipeline."""


def plain() -> dict[str, Any]:
    """Nothing is injected."""
    return {}


def start(directory: Path, setup: Setup, log: Path) -> int:
    """Starts a life in a forked process; its process number."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        with log.open("a") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        code = _run(directory, setup)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(directory: Path, setup: Setup) -> int:
    warnings.simplefilter("ignore")
    try:
        small_run.go(directory, **setup())
    except Stopped as stopped:
        print(stopped)
        return STOPPED
    except DirectoryInUseError as error:
        print(error)
        return IN_USE
    except WorkerLostError as error:
        print(error)
        return LOST
    except OSError as error:
        print(error)
        return NO_SPACE if error.errno in (errno.ENOSPC, errno.EFBIG) else 99
    except Exception as error:
        if "InjectedError" in str(error):
            return RAISED
        raise
    return FINISHED


def wait_for(child: int) -> int:
    """Waits for the end of a life: its exit code, or the negative number of the signal."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def poll(child: int) -> int | None:
    """The exit code of a life; None while it lives."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None
