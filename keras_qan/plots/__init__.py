"""Figures of runs: logs become plain series, and series become pictures.

`draw("runs/mine")` writes those of a run, `draw_search` those of an architecture search,
`draw_rally` a rally's accuracy against its cost, `draw_selection(selector.shares(), path)` the
groups of examples in batches. Importing the package does not load matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_qan.plots.draw import draw, draw_if_possible, draw_selection
from keras_qan.plots.records import EmptyRunError
from keras_qan.utils.backend import needs_extra

if TYPE_CHECKING:
    from keras_qan.plots.rally import draw_rally
    from keras_qan.plots.search import draw_search

_HOMES = {"draw_rally": "rally", "draw_search": "search"}

__all__ = [
    "EmptyRunError",
    "draw",
    "draw_if_possible",
    "draw_rally",
    "draw_search",
    "draw_selection",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra(f"{__name__}.{name}", "plots"):
        importlib.import_module("matplotlib")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
