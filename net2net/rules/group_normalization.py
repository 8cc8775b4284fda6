"""GroupNormalization: statistics over groups of neighbouring channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import NeedsStructure
from net2net.mapping import Structure
from net2net.rules.base import CallView, Grown, Mapped, Weight, copied, demand, weight
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.registry import register_rule


class GroupNormalizationRule(ElementwiseRule):
    """Exact where whole groups are copied and there are as many more groups.

    Appending single channels at a fixed number of groups would move the groups' borders. With as
    many groups as channels (instance normalisation) every channel is a whole group.
    """

    ties_calls = True

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Pass a map of whole groups through, ask for one otherwise."""
        layer, axis = call.layer, call.layer.axis % len(call.inputs[0])
        if mapped.axis != axis:
            demand(mapped.map, Structure(equal=True))
        else:
            per_group = layer.input_spec.axes[layer.axis] // layer.groups
            if not mapped.map.satisfies(Structure(runs=per_group)):
                raise NeedsStructure(Structure(runs=per_group))
        return super().spread(call, mapped)

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with as many more groups."""
        one = grown.input(grown.layer.axis)
        if one is None:
            return config
        per_group = one.old_size // grown.layer.groups
        return {**config, "groups": one.new_size // per_group}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return scale and offset."""
        layer, found = grown.layer, []
        one = copied(grown.input(layer.axis))
        if layer.scale:
            found.append(weight(layer.gamma, layer.gamma_initializer, first=one))
        if layer.center:
            found.append(weight(layer.beta, layer.beta_initializer, first=one))
        return found


register_rule(keras.layers.GroupNormalization, GroupNormalizationRule())
