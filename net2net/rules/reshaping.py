"""Layers that move channels (Flatten, Reshape, Permute) or only places (pooling, padding)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import keras

from net2net.channel_map import ChannelMap, Structure
from net2net.errors import RefusalError, StructureRequest
from net2net.graph import Shape
from net2net.rules.base import CallView, GrownLayer, MappedAxis, Port, Rule, refuse_axis
from net2net.rules.convolution import channel_axis
from net2net.rules.registry import register_rule


def reshape_map(dims: Shape, new_dims: Shape, axis: int, one: ChannelMap) -> tuple[int, ChannelMap]:
    """Return the axis and the map that a map becomes in a reshape, in row-major order.

    Args:
        dims: The dimensions before, without the batch's.
        new_dims: The dimensions after, without the batch's.
        axis: The axis that has the map, counted without the batch's.
        one: The map.

    Raises:
        RefusalError: If the channels are torn apart.
        StructureRequest: If the axis is cut into blocks that must be mapped alike.

    Example:
        >>> axis, one = reshape_map((2, 3), (6,), 1, ChannelMap.identity(3))
        >>> axis, one.old_size
        (0, 6)
    """
    ahead, size, behind = (
        _product(part) for part in (dims[:axis], dims[axis : axis + 1], dims[axis + 1 :])
    )
    found: list[tuple[int, int, int]] = []
    request: StructureRequest | None = None
    # Where several axes could have the map, the last is the one that models mean by channels.
    for place in reversed(range(len(new_dims))):
        new_ahead, new_behind = _product(new_dims[:place]), _product(new_dims[place + 1 :])
        width = _product(new_dims[place : place + 1])
        if dims[axis:] == new_dims[place:] and None not in dims[axis:]:
            return place, one
        if ahead % new_ahead == 0 and behind % new_behind == 0:
            # The channels stay whole, and become blocks of runs on one axis.
            tiles, runs = ahead // new_ahead, behind // new_behind
            if width == tiles * size * runs and (tiles * runs) % _ANY:
                found.append((tiles * runs, place, tiles))
        elif new_ahead % ahead == 0 and new_behind % behind == 0:
            # The axis is cut into blocks and runs, which must be mapped alike.
            blocks, runs = new_ahead // ahead, new_behind // behind
            if size == blocks * width * runs and (blocks * runs) % _ANY:
                block = one.untile(blocks)
                whole = block.unrepeat(runs) if block is not None else None
                if whole is not None:
                    return place, whole
                request = request or StructureRequest(Structure(blocks=blocks, runs=runs))
    if found:
        times, place, tiles = min(found, key=lambda each: each[0])
        return place, one.repeat(times // tiles).tile(tiles)
    if request is not None:
        raise request
    raise RefusalError(
        f"it turns the shape {dims} into {new_dims}, in which the channels are torn apart",
        "Widen a layer that is mixed by another before it is reshaped.",
    )


_ANY = 1_000_003
"""Stands for an axis of any length: a prime, so that it divides only itself."""


def _product(dims: Iterable[int | None]) -> int:
    return prod(_ANY if one is None else one for one in dims)


class _MovingRule(Rule):
    """Channels move from an input to an output; the way back is the way that they came."""

    def move(self, call: CallView, mapped: MappedAxis) -> MappedAxis:
        """Return the map on the other side."""
        raise NotImplementedError

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the other side, the one that is there if it led to this one."""
        for (port, axis), one in call.known.items():
            known = MappedAxis(port, axis, one)
            if port.side == mapped.port.side or port.side == "internal":
                continue
            there = self.move(call, known)
            if there.axis == mapped.axis and there.map.equals(mapped.map):
                return [known]
        return [self.move(call, mapped)]


class ReshapeRule(_MovingRule):
    """Follows channels through a row-major reshape, forward and backward."""

    ties_calls = True

    def move(self, call: CallView, mapped: MappedAxis) -> MappedAxis:
        """Return the map on the other side."""
        other = mapped.port.opposite
        axis, one = reshape_map(
            call.shape(mapped.port)[1:], call.shape(other)[1:], mapped.axis - 1, mapped.map
        )
        return MappedAxis(other, axis + 1, one)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new target shape."""
        if "target_shape" not in config:
            return config
        shape = zip(config["target_shape"], grown.outputs[0][1:], strict=True)
        return {**config, "target_shape": tuple(o if o == -1 or n is None else n for o, n in shape)}


class FlattenRule(_MovingRule):
    """Keras flattens in channels-last order whatever the data format, so channels come last."""

    def move(self, call: CallView, mapped: MappedAxis) -> MappedAxis:
        """Return the map on the other side, repeated for every place."""
        rank = len(call.inputs[0])
        first = getattr(call.layer, "data_format", None) == "channels_first" and rank > 2
        # order[i] is the input axis at place i when the rows are laid out.
        order = [0, *range(2, rank), 1] if first else list(range(rank))
        dims = tuple(call.inputs[0][axis] for axis in order[1:])
        flat = call.outputs[0][1:]
        if mapped.port.side == "in":
            axis, one = reshape_map(dims, flat, order.index(mapped.axis) - 1, mapped.map)
            return MappedAxis(Port("out"), axis + 1, one)
        axis, one = reshape_map(flat, dims, 0, mapped.map)
        return MappedAxis(Port("in"), order[axis + 1], one)


class PermuteRule(Rule):
    """Follows an axis to its new place."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the other side."""
        dims = [0, *call.layer.dims]
        axis = dims.index(mapped.axis) if mapped.port.side == "in" else dims[mapped.axis]
        return [MappedAxis(mapped.port.opposite, axis, mapped.map)]


class RepeatVectorRule(Rule):
    """The channels of a vector become the last axis of a sequence."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the other side."""
        if mapped.port.side == "out" and mapped.axis != 2:
            raise refuse_axis(call, mapped)
        return [MappedAxis(mapped.port.opposite, 2 if mapped.port.side == "in" else 1, mapped.map)]


class PoolingRule(Rule):
    """Passes a map on the channel axis through, whether or not the places remain as axes."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on the other side."""
        layer = call.layer
        if mapped.axis != channel_axis(layer, len(call.shape(mapped.port))):
            raise refuse_axis(call, mapped)
        other = mapped.port.opposite
        return [MappedAxis(other, channel_axis(layer, len(call.shape(other))), mapped.map)]


register_rule(keras.layers.Reshape, ReshapeRule())
register_rule(keras.layers.Flatten, FlattenRule())
register_rule(keras.layers.Permute, PermuteRule())
register_rule(keras.layers.RepeatVector, RepeatVectorRule())
register_rule(keras.layers.Resizing, PoolingRule())
register_rule(keras.layers.CenterCrop, PoolingRule())
for _kind in (
    "AveragePooling",
    "MaxPooling",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "AdaptiveAveragePooling",
    "AdaptiveMaxPooling",
    "ZeroPadding",
    "Cropping",
    "UpSampling",
):
    for _rank in (1, 2, 3):
        # The adaptive ones are younger than the oldest Keras that is supported.
        _layer = getattr(keras.layers, f"{_kind}{_rank}D", None)
        if _layer is not None:
            register_rule(_layer, PoolingRule())
