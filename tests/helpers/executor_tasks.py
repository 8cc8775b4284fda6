"""Tasks that the tests of the engines hand out."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def twice(value: Any, seconds: float = 0.0) -> Any:
    time.sleep(seconds)
    return value * 2


def refuse(value: int) -> None:
    raise ValueError(f"{value} is not what I take")


def die(notes: str, number: int, times: int) -> int:
    """Kills its process the first `times` times, then gives its number."""
    path = Path(notes) / f"{number}.txt"
    seen = len(path.read_text()) if path.exists() else 0
    if seen < times:
        path.write_text("x" * (seen + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def pid() -> int:
    time.sleep(0.2)
    return os.getpid()


def threads() -> int:
    return int(os.environ["TF_NUM_INTRAOP_THREADS"])


def wait_for_ever(note: str) -> None:
    Path(note).write_text(str(os.getpid()))
    time.sleep(600.0)
