"""MetaQNN: Q-learning over architectures (Baker, Gupta, Naik & Raskar, arXiv:1611.02167).

An agent builds a network layer by layer, is rewarded with its validation accuracy, and learns
which layer to put where. `Space` says what may be built, `MetaQNN` searches. The names are loaded
at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_qan.metaqnn.ensemble import Ensemble
    from keras_qan.metaqnn.grammar import Grammar, State
    from keras_qan.metaqnn.layers import Layer, architecture
    from keras_qan.metaqnn.q_learning import EpsilonSchedule, Learning, QTable
    from keras_qan.metaqnn.recipe import Recipe, Stopping
    from keras_qan.metaqnn.search import MetaQNN
    from keras_qan.metaqnn.space import ImpossibleSpaceError, Space

_HOMES = {
    "Ensemble": "ensemble",
    **dict.fromkeys(["Grammar", "State"], "grammar"),
    **dict.fromkeys(["Layer", "architecture"], "layers"),
    **dict.fromkeys(["EpsilonSchedule", "Learning", "QTable"], "q_learning"),
    **dict.fromkeys(["Recipe", "Stopping"], "recipe"),
    "MetaQNN": "search",
    "trials_on": "elsewhere",
    **dict.fromkeys(["ImpossibleSpaceError", "Space"], "space"),
}

__all__ = [
    "Ensemble",
    "EpsilonSchedule",
    "Grammar",
    "ImpossibleSpaceError",
    "Layer",
    "Learning",
    "MetaQNN",
    "QTable",
    "Recipe",
    "Space",
    "State",
    "Stopping",
    "architecture",
    "trials_on",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
