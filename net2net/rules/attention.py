"""Attention: heads are copied whole, since a softmax stands inside each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.channel_map import ChannelMap, Structure
from net2net.errors import RefusalError, StructureRequest, UnsupportedLayerError
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
    divide_scaled_axis,
    refuse_axis,
    weight,
)
from net2net.rules.core import require_plain_kernel
from net2net.rules.registry import register_rule


class MultiHeadAttentionRule(Rule):
    """Projections [in, heads, size]: copied over `heads`; output [heads, size, out]: divided.

    Each head's softmax sees the same scores as before. `in` is divided and `out` copied, so the
    layer can also be in a residual stream that is widened. Where the keys' size grows, queries are
    divided over it, and scaled since the scores are divided by its root.
    """

    sizes: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("key_dim", ("query", "key")),
        ("value_dim", ("value", "gate", "output")),
    )
    """Settings that are a size of each head, and the projections that have it."""

    def width(self, layer: Any) -> int:
        """Return the number of heads."""
        return int(layer.num_heads)

    def inner_widths(self, layer: Any) -> dict[str, int]:
        """Return the sizes of each head."""
        return {name: int(getattr(layer, name)) for name, _ in self.sizes}

    def width_axis(self, call: CallView) -> WidthAxis:  # noqa: ARG002
        """Return the axis that stands for the width inside the layer."""
        return WidthAxis(Port("internal"), 0)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the features of query, value, key and output, and on the heads."""
        layer = call.layer
        for dense in _projections(layer).values():
            require_plain_kernel(dense)
        if mapped.port.side == "internal":
            if mapped.axis or len(call.outputs) < 2:
                return []
            return [MappedAxis(_SCORES, 1, self.query_heads(layer, mapped.map))]
        if mapped.port == _SCORES:
            return [MappedAxis(Port("internal"), 0, self.heads_of_scores(call, mapped))]
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
        changed = {**config, **self._grown_sizes(grown)}
        if heads is not None:
            changed["num_heads"] = heads.new_size
        # Left out, it would follow the query, whether or not the output is widened with it.
        changed["output_shape"] = (grown.outputs[0][-1],)
        return changed

    def query_heads(self, layer: Any, heads: ChannelMap) -> ChannelMap:  # noqa: ARG002
        """Return the map of the queries' heads, from that of the heads that the width counts."""
        return heads

    def heads_of_scores(self, call: CallView, mapped: MappedAxis) -> ChannelMap:
        """Return the map of the heads from one on the scores [batch, heads, ...]."""
        if mapped.axis != 1:
            raise refuse_axis(call, mapped)
        return mapped.map

    def _grown_sizes(self, grown: GrownLayer) -> dict[str, int]:
        maps = {name: grown.internal(axis) for axis, (name, _) in enumerate(self.sizes, 1)}
        return {name: one.new_size for name, one in maps.items() if one is not None}

    def _require_one_size(self, grown: GrownLayer) -> None:
        """Refuse keys and values of different sizes where Keras could not compute with them."""
        layer = grown.layer
        old = set(self.inner_widths(layer).values())
        new = set({**self.inner_widths(layer), **self._grown_sizes(grown)}.values())
        if keras.backend.backend() == "jax" and len(old) < len(new):
            raise UnsupportedLayerError(
                layer.name,
                "on JAX, Keras's fused attention takes keys and values of one size only",
                "Grow its key_dim and value_dim to one size in one call of `net2net.grow`.",
            )

    def _size_of(self, grown: GrownLayer, projection: str) -> ChannelMap | None:
        for axis, (_, projections) in enumerate(self.sizes, 1):
            if projection in projections:
                return grown.internal(axis)
        return None

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the kernels and biases of all projections."""
        self._require_one_size(grown)
        layer, heads = grown.layer, grown.internal()
        named = {name: grown.input(-1, k) for k, name in reversed([*enumerate(grown.arguments)])}
        query, value = named.get("query"), named.get("value")
        key = named.get("key", value)
        entering: dict[str, ChannelMap | None]
        entering = {"query": query, "key": key, "value": value, "gate": query}
        found = []
        for name, dense in _projections(layer).items():
            own = heads
            if heads is not None and name not in ("key", "value"):
                own = self.query_heads(layer, heads)
            size = self._size_of(grown, name)
            if name == "output":
                bias = {-1: copy_axis(grown.output(-1))}
                kernel = {0: divide_axis(own), 1: divide_axis(size), **bias}
            else:
                # q · k / √size is kept by queries that are divided, and scaled by the root.
                scaled = divide_scaled_axis(size, 0.5) if name == "query" else copy_axis(size)
                bias = {0: copy_axis(own), 1: scaled}
                kernel = {0: divide_axis(entering[name]), 1: copy_axis(own), 2: scaled}
            found.append(weight(dense.kernel, dense.kernel_initializer, kernel))
            if dense.bias is not None:
                found.append(weight(dense.bias, dense.bias_initializer, bias))
        return found


class GroupQueryAttentionRule(MultiHeadAttentionRule):
    """Its width is the number of key and value heads; each is copied with its query heads.

    The output is as wide as the query and, as Keras wants it, the value, so all have one map. All
    projections of a head have one size.
    """

    sizes = (("head_dim", ("query", "key", "value", "gate", "output")),)

    def width(self, layer: Any) -> int:
        """Return the number of key and value heads."""
        return int(layer.num_key_value_heads)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on features and heads; those of query, value and output are the same."""
        found = super().propagate(call, mapped)
        # Keras wants values as wide as queries.
        named = ("query", "value")
        ports = [Port("in", k) for k, name in enumerate(call.arguments) if name in named]
        ports.append(Port("out"))
        if mapped.port not in ports:
            return found
        return [MappedAxis(port, len(call.shape(port)) - 1, mapped.map) for port in ports]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new numbers of heads."""
        heads = grown.internal()
        config = {**config, **self._grown_sizes(grown)}
        if heads is None:
            return config
        query = heads.new_size * grown.layer.num_repeats
        return {**config, "num_key_value_heads": heads.new_size, "num_query_heads": query}

    def query_heads(self, layer: Any, heads: ChannelMap) -> ChannelMap:
        """Return the map of the queries' heads: a run of them for each key head."""
        return heads.repeat(layer.num_repeats)

    def heads_of_scores(self, call: CallView, mapped: MappedAxis) -> ChannelMap:
        """Return the map of the key heads from one on the scores [batch, query heads, ...]."""
        runs = call.layer.num_repeats
        heads = super().heads_of_scores(call, mapped).unrepeat(runs)
        if heads is None:
            raise StructureRequest(Structure(runs=runs))
        return heads


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


