"""Checks of arguments, one line each; messages say what was received and what was expected."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

#: Characters of a value that a message shows whole.
_LONGEST_REPR = 200


def check(condition: bool, name: str, value: Any, expected: str, hint: str = "") -> None:
    """Raise ValueError unless a condition on an argument holds.

    Args:
      condition: whether the value can be used.
      name: the argument, as the user knows it.
      value: what was received.
      expected: what was expected instead, for example "at least 1".
      hint: a sentence that says what to do. Defaults to none.

    Raises:
      ValueError: the condition does not hold.

    Example:
      >>> check(3 > 0, "epochs", 3, "at least 1")
    """
    if not condition:
        raise ValueError(_message(name, value, expected, hint))


def check_integer(
    name: str,
    value: Any,
    minimum: int | None = None,
    maximum: int | None = None,
    *,
    hint: str = "",
) -> int:
    """Return an integer within bounds, as an `int`.

    Args:
      name: the argument, as the user knows it.
      value: what was received; NumPy integers and floats without a fraction count as integers.
      minimum: the lowest value allowed. Defaults to none.
      maximum: the highest value allowed. Defaults to none.
      hint: a sentence that says what to do. Defaults to none.

    Raises:
      ValueError: the value is no integer, or out of bounds.

    Example:
      >>> check_integer("epochs", 3.0, 1)
      3
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    is_integer |= isinstance(value, float) and value.is_integer()
    within = is_integer and _is_within(value, minimum, maximum)
    expected = _bounds_in_words(minimum, maximum)
    if not is_integer:
        expected = f"a whole number{expected and f', {expected}'}"
    check(within, name, value, expected, hint)
    return int(value)


def check_number(
    name: str,
    value: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    hint: str = "",
) -> float:
    """Return a finite number within bounds, as a `float`.

    Args:
      name: the argument, as the user knows it.
      value: what was received.
      minimum: the lowest value allowed. Defaults to none.
      maximum: the highest value allowed. Defaults to none.
      above: a bound that is not allowed itself. Defaults to none.
      below: a bound that is not allowed itself. Defaults to none.
      hint: a sentence that says what to do. Defaults to none.

    Raises:
      ValueError: the value is not a finite number, or out of bounds.

    Example:
      >>> check_number("share", 0.5, above=0, maximum=1)
      0.5
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    is_number = is_number and math.isfinite(value)
    within = is_number and _is_within(value, minimum, maximum)
    within = within and (above is None or value > above) and (below is None or value < below)
    check(within, name, value, _interval_in_words(minimum, maximum, above, below), hint)
    return float(value)


def check_choice(name: str, value: Any, choices: Sequence[str], *, hint: str = "") -> str:
    """Return one of several words.

    Args:
      name: the argument, as the user knows it.
      value: what was received.
      choices: the words allowed.
      hint: a sentence that says what to do. Defaults to the nearest word.

    Raises:
      ValueError: the value is none of them.

    Example:
      >>> check_choice("engine", "ray", ("local", "ray"))
      'ray'
    """
    if isinstance(value, str) and value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=1)
    meant = f"Did you mean {near[0]!r}?" if near else ""
    raise ValueError(_message(name, value, f"one of {', '.join(choices)}", hint or meant))


def check_folder(name: str, value: str | os.PathLike[str]) -> Path:
    """Return the path of a folder of this machine.

    Args:
      name: the argument, as the user knows it.
      value: what was received.

    Raises:
      ValueError: it is an address of a store elsewhere, which would become a folder of that name.

    Example:
      >>> check_folder("directory", "runs/mine").name
      'mine'
    """
    path = os.fspath(value)
    is_elsewhere = isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path)
    hint = "Write to a folder here and copy it, or give the path where the store is mounted."
    check(not is_elsewhere, name, path, "the path of a folder of this machine", hint)
    return Path(path)


def _message(name: str, value: Any, expected: str, hint: str) -> str:
    return f"{name} is {describe(value)}; expected {expected}.{hint and f' {hint}'}"


def describe(value: Any) -> str:
    """Return what was received, in words that fit a message: large values by kind and size.

    Example:
      >>> describe("a"), describe(list(range(500)))
      ("'a'", 'a list of 500 values')
    """
    text = repr(value)
    if len(text) <= _LONGEST_REPR:
        return text
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    kind = type(value).__name__
    return f"a {kind} of {len(value):,} values" if hasattr(value, "__len__") else f"a {kind}"


def _is_within(value: Any, minimum: float | None, maximum: float | None) -> bool:
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _bounds_in_words(minimum: int | None, maximum: int | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{minimum} to {maximum}"
    if minimum is not None:
        return f"at least {minimum}"
    return f"at most {maximum}" if maximum is not None else ""


def _interval_in_words(
    minimum: float | None, maximum: float | None, above: float | None, below: float | None
) -> str:
    low = minimum if above is None else above
    high = maximum if below is None else below
    if low is not None and high is not None:
        left, right = "[" if above is None else "(", "]" if below is None else ")"
        return f"a number in {left}{low:g}, {high:g}{right}"
    if low is not None:
        word = "at least" if above is None else "above"
        return f"a finite number {word} {low:g}"
    if high is not None:
        word = "at most" if below is None else "below"
        return f"a finite number {word} {high:g}"
    return "a finite number"
