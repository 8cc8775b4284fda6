"""BatchNormalization: one scale, offset, mean and variance a channel.

LayerNormalization and RMSNormalization: statistics over the channels themselves.

GroupNormalization: statistics over groups of neighbouring channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.channel_map import Structure
from net2net.errors import StructureRequest
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedOutput,
    Weight,
    copied,
    require_structure,
    weight,
)
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.registry import register_rule


class BatchNormalizationRule(ElementwiseRule):
    """Copies all four: exact with moving statistics and with the batch's, which are copies too."""

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Pass the map through; over other axes the statistics need equally many copies."""
        if mapped.axis != call.layer.axis % len(call.inputs[0]):
            require_structure(mapped.map, Structure(equal=True))
        return super().spread(call, mapped)

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return scale and offset, where there are, and both moving statistics."""
        layer = grown.layer
        one = copied(grown.input(layer.axis))
        found = [
            weight(layer.moving_mean, layer.moving_mean_initializer, first=one),
            weight(layer.moving_variance, layer.moving_variance_initializer, first=one),
        ]
        if layer.scale:
            found.append(weight(layer.gamma, layer.gamma_initializer, first=one))
        if layer.center:
            found.append(weight(layer.beta, layer.beta_initializer, first=one))
        return found


register_rule(keras.layers.BatchNormalization, BatchNormalizationRule())


class LayerNormalizationRule(ElementwiseRule):
    """Exact where every channel has equally many copies: the moments then stay as they are.

    Optimizer slots before it are exact only for equal shares; with Dirichlet shares the slots of
    one channel's copies add up to the old one, but not each by its own share.
    """

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Pass the map through, asking for equally many copies on a normalised axis."""
        if mapped.axis in _axes(call.layer, len(call.inputs[0])):
            require_structure(mapped.map, Structure(equal=True))
        return super().spread(call, mapped)

    def weights(self, grown: GrownLayer) -> list[Weight]:
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


class GroupNormalizationRule(ElementwiseRule):
    """Exact where whole groups are copied and there are as many more groups.

    Appending single channels at a fixed number of groups would move the groups' borders. With as
    many groups as channels (instance normalisation) every channel is a whole group.
    """

    ties_calls = True

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Pass a map of whole groups through, ask for one otherwise."""
        layer, axis = call.layer, call.layer.axis % len(call.inputs[0])
        if mapped.axis != axis:
            require_structure(mapped.map, Structure(equal=True))
        else:
            per_group = layer.input_spec.axes[layer.axis] // layer.groups
            if not mapped.map.satisfies(Structure(runs=per_group)):
                raise StructureRequest(Structure(runs=per_group))
        return super().spread(call, mapped)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with as many more groups."""
        one = grown.input(grown.layer.axis)
        if one is None:
            return config
        per_group = one.old_size // grown.layer.groups
        return {**config, "groups": one.new_size // per_group}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return scale and offset."""
        layer, found = grown.layer, []
        one = copied(grown.input(layer.axis))
        if layer.scale:
            found.append(weight(layer.gamma, layer.gamma_initializer, first=one))
        if layer.center:
            found.append(weight(layer.beta, layer.beta_initializer, first=one))
        return found


register_rule(keras.layers.GroupNormalization, GroupNormalizationRule())
