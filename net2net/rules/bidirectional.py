"""Bidirectional: two recurrent layers, whose units are mapped alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import NeedsStructure, Obstacle
from net2net.mapping import Structure
from net2net.rules.base import CallView, Grown, Mapped, Port, Rule, Target, Weight, refuse_axis
from net2net.rules.recurrent import RecurrentRule, gate_weights, require_gates
from net2net.rules.registry import register_rule, rule_for


class BidirectionalRule(Rule):
    """Its width is that of each direction; concatenated outputs are two blocks of it."""

    def width(self, layer: Any) -> int | None:
        """Return the number of units of each direction."""
        return getattr(layer.forward_layer, "units", None)

    def target(self, call: CallView) -> Target:
        """Return the last axis of the first output."""
        axis = len(call.outputs[0]) - 1
        return Target(Port("out"), axis, 2 if call.layer.merge_mode == "concat" else 1)

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Take maps on the input's features, put those on the units on every output and state."""
        layer = call.layer
        for inner in (layer.forward_layer, layer.backward_layer):
            if not isinstance(rule_for(inner), RecurrentRule):
                raise Obstacle(f"there is no rule for {type(inner).__name__} inside it")
            require_gates(inner)
        if mapped.axis != len(call.shape(mapped.port)) - 1:
            raise refuse_axis(call, mapped)
        if mapped.port == Port("in", 0):
            return []
        joined = layer.merge_mode == "concat"
        units = mapped.map
        if joined and mapped.port == Port("out", 0):
            block = units.untiled(2)
            if block is None:
                raise NeedsStructure(Structure(blocks=2))
            units = block
        return [
            Mapped(
                port,
                len(call.shape(port)) - 1,
                units.tiled(2) if joined and port == Port("out", 0) else units,
            )
            for port in call.ports()
            if port != Port("in", 0)
        ]

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new number of units in both directions."""
        blocks = 2 if grown.layer.merge_mode == "concat" else 1
        units = (grown.outputs[0][-1] or 0) // blocks
        found = dict(config)
        for name in ("layer", "backward_layer"):
            if name in config:
                inner = config[name]
                found[name] = {**inner, "config": {**inner["config"], "units": units}}
        return found

    def weights(self, grown: Grown) -> list[Weight]:
        """Return the weights of both directions."""
        layer, units = grown.layer, grown.output(-1)
        if units is not None and layer.merge_mode == "concat":
            units = units.untiled(2)
        entering = grown.input(-1)
        return [
            *gate_weights(layer.forward_layer, entering, units),
            *gate_weights(layer.backward_layer, entering, units),
        ]


register_rule(keras.layers.Bidirectional, BidirectionalRule())
