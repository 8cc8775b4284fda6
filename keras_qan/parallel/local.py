"""Tasks in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from keras_qan.parallel.call import Call, TaskError


class LocalExecutor:
    """Runs tasks here and now; see `Executor`.

    Example:
      >>> list(LocalExecutor().map([Call("builtins:dict", {"a": n}) for n in range(2)]))
      [{'a': 0}, {'a': 1}]
    """

    workers = 1
    is_here = True

    def map(self, calls: Sequence[Call]) -> Iterator[Any]:
        """Run the tasks; see `Executor.map`."""
        for number, call in enumerate(calls):
            try:
                result = call.perform()
            except Exception as error:
                raise TaskError(
                    f"Task {number} ({call.function}) raised {type(error).__name__}: {error}"
                ) from error
            yield result

    def close(self) -> None:
        """Do nothing: there are no workers."""

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: there are no workers."""
