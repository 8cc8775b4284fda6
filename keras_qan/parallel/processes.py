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
from keras_qan.parallel.worker_pool import CallOutcome, WorkerPool

#: Seconds after which a wait comes back with nothing, so that signals are seen to.
_PATIENCE = 1.0

#: Seconds that a worker is given to end by itself.
_GRACE = 5.0


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection


class ProcessExecutor(WorkerPool):
    """Workers that are processes of their own, started when first needed; see `Engine`.

    They are started anew, not forked: TensorFlow's threads do not survive a fork. Each ends when
    this process does, however that ends.

    Args:
      workers: how many, at least 1.
      threads: that TensorFlow uses in each; 0 for as many as there are cores.

    Raises:
      ValueError: a number is out of range.
    """

    def __init__(self, workers: int, threads: int = 0) -> None:
        super().__init__(workers)
        self._threads = threads
        self._staff: dict[int, _Worker] = {}

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers that were started."""
        return [worker.process.pid for worker in self._staff.values()]

    def start(self, worker: int, call: Call) -> None:
        """Gives a task to a worker."""
        if worker not in self._staff:
            self._staff[worker] = self._hire()
        # A worker that died since is noticed by `wait`.
        with contextlib.suppress(OSError):
            self._staff[worker].connection.send((call.function, call.arguments))

    def wait(self) -> list[tuple[int, CallOutcome]]:
        """What came in within a while."""
        workers = {each.connection: number for number, each in self._staff.items()}
        ended = []
        for ready in wait(list(workers), _PATIENCE):
            connection = cast("Connection", ready)
            number = workers[connection]
            try:
                kind, value = connection.recv()
                ended.append((number, CallOutcome(kind, value)))
            except (EOFError, OSError):
                ended.append((number, CallOutcome("died", self._dismiss(number))))
        return ended

    def give_up(self, worker: int) -> None:
        """Ends the worker with its task."""
        if worker in self._staff:
            self._staff[worker].process.kill()
            self._dismiss(worker)

    def close(self) -> None:
        """Ends all workers."""
        for worker in list(self._staff):
            self._dismiss(worker)

    def _hire(self) -> _Worker:
        mine, theirs = socket.socketpair()
        command = [sys.executable, "-m", "keras_qan.parallel.worker_main", str(theirs.fileno())]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [*command, str(self._threads)], pass_fds=[theirs.fileno()], env=environment
        )
        theirs.close()
        return _Worker(process, Connection(mine.detach()))

    def _dismiss(self, worker: int) -> str:
        """Lets a worker go; how it ended, in words."""
        gone = self._staff.pop(worker)
        gone.connection.close()
        try:
            code = gone.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            gone.process.kill()
            code = gone.process.wait()
        if code < 0:
            return f"process {gone.process.pid} was ended by {signal.Signals(-code).name}"
        return f"process {gone.process.pid} ended with code {code}"
