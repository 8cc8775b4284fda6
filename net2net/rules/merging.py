"""Layers that combine tensors element by element: Add, Multiply, Average, Maximum and so on."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from net2net.errors import Obstacle
from net2net.rules.base import CallView, Mapped, Port, Rule
from net2net.rules.registry import register_rule


class MergingRule(Rule):
    """All tensors share one map, but for inputs with one channel that is broadcast to all."""

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Return the same map on every tensor that has these channels."""
        rank = len(call.outputs[0])
        from_end = mapped.axis - len(call.shape(mapped.port))
        sizes = {
            port: shape[from_end]
            for port in call.ports()
            if -from_end <= len(shape := call.shape(port))
        }
        size = sizes[Port("out")]
        if any(np.ndim(one) >= -from_end and np.shape(one)[from_end] > 1 for one in call.constants):
            raise Obstacle(
                "it combines the channels with a constant array of fixed size",
                "Put the constant into a layer with a rule.",
            )
        if sizes[mapped.port] == 1 and size != 1:
            raise Obstacle(
                "one channel is broadcast to all of another input's, so its copies would not be",
                "Widen the layer that makes the other input.",
            )
        if rank != max(len(call.shape(port)) for port in call.ports()):
            raise Obstacle("its inputs have different ranks", "Reshape them to one rank first.")
        return [
            Mapped(port, from_end + len(call.shape(port)), mapped.map)
            for port, one in sizes.items()
            if one == size
        ]


for _layer in (
    keras.layers.Add,
    keras.layers.Subtract,
    keras.layers.Multiply,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
):
    register_rule(_layer, MergingRule())
