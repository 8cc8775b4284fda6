"""Hands tasks to workers that may die, and gives results in the order of the tasks."""

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

#: How often a task is begun before it is given up. A worker that dies by chance does so once; a
#: task that kills its worker does so every time.
ATTEMPTS = 4


@dataclass(frozen=True)
class CallOutcome:
    """What became of a task that a worker had.

    Attributes:
      kind: "done", "raised", or "died" where the worker is gone.
      value: the result; for the others the account as text.
    """

    kind: Literal["done", "raised", "died"]
    value: Any


@dataclass
class _Job:
    number: int
    call: Call
    attempts: int = 0


class WorkerPool(abc.ABC):
    """Workers by number, from 0; each has one task at a time.

    Args:
      workers: how many.

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
        """How many tasks are done at once."""
        return self._workers

    @abc.abstractmethod
    def start(self, worker: int, call: Call) -> None:
        """Gives a task to an idle worker; one that is gone is replaced first."""

    @abc.abstractmethod
    def wait(self) -> list[tuple[int, CallOutcome]]:
        """Waits until some worker is done with its task, or a while."""

    @abc.abstractmethod
    def give_up(self, worker: int) -> None:
        """Breaks off what a worker does."""

    @abc.abstractmethod
    def close(self) -> None:
        """Lets all workers go."""

    def map(self, calls: Sequence[Call]) -> Iterator[Any]:
        """Does the tasks; see `Engine.map`."""
        waiting = deque(_Job(number, call) for number, call in enumerate(calls))
        ends: dict[int, Exception | tuple[Any]] = {}
        busy: dict[int, _Job] = {}
        try:
            for number in range(len(calls)):
                while number not in ends:
                    for worker in range(self.workers):
                        if waiting and worker not in busy:
                            busy[worker] = waiting.popleft()
                            busy[worker].attempts += 1
                            self.start(worker, busy[worker].call)
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
                self.give_up(worker)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()


def _end_of(job: _Job, outcome: CallOutcome) -> Exception | tuple[Any] | None:
    """The result in a tuple, the error to raise, or None for another attempt."""
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
