"""Tasks as plain data, and the protocol of all that runs them."""

from __future__ import annotations

import dataclasses
import importlib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np


class TaskError(RuntimeError):
    """A task raised; the message is the task's own, with where it was raised."""


class WorkerDiedError(RuntimeError):
    """A task was started again and again, and its worker died each time."""


@dataclass(frozen=True, eq=False)
class Call:
    """A task that any process can run: the function is named, not carried along.

    Attributes:
      function: `"package.module:function"`, importable where it is called.
      arguments: keyword arguments: None, booleans, numbers, text, NumPy arrays, and lists, tuples,
        dictionaries (with text as keys) and dataclasses of these. Defaults to none.

    Raises:
      ValueError: the function is not named so.
      TypeError: an argument is something else, for example a model or a data set.

    Example:
      >>> Call("math:hypot", {}).function
      'math:hypot'
    """

    function: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, colon, name = self.function.partition(":")
        if not (module and colon and name):
            raise ValueError(
                f"Call got function={self.function!r}; expected 'package.module:function', with "
                "a function of an importable module."
            )
        for key, value in self.arguments.items():
            _check_plain(f"{self.function}({key}=…)", value)

    def perform(self) -> Any:
        """Run the task here.

        Returns:
          What the function returned.

        Raises:
          ImportError: there is no such function.
        """
        module, _, name = self.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ImportError(
                f"A worker cannot find {self.function!r}: {error}. Expected a function in a module "
                "that is installed, or on PYTHONPATH, wherever workers run; one of a notebook or "
                "of __main__ is not."
            ) from error
        return function(**self.arguments)


def _check_plain(where: str, value: Any) -> None:
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return
    parts: list[Any]
    if isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
        parts = list(value.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, each.name) for each in dataclasses.fields(value)]
    else:
        raise TypeError(
            f"{where} holds {value!r}, a {type(value).__name__}; expected plain data: numbers, "
            "text, NumPy arrays, and lists, dictionaries and dataclasses of these. Let the "
            "function make the object, from arguments that say how."
        )
    for part in parts:
        _check_plain(where, part)


def format_error(error: BaseException) -> str:
    """Return an exception as text, for another process: message first, then where it was raised."""
    lines = traceback.format_exception(error)
    return f"{type(error).__name__}: {error}\n\nIn the worker:\n{''.join(lines)}"


class Executor(Protocol):
    """Runs tasks, `workers` at a time, and gives their results in the order of the tasks."""

    @property
    def workers(self) -> int:
        """Number of tasks that run at once."""
        ...

    @property
    def is_here(self) -> bool:
        """True where tasks run in this very process."""
        ...

    def map(self, calls: Sequence[Call]) -> Iterator[Any]:
        """Run the tasks.

        A task whose worker died is started again in another, a few times. Results come in order, as
        soon as they and all before them are there.

        Args:
          calls: the tasks.

        Yields:
          The result of each function.

        Raises:
          TaskError: a task raised; results before it were yielded.
          WorkerDiedError: a task's worker died every time.
        """
        ...

    def close(self) -> None:
        """Stop the workers; closing again does nothing."""
        ...

    def __enter__(self) -> Executor:
        """Return the executor itself."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        ...
