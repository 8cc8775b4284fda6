"""Layers that combine tensors element by element: Add, Multiply, Average, Maximum and so on.

Concatenate: every input is one block of the output's channels.

Operations of `keras.ops` in a Functional model: x + y, maxima over channels, masks.

The layers that `keras.applications` brings along for itself.
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
    MappedOutput,
    Port,
    Rule,
    Weight,
    copied,
    require_structure,
    weight,
)
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.registry import register_rule


class MergingRule(Rule):
    """All tensors share one map, but for inputs with one channel that is broadcast to all."""

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
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
            raise RefusalError(
                "it combines the channels with a constant array of fixed size",
                "Put the constant into a layer with a rule.",
            )
        if sizes[mapped.port] == 1 and size != 1:
            raise RefusalError(
                "one channel is broadcast to all of another input's, so its copies would not be",
                "Widen the layer that makes the other input.",
            )
        if rank != max(len(call.shape(port)) for port in call.ports()):
            raise RefusalError("its inputs have different ranks", "Reshape them to one rank first.")
        return [
            MappedOutput(port, from_end + len(call.shape(port)), mapped.map)
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


class ConcatenationRule(Rule):
    """On the joined axis, block by block; on any other axis, one map for all.

    It waits: one stream can enter several blocks, and the output's map needs them all.
    """

    waits = True

    def axis(self, call: CallView) -> int:
        """Return the joined axis, counted from the front."""
        layer: Any = call.layer
        return int(layer.axis) % len(call.outputs[0])

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the joined map of what is known, or its blocks."""
        axis = self.axis(call)
        if mapped.axis != axis:
            return [MappedOutput(port, mapped.axis, mapped.map) for port in call.ports()]
        sizes = [shape[axis] or 0 for shape in call.inputs]
        if mapped.port.side == "in":
            blocks = [
                call.known.get((Port("in", k), axis)) or ChannelMap.identity(size)
                for k, size in enumerate(sizes)
            ]
            return [MappedOutput(Port("out"), axis, concatenate_maps(blocks))]
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
            MappedOutput(Port("in", k), axis, part)
            for k, part in enumerate(parts)
            if not part.same_as(ChannelMap.identity(part.old_size))
        ]


register_rule(keras.layers.Concatenate, ConcatenationRule())


class ReductionRule(Rule):
    """A maximum over channels does not see copies; a mean needs equally many of each."""

    def __init__(self, *, equal: bool = False) -> None:
        self.equal = equal

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Take maps on the reduced axes, pass others through."""
        rank, axis = len(call.inputs[0]), call.layer.axis
        given = axis if isinstance(axis, list | tuple) else [axis]
        reduced = list(range(rank)) if axis is None else [one % rank for one in given]
        kept = [one for one in range(rank) if one not in reduced]
        keepdims = call.layer.keepdims
        if mapped.port.side == "in" and mapped.axis in reduced:
            require_structure(mapped.map, Structure(equal=self.equal))
            return []
        if mapped.port.side == "in":
            place = mapped.axis if keepdims else kept.index(mapped.axis)
            return [MappedOutput(Port("out"), place, mapped.map)]
        return [
            MappedOutput(Port("in"), mapped.axis if keepdims else kept[mapped.axis], mapped.map)
        ]


# Operations have no public class names, so they are named as Keras spells them.
_ELEMENTWISE = {
    "numpy": ("Absolute", "Negative", "Square", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Clip"),
    "nn": (
        "Relu", "Relu6", "Sigmoid", "Silu", "Gelu", "Elu", "Selu", "Softplus", "Softsign",
        "HardSigmoid", "HardSilu", "LeakyRelu",
    ),
}  # fmt: skip


_MERGING = (
    "Add", "Subtract", "Multiply", "Maximum", "Minimum", "TrueDivide", "Divide",
    "NotEqual", "Equal", "Greater", "Less", "LogicalAnd", "LogicalOr",
)  # fmt: skip


for _module, _names in _ELEMENTWISE.items():
    for _name in _names:
        register_rule(f"keras.src.ops.{_module}.{_name}", ElementwiseRule())


for _name in _MERGING:
    register_rule(f"keras.src.ops.numpy.{_name}", MergingRule())


for _name in ("Any", "All", "Max", "Min", "Amax", "Amin"):
    register_rule(f"keras.src.ops.numpy.{_name}", ReductionRule())


register_rule("keras.src.ops.numpy.Mean", ReductionRule(equal=True))


class LayerScaleRule(ElementwiseRule):
    """ConvNeXt's LayerScale: one factor a channel, copied."""

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of channels."""
        return {**config, "projection_dim": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the factors."""
        layer = grown.layer
        start = keras.initializers.Constant(layer.init_values)
        return [weight(layer.gamma, start, first=copied(grown.input(-1)))]


# These classes have no public names, so they are named as Keras spells them.
register_rule("keras.src.applications.convnext.LayerScale", LayerScaleRule())


register_rule("keras.src.applications.convnext.StochasticDepth", ElementwiseRule())


# y = a + scale · b, a residual sum.
register_rule("keras.src.applications.inception_resnet_v2.CustomScaleLayer", MergingRule())
