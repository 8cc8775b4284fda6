"""Attention: heads are copied whole, since a softmax stands inside each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.channel_map import ChannelMap
from net2net.errors import RefusalError
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedAxis,
    Port,
    Rule,
    Weight,
    WidthAxis,
    copy_axis,
    divide_axis,
    refuse_axis,
    weight,
)
from net2net.rules.core import require_plain_kernel
from net2net.rules.registry import register_rule


class MultiHeadAttentionRule(Rule):
    """Projections [in, heads, size]: copied over `heads`; output [heads, size, out]: divided.

    Each head's softmax sees the same scores as before. `in` is divided and `out` copied, so the
    layer can also be in a residual stream that is widened.
    """

    def width(self, layer: Any) -> int:
        """Return the number of heads."""
        return int(layer.num_heads)

    def width_axis(self, call: CallView) -> WidthAxis:  # noqa: ARG002
        """Return the axis that stands for the width inside the layer."""
        return WidthAxis(Port("internal"), 0)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the features of query, value, key and output, and on the heads."""
        layer = call.layer
        for dense in _projections(layer).values():
            require_plain_kernel(dense)
        if mapped.port.side == "internal":
            return []
        named = call.arguments[mapped.port.index] if mapped.port.side == "in" else "output"
        if named not in ("query", "value", "key", "output"):
            raise RefusalError(f"the channels to be copied are its {named}")
        if mapped.axis != len(call.shape(mapped.port)) - 1:
            raise refuse_axis(call, mapped)
        return []

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of heads and an explicit output size."""
        if not grown.maps:
            return config
        heads = grown.internal()
        changed = dict(config)
        if heads is not None:
            changed["num_heads"] = heads.new_size
        # Left out, it would follow the query, whether or not the output is widened with it.
        changed["output_shape"] = (grown.outputs[0][-1],)
        return changed

    def heads_of(self, layer: Any, name: str, heads: ChannelMap | None) -> ChannelMap | None:  # noqa: ARG002
        """Return the map of a projection's heads, by its name."""
        return heads

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the kernels and biases of all projections."""
        layer, heads = grown.layer, grown.internal()
        named = {name: grown.input(-1, k) for k, name in reversed([*enumerate(grown.arguments)])}
        query, value = named.get("query"), named.get("value")
        key = named.get("key", value)
        entering: dict[str, ChannelMap | None]
        entering = {"query": query, "key": key, "value": value, "gate": query}
        found = []
        for name, dense in _projections(layer).items():
            own = self.heads_of(layer, name, heads)
            if name == "output":
                bias = {-1: copy_axis(grown.output(-1))}
                kernel = {0: divide_axis(own), **bias}
            else:
                kernel = {0: divide_axis(entering[name]), 1: copy_axis(own)}
                bias = {0: copy_axis(own)}
            found.append(weight(dense.kernel, dense.kernel_initializer, kernel))
            if dense.bias is not None:
                found.append(weight(dense.bias, dense.bias_initializer, bias))
        return found


class GroupQueryAttentionRule(MultiHeadAttentionRule):
    """Its width is the number of key and value heads; each is copied with its query heads.

    The output is as wide as the query, so both have one map.
    """

    def width(self, layer: Any) -> int:
        """Return the number of key and value heads."""
        return int(layer.num_key_value_heads)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on features and heads; the query's and the output's are the same."""
        super().propagate(call, mapped)
        query = Port("in", call.arguments.index("query"))
        if mapped.port not in (query, Port("out")):
            return []
        axis = len(call.outputs[0]) - 1
        return [MappedAxis(port, axis, mapped.map) for port in (query, Port("out"))]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new numbers of heads."""
        heads = grown.internal()
        if heads is None:
            return config
        query = heads.new_size * grown.layer.num_repeats
        return {**config, "num_key_value_heads": heads.new_size, "num_query_heads": query}

    def heads_of(self, layer: Any, name: str, heads: ChannelMap | None) -> ChannelMap | None:
        """Return the map of a projection's heads: a run of query heads for each key head."""
        if heads is None or name in ("key", "value"):
            return heads
        return heads.repeat(layer.num_repeats)


class AttentionRule(Rule):
    """Dot-product attention without weights: only the values' features pass through."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the output or on the values; refuse it on queries and keys."""
        axis = len(call.shape(mapped.port)) - 1
        if mapped.axis != axis:
            raise refuse_axis(call, mapped)
        if len(call.inputs) < 3:
            raise RefusalError(
                "its values are its keys too, and copies of a key's features change the scores",
                "Hand in a key of its own, or use MultiHeadAttention.",
            )
        if mapped.port not in (Port("in", 1), Port("out", 0)):
            raise RefusalError("copies of a query's or key's features would change the scores")
        return [MappedAxis(port, axis, mapped.map) for port in (Port("in", 1), Port("out", 0))]


def _projections(layer: Any) -> dict[str, Any]:
    names = ("query", "key", "value", "gate", "output")
    found = {name: getattr(layer, f"_{name}_dense", None) for name in names}
    return {name: dense for name, dense in found.items() if dense is not None}


register_rule(keras.layers.MultiHeadAttention, MultiHeadAttentionRule())
register_rule(keras.layers.GroupQueryAttention, GroupQueryAttentionRule())
register_rule(keras.layers.Attention, AttentionRule())
