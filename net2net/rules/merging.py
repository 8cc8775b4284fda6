"""Layers that combine tensors: Add and its kin, Concatenate.

The layers that `keras.applications` brings along for itself are here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from net2net.channel_map import ChannelMap, Structure, concatenate_maps
from net2net.errors import RefusalError, StructureRequest
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedAxis,
    Port,
    Rule,
    Weight,
    copy_axis,
    weight,
)
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.registry import register_rule


class MergingRule(Rule):
    """All tensors share one map, but for inputs with one channel that is broadcast to all."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on every tensor that has these channels."""
        ranks = {port: len(call.shape(port)) for port in call.ports()}
        from_end = mapped.axis - ranks[mapped.port]
        sizes = {
            port: call.shape(port)[from_end] for port, rank in ranks.items() if -from_end <= rank
        }
        size = sizes[Port("out")]
        if any(np.ndim(one) >= -from_end and np.shape(one)[from_end] > 1 for one in call.constants):
            raise RefusalError(
                "it combines the channels with a constant array of fixed size",
                "Put the constant into a layer with a rule.",
            )
        if sizes[mapped.port] == 1 and size != 1:
            raise RefusalError(
                "one channel is broadcast to all of another input's, so its copies would not be",
                "Widen the layer that makes the other input.",
            )
        if ranks[Port("out")] != max(ranks.values()):
            raise RefusalError("its inputs have different ranks", "Reshape them to one rank first.")
        return [
            MappedAxis(port, from_end + ranks[port], mapped.map)
            for port, one in sizes.items()
            if one == size
        ]


class ConcatenationRule(Rule):
    """On the joined axis, block by block; on any other axis, one map for all.

    It waits: one stream can enter several blocks, and the output's map needs them all.
    """

    waits = True

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the joined map of what is known, or its blocks."""
        axis = int(call.layer.axis) % len(call.outputs[0])
        if mapped.axis != axis:
            return [MappedAxis(port, mapped.axis, mapped.map) for port in call.ports()]
        sizes = [shape[axis] or 0 for shape in call.inputs]
        if mapped.port.side == "in":
            blocks = [
                call.known.get((Port("in", k), axis)) or ChannelMap.identity(size)
                for k, size in enumerate(sizes)
            ]
            return [MappedAxis(Port("out"), axis, concatenate_maps(blocks))]
        parts = mapped.map.split(sizes)
        if parts is None and mapped.map.offset is not None:
            edges = mapped.map.offset + np.cumsum(sizes[:-1])
            raise StructureRequest(Structure(edges=tuple(int(edge) for edge in edges)))
        if parts is None:
            raise RefusalError(
                "the copies would have to be put between the blocks that it joins",
                "Widen the layers that make its blocks instead.",
            )
        return [
            MappedAxis(Port("in", k), axis, part)
            for k, part in enumerate(parts)
            if not part.equals(ChannelMap.identity(part.old_size))
        ]


class LayerScaleRule(ElementwiseRule):
    """ConvNeXt's LayerScale: one factor a channel, copied."""

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of channels."""
        return {**config, "projection_dim": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the factors."""
        layer = grown.layer
        start = keras.initializers.Constant(layer.init_values)
        return [weight(layer.gamma, start, {0: copy_axis(grown.input(-1))})]


for _layer in (
    keras.layers.Add,
    keras.layers.Subtract,
    keras.layers.Multiply,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
):
    register_rule(_layer, MergingRule())
register_rule(keras.layers.Concatenate, ConcatenationRule())

# These layers have no public class names, so they are named as Keras spells them.
_APPLICATIONS = "keras.src.applications."
register_rule(f"{_APPLICATIONS}convnext.LayerScale", LayerScaleRule())
register_rule(f"{_APPLICATIONS}convnext.StochasticDepth", ElementwiseRule())
# y = a + scale · b, a residual sum.
register_rule(f"{_APPLICATIONS}inception_resnet_v2.CustomScaleLayer", MergingRule())
