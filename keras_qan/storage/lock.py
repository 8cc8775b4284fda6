"""Lock of a run's directory, so that it has one writer."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
from pathlib import Path
from types import TracebackType

try:
    import fcntl
except ImportError:  # not on Windows, where directories are not locked
    fcntl = None  # type: ignore[assignment]

#: The file in a run's directory that its writer holds.
NAME = ".lock"


class DirectoryInUseError(OSError):
    """Another process writes to the directory."""


class Lock:
    """Holds a directory until `release`, or until this process ends, however it ends.

    The operating system releases the lock with the process, so that nothing is left to clear away
    after a kill; the file itself stays. Within one process a directory can be held several times.

    Args:
      directory: an existing folder.

    Raises:
      DirectoryInUseError: another process holds it.
    """

    _held: dict[str, _Held] = {}  # noqa: RUF012 - of the whole process, by folder
    _guard = threading.Lock()
    _releases_in_forks = False

    def __init__(self, directory: str | Path) -> None:
        self._key: str | None = os.path.realpath(directory)
        with self._guard:
            self._release_in_forks()
            if self._key not in self._held:
                self._held[self._key] = _Held(_lock(Path(directory)))
            self._held[self._key].times += 1

    def release(self) -> None:
        """Release the directory; again does nothing."""
        with self._guard:
            held = self._held.get(self._key or "")
            if self._key is None or held is None:
                return
            held.times -= 1
            if held.times == 0:
                del self._held[self._key]
                held.close()
            self._key = None

    @classmethod
    def _release_in_forks(cls) -> None:
        """Let forked children hold nothing: their copies of the files would outlive the lock."""
        if cls._releases_in_forks or not hasattr(os, "register_at_fork"):
            return
        cls._releases_in_forks = True

        def forget() -> None:
            cls._guard = threading.Lock()
            for held in cls._held.values():
                held.close()
            cls._held.clear()

        os.register_at_fork(after_in_child=forget)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the directory."""
        self.release()


@dataclasses.dataclass
class _Held:
    descriptor: int | None
    times: int = 0

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def _lock(directory: Path) -> int | None:
    """Return the locked file's descriptor; None where the system knows no such locks."""
    if fcntl is None:
        return None
    descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise DirectoryInUseError(
            f"{directory} is being written to by {holder}; expected one run at a time in a "
            "directory. Wait until it is over, or give another directory."
        ) from error
    except OSError:
        os.close(descriptor)  # a network file system without locks
        return None
    with contextlib.suppress(OSError):  # who holds it is a courtesy, also on a full disk
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return descriptor
