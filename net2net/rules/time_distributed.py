"""TimeDistributed: the wrapped layer's rule, with the axis of time taken out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras

from net2net.errors import Obstacle
from net2net.graph import Shape, is_model
from net2net.rules.base import CallView, Grown, Mapped, Port, Rule, Target, Weight
from net2net.rules.registry import register_rule, rule_for


class TimeDistributedRule(Rule):
    """Axis a of the wrapper is axis a - 1 of the wrapped layer, beyond the axis of time."""

    ties_calls = True

    def width(self, layer: Any) -> int | None:
        """Return the wrapped layer's width."""
        rule = rule_for(layer.layer)
        return rule.width(layer.layer) if rule else None

    def target(self, call: CallView) -> Target:
        """Return where the wrapped layer's width stands, one axis on."""
        inner = _rule(call.layer).target(_inside(call))
        return replace(inner, axis=inner.axis + 1)

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Return what follows for the wrapped layer; a map on time passes through."""
        if mapped.axis == 1:
            other = Port("out") if mapped.port.side == "in" else Port("in")
            return [Mapped(other, 1, mapped.map)]
        following = _rule(call.layer).spread(
            _inside(call), Mapped(mapped.port, mapped.axis - 1, mapped.map)
        )
        return [Mapped(one.port, one.axis + 1, one.map) for one in following]

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the wrapped layer's changed."""
        rule = rule_for(grown.layer.layer)
        if rule is None or not grown.maps:
            return config
        inner = config["layer"]
        changed = rule.configure(inner["config"], _grown_inside(grown))
        return {**config, "layer": {**inner, "config": changed}}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return the wrapped layer's weights."""
        return _rule(grown.layer).weights(_grown_inside(grown))


def _rule(layer: Any) -> Rule:
    rule = rule_for(layer.layer)
    if is_model(layer.layer) or rule is None:
        raise Obstacle(
            f"there is no rule for {type(layer.layer).__name__} inside it",
            "Wrap single layers, each in a TimeDistributed of its own.",
        )
    return rule


def _without_time(shape: Shape) -> Shape:
    return (shape[0], *shape[2:])


def _inside(call: CallView) -> CallView:
    return replace(
        call,
        layer=call.layer.layer,
        inputs=tuple(_without_time(shape) for shape in call.inputs),
        outputs=tuple(_without_time(shape) for shape in call.outputs),
        known={(port, axis - 1): one for (port, axis), one in call.known.items() if axis > 1},
    )


def _grown_inside(grown: Grown) -> Grown:
    return Grown(
        layer=grown.layer.layer,
        inputs=tuple(_without_time(shape) for shape in grown.inputs),
        outputs=tuple(_without_time(shape) for shape in grown.outputs),
        maps={(port, axis - 1): one for (port, axis), one in grown.maps.items() if axis > 1},
    )


register_rule(keras.layers.TimeDistributed, TimeDistributedRule())
