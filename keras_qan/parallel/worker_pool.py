"""Workers that may die: hands tasks to them, and gives results in the order of the tasks."""

from __future__ import annotations

import abc
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from keras_qan.parallel.call import Call, TaskError, WorkerDiedError

_log = logging.getLogger(__name__)

#: Times that a task is started before it is given up. A worker that dies by chance does so once; a
#: task that kills its worker does so every time.
ATTEMPTS = 4

#: Seconds after which a wait comes back with nothing, so that signals are handled.
WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class CallOutcome:
    """End of a task in a worker.

    Attributes:
      kind: "done", "raised", or "died" where the worker is gone.
      value: the result; for the others an account as text.
    """

    kind: Literal["done", "raised", "died"]
    value: Any


@dataclass
class _Job:
    number: int
    call: Call
    attempts: int = 0


class WorkerPool(abc.ABC):
    """Executor whose workers are numbered from 0, each with one task at a time.

    Args:
      workers: how many, at least 1.

    Raises:
      ValueError: there are to be none.
    """

    is_here = False

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}; expected at least 1.")
        self._workers = workers

    @property
    def workers(self) -> int:
        """Number of tasks that run at once."""
        return self._workers

    @property
    @abc.abstractmethod
    def running(self) -> list[int]:
        """Numbers of the workers that were started and not stopped."""

    @abc.abstractmethod
    def start_worker(self, worker: int) -> None:
        """Start a worker that is not running."""

    @abc.abstractmethod
    def stop_worker(self, worker: int) -> str:
        """Stop a worker, its task with it, and return how it ended, in words."""

    @abc.abstractmethod
    def submit(self, worker: int, call: Call) -> None:
        """Give a task to a running worker that is idle."""

    @abc.abstractmethod
    def wait(self) -> list[tuple[int, CallOutcome]]:
        """Wait until some worker's task is over, or for `WAIT_SECONDS`."""

    def close(self) -> None:
        """Stop all workers."""
        for worker in self.running:
            self.stop_worker(worker)

    def map(self, calls: Sequence[Call]) -> Iterator[Any]:
        """Run the tasks; see `Executor.map`."""
        waiting = deque(_Job(number, call) for number, call in enumerate(calls))
        ends: dict[int, Exception | tuple[Any]] = {}
        busy: dict[int, _Job] = {}
        try:
            for number in range(len(calls)):
                while number not in ends:
                    self._submit_all(waiting, busy)
                    for worker, outcome in self.wait():
                        job = busy.pop(worker, None)
                        if job is None:  # died idle: replaced when there is a task for it
                            _log.warning("An idle worker died (%s).", outcome.value)
                            continue
                        end = _end_of(job, outcome)
                        if end is None:
                            waiting.appendleft(job)
                            continue
                        ends[job.number] = end
                        if isinstance(end, Exception):
                            # What comes after it will not be asked for.
                            waiting = deque(j for j in waiting if j.number < job.number)
                found = ends.pop(number)
                if isinstance(found, Exception):
                    raise found
                yield found[0]
        finally:
            for worker in busy:
                if worker in self.running:
                    self.stop_worker(worker)

    def _submit_all(self, waiting: deque[_Job], busy: dict[int, _Job]) -> None:
        for worker in range(self.workers):
            if waiting and worker not in busy:
                busy[worker] = waiting.popleft()
                busy[worker].attempts += 1
                if worker not in self.running:
                    self.start_worker(worker)
                self.submit(worker, busy[worker].call)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def _end_of(job: _Job, outcome: CallOutcome) -> Exception | tuple[Any] | None:
    """Return the result in a tuple, the error to raise, or None for another attempt."""
    which = f"Task {job.number} ({job.call.function})"
    if outcome.kind == "done":
        return (outcome.value,)
    if outcome.kind == "raised":
        return TaskError(f"{which} raised {outcome.value}")
    if job.attempts < ATTEMPTS:
        _log.warning("%s is begun again: its worker died (%s).", which, outcome.value)
        return None
    return WorkerDiedError(
        f"{which} was begun {job.attempts} times, and its worker died each time; the last time: "
        f"{outcome.value}. Look for what kills it: most often memory runs out, so use fewer "
        "workers; with engine=local, workers=1 it runs in this process."
    )
