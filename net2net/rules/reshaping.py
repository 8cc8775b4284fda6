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
    before = [d for d in dims[:axis] if d != 1]
    after = [d for d in dims[axis + 1 :] if d != 1]
    wide = [place for place, d in enumerate(new_dims) if d != 1]
    new = [new_dims[place] for place in wide]
    size = dims[axis]
    if new == [*before, size, *after] and size != 1:
        return wide[len(before)], one
    if after == [] and new and new[-1] == size and _product(before) == _product(new[:-1]):
        return wide[-1], one
    if None in before or None in after or None in new:
        raise RefusalError(
            "it folds axes of unknown length", "Give the model's input a fixed shape."
        )
    if len(new) == 1:
        return wide[0], one.repeat(_product(after) or 1).tile(_product(before) or 1)
    if not before and not after:
        blocks = _product(new[:-1]) or 1
        block = one.untile(blocks)
        if block is None:
            raise StructureRequest(Structure(blocks=blocks))
        return wide[-1], block
    raise RefusalError(
        f"it turns the shape {dims} into {new_dims}, in which the channels are torn apart",
        "Widen a layer that is mixed by another before it is reshaped.",
    )


def _product(dims: Iterable[int | None]) -> int | None:
    sizes = list(dims)
    return None if None in sizes else prod(one for one in sizes if one)


class ReshapeRule(Rule):
    """Follows channels through a row-major reshape, forward and backward."""

    ties_calls = True

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the other side."""
        other = mapped.port.opposite
        axis, one = reshape_map(
            call.shape(mapped.port)[1:], call.shape(other)[1:], mapped.axis - 1, mapped.map
        )
        return [MappedAxis(other, axis + 1, one)]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new target shape."""
        if "target_shape" not in config:
            return config
        shape = zip(config["target_shape"], grown.outputs[0][1:], strict=True)
        return {**config, "target_shape": tuple(o if o == -1 or n is None else n for o, n in shape)}


class FlattenRule(Rule):
    """Keras flattens in channels-last order whatever the data format, so channels come last."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the other side, repeated for every place."""
        rank = len(call.inputs[0])
        first = getattr(call.layer, "data_format", None) == "channels_first" and rank > 2
        # order[i] is the input axis at place i when the rows are laid out.
        order = [0, *range(2, rank), 1] if first else list(range(rank))
        dims = tuple(call.inputs[0][axis] for axis in order[1:])
        flat = call.outputs[0][1:]
        if mapped.port.side == "in":
            axis, one = reshape_map(dims, flat, order.index(mapped.axis) - 1, mapped.map)
            return [MappedAxis(Port("out"), axis + 1, one)]
        axis, one = reshape_map(flat, dims, 0, mapped.map)
        return [MappedAxis(Port("in"), order[axis + 1], one)]


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
