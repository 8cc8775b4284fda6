"""Dense: makes the channels of its last axis, and mixes those of its input's last axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import Obstacle
from net2net.rules.base import CallView, Grown, Mapped, Port, Rule, Weight, copied, shared, weight
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule


class DenseRule(Rule):
    """y = φ(x W + b): W [in, out] is shared out over `in` and copied over `out`."""

    def width(self, layer: Any) -> int:
        """Return the number of units."""
        return int(layer.units)

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Take maps on the last axes; pass those on other axes (time, place) through."""
        require_plain(call.layer)
        if mapped.axis != len(call.inputs[0]) - 1:
            require_elementwise(call.layer.activation)
            other = Port("out") if mapped.port.side == "in" else Port("in")
            return [Mapped(other, mapped.axis, mapped.map)]
        if mapped.port.side == "out":
            require_elementwise(call.layer.activation)
        return []

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new number of units."""
        return {**config, "units": grown.outputs[0][-1]}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return kernel and bias."""
        layer, made = grown.layer, copied(grown.output(-1))
        kernel = weight(
            layer.kernel, layer.kernel_initializer, first=shared(grown.input(-1)), last=made
        )
        if layer.bias is None:
            return [kernel]
        return [kernel, weight(layer.bias, layer.bias_initializer, first=made)]


def require_plain(layer: Any) -> None:
    """Refuse a layer whose kernel is quantised or has LoRA matrices beside it."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise Obstacle(
            "its kernel is quantised or adapted by LoRA", "Grow the model before doing that."
        )


register_rule(keras.layers.Dense, DenseRule())
