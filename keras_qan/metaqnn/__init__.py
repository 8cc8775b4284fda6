"""MetaQNN: Q-learning over architectures (Baker, Gupta, Naik & Raskar, arXiv:1611.02167).

An agent builds a network layer by layer, is rewarded with its validation accuracy, and learns
which layer to put where. `Space` defines the architectures, `MetaQNN` searches. The names are
loaded at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_qan.utils.backend import require_tensorflow
from keras_qan.utils.deprecation import moved_names

if TYPE_CHECKING:
    from keras_qan.metaqnn.ensemble import Ensemble
    from keras_qan.metaqnn.q_learning import EpsilonSchedule, QLearning, QTable
    from keras_qan.metaqnn.recipe import Recipe, Stopping
    from keras_qan.metaqnn.remote import trials_on
    from keras_qan.metaqnn.search import MetaQNN
    from keras_qan.metaqnn.space import (
        ImpossibleSpaceError,
        Layer,
        Space,
        format_architecture,
        parse_architecture,
    )
    from keras_qan.metaqnn.state_space import State, StateSpace

_HOMES = {
    "Ensemble": "ensemble",
    **dict.fromkeys(["EpsilonSchedule", "QLearning", "QTable"], "q_learning"),
    **dict.fromkeys(["Recipe", "Stopping"], "recipe"),
    "trials_on": "remote",
    "MetaQNN": "search",
    **dict.fromkeys(
        ["ImpossibleSpaceError", "Layer", "Space", "format_architecture", "parse_architecture"],
        "space",
    ),
    **dict.fromkeys(["State", "StateSpace"], "state_space"),
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
    "format_architecture",
    "parse_architecture",
    "trials_on",
]


_find_moved = moved_names(
    __name__,
    {
        "Grammar": f"{__name__}.state_space:StateSpace",
        "Learning": f"{__name__}.q_learning:QLearning",
        "architecture": f"{__name__}.space:parse_architecture",
    },
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        return _find_moved(name)
    require_tensorflow(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
