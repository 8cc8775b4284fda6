"""Arguments of a class's own constructor that its config does not tell, or no longer tells."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

_OF_KERAS = ("self", "name", "dtype", "trainable")
_SETTINGS = ("rate", "stddev", "momentum", "epsilon")
_MISSING = object()


def complete_config(
    old: Any, config: dict[str, Any], make: Callable[[dict[str, Any]], Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a config with what an object of a user's own class has, and what it cannot say.

    A `get_config` that leaves out an argument with a default gives the default back, and so does
    one that tells what the constructor was given, where the attribute has been set since.

    Args:
        old: A layer, metric or optimizer.
        config: Its config.
        make: Returns a new object from a config.

    Returns:
        The config, completed with arguments whose attribute of the same name tells the value; and
        attributes to set on the new object, where the constructor does not keep what it is given.
    """
    if not _own_arguments(type(old)):
        return config, {}
    changed = _differences(old, make(config))
    if not changed:
        return config, {}
    try:
        left = _differences(old, make({**config, **changed}))
    except Exception:  # a class's own code may raise anything
        left = changed
    kept = {name: value for name, value in changed.items() if name not in left}
    return {**config, **kept}, {name: changed[name] for name in left if name in changed}


def object_like(
    old: Any, config: dict[str, Any], make: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Return a new object with an old one's config and its own constructor's arguments.

    Args:
        old: A layer, metric or optimizer.
        config: Its config.
        make: Returns a new object from a config. Defaults to None, its class's `from_config`.
    """
    make = make or type(old).from_config
    config, left = complete_config(old, config, lambda one: make(dict(one)))
    new = make(config)
    for name, value in left.items():
        setattr(new, name, value)
    return new


def settings_that_differ(old: Any, new: Any) -> list[str]:
    """Return the attributes of a layer inside another that may have been set since it was made.

    These are numbers that are no size: the rate of a dropout, the momentum of a batch
    normalisation, arguments with a point of classes beyond Keras's own.
    """
    names = [*_SETTINGS, *_own_arguments(type(old))]
    pairs = {name: (_attribute(old, name), _attribute(new, name)) for name in names}
    return [
        name
        for name, (one, other) in pairs.items()
        if isinstance(one, float) and isinstance(other, float) and one != other
    ]


def _own_arguments(kind: type) -> list[str]:
    """Return the names of the arguments that classes beyond Keras's own take."""
    names: dict[str, None] = {}
    for one in kind.__mro__:
        if one.__module__.startswith("keras."):
            break
        if "__init__" in vars(one):
            for name, taken in inspect.signature(vars(one)["__init__"]).parameters.items():
                if taken.kind in (taken.POSITIONAL_OR_KEYWORD, taken.KEYWORD_ONLY):
                    names[name] = None
    return [name for name in names if name not in _OF_KERAS]


def _differences(old: Any, new: Any) -> dict[str, Any]:
    """Return the arguments whose attributes differ, with the old object's values."""
    found = {}
    for name in _own_arguments(type(old)):
        value, other = _attribute(old, name), _attribute(new, name)
        if _is_plain(value) and _is_plain(other) and not _equal(value, other):
            found[name] = value
    return found


def _attribute(one: Any, name: str) -> Any:
    try:
        value = getattr(one, name)
    except Exception:  # a property's own code may raise anything
        return _MISSING
    return list(value) if isinstance(value, list) else value  # Keras wraps lists


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    kinds = (bool, int, float, str, np.ndarray, np.generic, FunctionType)
    return value is None or isinstance(value, kinds)


def _equal(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(value, other)
    return type(value) is type(other) and bool(value == other)
