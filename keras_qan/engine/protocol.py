"""What every engine can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol

from keras_qan.engine.calls import Call


class Engine(Protocol):
    """Does tasks, `workers` at a time, and gives their results in the order of the tasks."""

    @property
    def workers(self) -> int:
        """How many tasks are done at once."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether tasks are done in this very process."""
        ...

    def map(self, calls: Sequence[Call]) -> Iterator[Any]:
        """Does the tasks.

        A task whose worker died is begun again by another, a few times. Results come in order, as
        soon as they and all before them are there.

        Args:
          calls: the tasks.

        Yields:
          What each function returned.

        Raises:
          TaskError: a task raised; results before it were yielded.
          WorkerDiedError: a task's worker died every time.
        """
        ...

    def close(self) -> None:
        """Lets the workers go; closing again does nothing."""
        ...

    def __enter__(self) -> Engine:
        """The engine itself."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes it."""
        ...