class AdditiveAttentionRule(AttentionRule):
    """Scores Σ scale · tanh(q + k): the scale is divided over the features of query and key."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on query and key, and on values and output where they have it too."""
        axis = len(call.shape(mapped.port)) - 1
        if mapped.axis != axis or mapped.port == _SCORES:
            raise refuse_axis(call, mapped)
        features, passing = [Port("in", 0), Port("in", 2)], [Port("in", 1), Port("out")]
        if len(call.inputs) < 3:  # the values are the keys
            features = [Port("in", 0), *passing]
        if mapped.port in features and call.layer.scale is None:
            raise RefusalError(
                "it adds up the features of query and key as they are", "Set its use_scale=True."
            )
        ports = features if mapped.port in features else passing
        return [MappedAxis(port, axis, mapped.map) for port in ports]

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the scale."""
        if grown.layer.scale is None:
            return []
        start = keras.initializers.GlorotUniform()
        return [weight(grown.layer.scale, start, {0: divide_axis(grown.input(-1))})]


_SCORES = Port("out", 1)


def _projections(layer: Any) -> dict[str, Any]:
    names = ("query", "key", "value", "gate", "output")
    found = {name: getattr(layer, f"_{name}_dense", None) for name in names}
    return {name: dense for name, dense in found.items() if dense is not None}


register_rule(keras.layers.MultiHeadAttention, MultiHeadAttentionRule())
register_rule(keras.layers.GroupQueryAttention, GroupQueryAttentionRule())
register_rule(keras.layers.Attention, AttentionRule())
register_rule(keras.layers.AdditiveAttention, AdditiveAttentionRule())
