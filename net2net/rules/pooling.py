"""Layers that move or summarise places and leave channels alone: pooling, padding, cropping."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from net2net.rules.base import CallView, Mapped, Port, Rule, refuse_axis
from net2net.rules.convolution import channel_axis
from net2net.rules.registry import register_rule


class PoolingRule(Rule):
    """Passes a map on the channel axis through, whether or not the places remain as axes."""

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Return the same map on the other side."""
        layer = call.layer
        if mapped.axis != channel_axis(layer, len(call.shape(mapped.port))):
            raise refuse_axis(call, mapped)
        other = Port("out") if mapped.port.side == "in" else Port("in")
        return [Mapped(other, channel_axis(layer, len(call.shape(other))), mapped.map)]


_KINDS = (
    "AveragePooling",
    "MaxPooling",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "AdaptiveAveragePooling",
    "AdaptiveMaxPooling",
    "ZeroPadding",
    "Cropping",
    "UpSampling",
)
for _kind in _KINDS:
    for _rank in (1, 2, 3):
        # The adaptive ones are younger than the oldest Keras that is supported.
        _layer = getattr(keras.layers, f"{_kind}{_rank}D", None)
        if _layer is not None:
            register_rule(_layer, PoolingRule())
register_rule(keras.layers.Resizing, PoolingRule())
register_rule(keras.layers.CenterCrop, PoolingRule())
