"""LayerNormalization and RMSNormalization: statistics over the channels themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.mapping import Structure
from net2net.rules.base import CallView, Grown, Mapped, Weight, copied, demand
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.registry import register_rule


class LayerNormalizationRule(ElementwiseRule):
    """Exact where every channel has equally many copies: the moments then stay as they are.

    Optimizer slots before it are exact only for equal shares; with Dirichlet shares the slots of
    one channel's copies add up to the old one, but not each by its own share.
    """

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Pass the map through, asking for equally many copies on a normalised axis."""
        if mapped.axis in _axes(call.layer, len(call.inputs[0])):
            demand(mapped.map, Structure(equal=True))
        return super().spread(call, mapped)

    def weights(self, grown: Grown) -> list[Weight]:
        """Return scale and offset, whose axes are the normalised ones."""
        layer, found = grown.layer, []
        maps = {
            place: copied(grown.input(axis))
            for place, axis in enumerate(_axes(layer, len(grown.inputs[0])))
        }
        axes = {place: one for place, one in maps.items() if one}
        for name in ("gamma", "beta", "scale"):
            variable = getattr(layer, name, None)
            if hasattr(variable, "assign"):
                initializer = getattr(layer, f"{name}_initializer", keras.initializers.Ones())
                found.append(Weight(variable, axes, initializer))
        return found


def _axes(layer: Any, rank: int) -> list[int]:
    axis = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    return [one % rank for one in axis]


register_rule(keras.layers.LayerNormalization, LayerNormalizationRule())
register_rule(keras.layers.RMSNormalization, LayerNormalizationRule())
