"""A mark for public classes whose benefit our own benchmarks do not show yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type[Any])


def experimental(evidence: str) -> Callable[[_Class], _Class]:
    """Mark a class as experimental, in its docstring and in `__experimental__`.

    Nothing warns at use.

    Args:
      evidence: what the figures do not show yet, as one sentence that names the benchmark.

    Example:
      >>> @experimental("`benchmarks/speed` shows no gain yet.")
      ... class Fast:
      ...     '''Train faster.'''
      >>> print(Fast.__doc__)
      Train faster.
      <BLANKLINE>
      Experimental: `benchmarks/speed` shows no gain yet.
    """

    def mark(kind: _Class) -> _Class:
        summary, gap, rest = (kind.__doc__ or "").partition("\n\n")
        indent = rest[: len(rest) - len(rest.lstrip(" "))]
        kind.__doc__ = f"{summary}\n\n{indent}Experimental: {evidence}{gap}{rest}"
        kind.__experimental__ = evidence
        return kind

    return mark
