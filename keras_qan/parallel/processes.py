"""Tasks in other processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import cast

from keras_qan.parallel.call import Call
from keras_qan.parallel.worker_pool import WAIT_SECONDS, CallOutcome, WorkerPool

#: Seconds that an idle worker is given to end by itself.
_GRACE = 5.0


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    is_busy: bool = False


class ProcessExecutor(WorkerPool):
    """Workers that are processes of their own, started when first needed; see `Executor`.

    They are started anew, not forked: TensorFlow's threads do not survive a fork. Each ends when
    this process does, however that ends.

    Args:
      workers: how many, at least 1.
      threads: that TensorFlow uses in each; 0 for as many as there are cores. Defaults to 0.

    Raises:
      ValueError: a number is out of range.
    """

    def __init__(self, workers: int, threads: int = 0) -> None:
        super().__init__(workers)
        self._threads = threads
        self._running: dict[int, _Worker] = {}

    @property
    def running(self) -> list[int]:
        """Numbers of the workers that were started and not stopped."""
        return list(self._running)

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers that were started."""
        return [worker.process.pid for worker in self._running.values()]

    def start_worker(self, worker: int) -> None:
        """Start a process."""
        mine, theirs = socket.socketpair()
        command = [sys.executable, "-m", "keras_qan.parallel.worker_main", str(theirs.fileno())]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [*command, str(self._threads)], pass_fds=[theirs.fileno()], env=environment
        )
        theirs.close()
        self._running[worker] = _Worker(process, Connection(mine.detach()))

    def stop_worker(self, worker: int) -> str:
        """End a process, at once where it has a task, and return how it ended, in words."""
        gone = self._running.pop(worker)
        if gone.is_busy:
            gone.process.kill()
        gone.connection.close()
        try:
            code = gone.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            gone.process.kill()
            code = gone.process.wait()
        if code < 0:
            return f"process {gone.process.pid} was ended by {signal.Signals(-code).name}"
        return f"process {gone.process.pid} ended with code {code}"

    def submit(self, worker: int, call: Call) -> None:
        """Send a task to a process."""
        self._running[worker].is_busy = True
        # A worker that died since is noticed by `wait`.
        with contextlib.suppress(OSError):
            self._running[worker].connection.send((call.function, call.arguments))

    def wait(self) -> list[tuple[int, CallOutcome]]:
        """Wait until some process's task is over, or for `WAIT_SECONDS`."""
        workers = {each.connection: number for number, each in self._running.items()}
        ended = []
        for ready in wait(list(workers), WAIT_SECONDS):
            connection = cast("Connection", ready)
            number = workers[connection]
            self._running[number].is_busy = False
            try:
                kind, value = connection.recv()
                ended.append((number, CallOutcome(kind, value)))
            except (EOFError, OSError):
                ended.append((number, CallOutcome("died", self.stop_worker(number))))
        return ended
