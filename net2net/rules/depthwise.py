"""Depthwise convolutions: every input channel has m output channels of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import NeedsStructure
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
    refuse_axis,
    weight,
)
from net2net.rules.convolution import channel_axis
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule


class DepthwiseRule(Rule):
    """Output channel c·m + r comes from input channel c: the map passes through, in runs of m.

    Its width is that of the layers that feed it: widening it widens them.
    """

    def width(self, layer: Any) -> int | None:
        """Return the number of output channels, known from the kernel [*window, in, m]."""
        return int(layer.kernel.shape[-2] * layer.kernel.shape[-1]) if layer.built else None

    def target(self, call: CallView) -> Target:
        """Return the channel axis of the output."""
        return Target(Port("out"), channel_axis(call.layer, len(call.outputs[0])))

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Return the map on the other side, widened to or narrowed from runs of m."""
        layer = call.layer
        if mapped.axis != channel_axis(layer, len(call.inputs[0])):
            raise refuse_axis(call, mapped)
        require_elementwise(layer.activation)
        if mapped.port.side == "in":
            return [Mapped(Port("out"), mapped.axis, mapped.map.repeated(layer.depth_multiplier))]
        entering = mapped.map.unrepeated(layer.depth_multiplier)
        if entering is None:
            raise NeedsStructure(Structure(runs=layer.depth_multiplier))
        return [Mapped(Port("in"), mapped.axis, entering)]

    def weights(self, grown: Grown) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        axis = channel_axis(layer, len(grown.outputs[0]))
        kernel = weight(
            layer.kernel, layer.depthwise_initializer, before_last=copied(grown.input(axis))
        )
        if layer.bias is None:
            return [kernel]
        made = copied(grown.output(axis))
        return [kernel, weight(layer.bias, layer.bias_initializer, first=made)]


for _layer in (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D):
    register_rule(_layer, DepthwiseRule())
