"""Requests to stop (SIGTERM), which end a run between writes and never within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, ClassVar

_MESSAGE = (
    "The run was asked to stop (SIGTERM), and has. What was finished is on the disk; go on from it "
    "with the same directory (scripts: --resume)."
)


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A run was asked to stop; all that it had finished is on the disk."""


class StopRequests:
    """Context that listens for SIGTERM in the main thread.

    A request raises `Stopped` where the program is; within `hold()` it waits until the block is
    over. A second one ends the process as if nobody listened. A context within another is the outer
    one again.
    """

    _outermost: ClassVar[StopRequests | None] = None

    def __init__(self) -> None:
        self.requested = False
        self._holds = 0
        self._before: Any = None

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is not threading.main_thread():
            return self
        if StopRequests._outermost is None:
            StopRequests._outermost = self
            self._before = signal.signal(signal.SIGTERM, self._request)
        return StopRequests._outermost

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Restore the signal; an error that the request led to within TensorFlow becomes it.

        A request that was lost on the way, as within a callback of the garbage collector, is
        answered here.
        """
        if self is StopRequests._outermost:
            StopRequests._outermost = None
            signal.signal(signal.SIGTERM, self._before)
        is_answered = isinstance(error, Stopped)
        if self.requested and not is_answered and isinstance(error, Exception | None):
            raise Stopped(_MESSAGE) from error

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Let nothing be broken off within the block."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        if self.requested and not self._holds:
            raise Stopped(_MESSAGE)

    def _request(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.requested = True
        signal.signal(signal.SIGTERM, self._before)
        if not self._holds:
            raise Stopped(_MESSAGE)
