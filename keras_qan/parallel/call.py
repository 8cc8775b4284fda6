"""A task as plain data: which function, with which arguments.

What every engine can do.
"""

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
    """A task was begun again and again, and its worker died each time."""


@dataclass(frozen=True, eq=False)
class Call:
    """A task that any process can do: it is named, not carried along.

    Attributes:
      function: `"package.module:function"`, importable where it is called.
      arguments: keyword arguments: None, booleans, numbers, text, NumPy arrays, and lists, tuples,
        dictionaries (with text as keys) and dataclasses of these.

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
        """Does the task here.

        Raises:
          ImportError: there is no such function.
        """
        return resolve(self.function)(**self.arguments)


def resolve(function: str) -> Any:
    """The function of that name.

    Raises:
      ImportError: there is none.
    """
    module, _, name = function.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"A worker cannot find {function!r}: {error}. Expected a function in a module that is "
            "installed, or on PYTHONPATH, wherever workers run; one of a notebook or of __main__ "
            "is not."
        ) from error


def format_error(error: BaseException) -> str:
    """An exception as text, for another process: message first, then where it was raised."""
    lines = traceback.format_exception(error)
    return f"{type(error).__name__}: {error}\n\nIn the worker:\n{''.join(lines)}"


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


class Executor(Protocol):
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

    def __enter__(self) -> Executor:
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
