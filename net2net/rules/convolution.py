"""Conv1D, Conv2D and Conv3D, grouped or not, channels first or last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.mapping import Structure
from net2net.rules.base import (
    CallView,
    Grown,
    Mapped,
    Port,
    Rule,
    Target,
    Weight,
    copied,
    demand,
    refuse_axis,
    shared,
    weight,
)
from net2net.rules.dense import require_plain
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule


def channel_axis(layer: Any, rank: int) -> int:
    """Return the axis of a tensor of this rank that the layer's data format calls channels."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


class ConvolutionRule(Rule):
    """Kernel [*window, in / groups, out]: shared out over `in`, copied over `out`.

    With several groups, the maps must be the same inside each: the kernel's `in` axis is one
    group wide and serves them all.
    """

    def width(self, layer: Any) -> int:
        """Return the number of filters."""
        return int(layer.filters)

    def target(self, call: CallView) -> Target:
        """Return the channel axis of the output."""
        return Target(Port("out"), channel_axis(call.layer, len(call.outputs[0])))

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Take maps on the channel axes, refuse them on places."""
        require_plain(call.layer)
        if mapped.axis != channel_axis(call.layer, len(call.inputs[0])):
            raise refuse_axis(call, mapped)
        if mapped.port.side == "out":
            require_elementwise(call.layer.activation)
        demand(mapped.map, Structure(blocks=getattr(call.layer, "groups", 1)))
        return []

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new number of filters."""
        axis = channel_axis(grown.layer, len(grown.outputs[0]))
        return {**config, "filters": grown.outputs[0][axis]}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        axis = channel_axis(layer, len(grown.outputs[0]))
        entering, made = grown.input(axis), copied(grown.output(axis))
        group = entering.untiled(layer.groups) if entering else None
        kernel = weight(
            layer.kernel, layer.kernel_initializer, before_last=shared(group), last=made
        )
        if layer.bias is None:
            return [kernel]
        return [kernel, weight(layer.bias, layer.bias_initializer, first=made)]


for _layer in (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D):
    register_rule(_layer, ConvolutionRule())
