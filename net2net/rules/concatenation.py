"""Concatenate: every input is one block of the output's channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from net2net.errors import NeedsStructure, Obstacle
from net2net.mapping import ChannelMap, Structure, concatenated
from net2net.rules.base import CallView, Mapped, Port, Rule
from net2net.rules.registry import register_rule


class ConcatenationRule(Rule):
    """On the joined axis, block by block; on any other axis, one map for all.

    It waits: one stream can enter several blocks, and the output's map needs them all.
    """

    waits = True

    def axis(self, call: CallView) -> int:
        """Return the joined axis, counted from the front."""
        layer: Any = call.layer
        return int(layer.axis) % len(call.outputs[0])

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Return the joined map of what is known, or its blocks."""
        axis = self.axis(call)
        if mapped.axis != axis:
            return [Mapped(port, mapped.axis, mapped.map) for port in call.ports()]
        sizes = [shape[axis] or 0 for shape in call.inputs]
        if mapped.port.side == "in":
            blocks = [
                call.known.get((Port("in", k), axis)) or ChannelMap.identity(size)
                for k, size in enumerate(sizes)
            ]
            return [Mapped(Port("out"), axis, concatenated(blocks))]
        parts = mapped.map.split(sizes)
        if parts is None and mapped.map.offset is not None:
            edges = mapped.map.offset + np.cumsum(sizes[:-1])
            raise NeedsStructure(Structure(edges=tuple(int(edge) for edge in edges)))
        if parts is None:
            raise Obstacle(
                "the copies would have to be put between the blocks that it joins",
                "Widen the layers that make its blocks instead.",
            )
        return [
            Mapped(Port("in", k), axis, part)
            for k, part in enumerate(parts)
            if not part.same_as(ChannelMap.identity(part.old_size))
        ]


register_rule(keras.layers.Concatenate, ConcatenationRule())
