"""A request to stop (SIGTERM) ends a run between writes, never within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A run was asked to stop; all that it had finished is on the disk."""


class StopRequests:
    """Listens for SIGTERM in the main thread, as a context.

    A request raises `Stopped` where the program is; within `held()` it waits until the block is
    over. A second one ends the process as if nobody listened.
    """

    def __init__(self) -> None:
        self.requested = False
        self._held = 0
        self._before: Any = None

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Hands the signal back; an error that the request led to within TensorFlow becomes it."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
        if self.requested and isinstance(error, Exception) and not isinstance(error, Stopped):
            raise Stopped(_MESSAGE) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within the block nothing is broken off."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self.requested and not self._held:
            raise Stopped(_MESSAGE)

    def _request(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.requested = True
        signal.signal(signal.SIGTERM, self._before)
        if not self._held:
            raise Stopped(_MESSAGE)


_MESSAGE = (
    "The run was asked to stop (SIGTERM), and has. What was finished is on the disk; go on from it "
    "with the same directory (scripts: --resume)."
)
