"""Seeds of functions that build a model: whether one is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def takes_seed(build_model: Callable[..., Any]) -> bool:
    """Return whether the first argument of a function is to be a seed.

    It is where it has no default, or is called seed: `def build_model(units=64)` asks for none.

    Example:
      >>> takes_seed(lambda seed: None), takes_seed(lambda units=64: None)
      (True, False)
    """
    try:
        parameters = inspect.signature(build_model).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = next((p for p in parameters if p.kind in positional), None)
    return first is not None and (first.default is first.empty or first.name == "seed")
