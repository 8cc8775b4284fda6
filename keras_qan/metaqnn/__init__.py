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
    from keras_qan.metaqnn.q_learning import EpsilonSchedule, QLearning, QTable
    from keras_qan.metaqnn.recipe import Recipe, Stopping
    from keras_qan.metaqnn.search import MetaQNN
    from keras_qan.metaqnn.space import ImpossibleSpaceError, Layer, Space, architecture
    from keras_qan.metaqnn.state_space import State, StateSpace

_HOMES = {
    "Ensemble": "ensemble",
    **dict.fromkeys(["State", "StateSpace"], "state_space"),
    **dict.fromkeys(["Layer", "architecture"], "space"),
    **dict.fromkeys(["EpsilonSchedule", "QLearning", "QTable"], "q_learning"),
    **dict.fromkeys(["Recipe", "Stopping"], "recipe"),
    "MetaQNN": "search",
    "make_trial_map": "remote",
    **dict.fromkeys(["ImpossibleSpaceError", "Space"], "space"),
}

__all__ = [
    "Ensemble",
    "EpsilonSchedule",
    "ImpossibleSpaceError",
    "Layer",
    "MetaQNN",
    "QLearning",
    "QTable",
    "Recipe",
    "Space",
    "State",
    "StateSpace",
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
