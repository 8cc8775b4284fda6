"""SimpleRNN, GRU and LSTM: gates side by side on one axis, and a state that feeds back.

ConvLSTM1D, 2D and 3D: an LSTM whose kernels are convolutions.

Bidirectional: two recurrent layers, whose units are mapped alike.

TimeDistributed: the wrapped layer's rule, with the axis of time taken out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras

from net2net.channel_map import ChannelMap, Structure
from net2net.errors import RefusalError, StructureRequest
from net2net.graph import Shape, is_model
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedOutput,
    Port,
    Rule,
    Target,
    Weight,
    copied,
    divided,
    refuse_axis,
    weight,
)
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule, rule_for

_GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


class RecurrentRule(Rule):
    """Kernel [in, gates·units], recurrent kernel [units, gates·units].

    Every gate is one block that is copied alike; the recurrent kernel is shared out over the
    state that comes back, so copies of a unit keep equal states.
    """

    def width(self, layer: Any) -> int:
        """Return the number of units."""
        return int(layer.units)

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Take maps on the input's features, put those on the units on every output and state."""
        require_gates(call.layer)
        if mapped.axis != len(call.shape(mapped.port)) - 1:
            raise refuse_axis(call, mapped)
        if mapped.port == Port("in", 0):
            return []
        return [
            MappedOutput(port, len(call.shape(port)) - 1, mapped.map)
            for port in call.ports()
            if port != Port("in", 0)
        ]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of units."""
        return {**config, "units": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the cell's kernels and bias."""
        return gate_weights(grown.layer, grown.input(-1), grown.output(-1))


def require_gates(layer: Any) -> None:
    """Refuse a recurrent layer that keeps its state between batches or has odd activations."""
    if layer.stateful:
        raise RefusalError(
            "it is stateful, and a state kept between batches has no rule",
            "Use stateful=False, or grow the model before training it.",
        )
    require_elementwise(layer.activation)
    require_elementwise(getattr(layer, "recurrent_activation", None))


def gate_weights(layer: Any, entering: ChannelMap | None, made: ChannelMap | None) -> list[Weight]:
    """Return the weights of one recurrent layer's cell.

    Args:
        layer: A SimpleRNN, GRU or LSTM.
        entering: The map of its input's features.
        made: The map of its units.

    Returns:
        Kernel, recurrent kernel and bias.
    """
    cell = layer.cell
    gates = copied(made.tiled(_GATES[type(layer).__name__]) if made else None)
    found = [
        weight(cell.kernel, cell.kernel_initializer, first=divided(entering), last=gates),
        weight(cell.recurrent_kernel, cell.recurrent_initializer, first=divided(made), last=gates),
    ]
    if cell.bias is not None:
        # A GRU with reset_after has two biases, one above the other.
        found.append(weight(cell.bias, cell.bias_initializer, last=gates))
    return found


for _layer in (keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM):
    register_rule(_layer, RecurrentRule())


class ConvolutionalRecurrentRule(RecurrentRule):
    """Kernels [*window, in, 4·filters] and [*window, filters, 4·filters], gate by gate."""

    def width(self, layer: Any) -> int:
        """Return the number of filters."""
        return int(layer.filters)

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Take maps on the input's channels, put those on the filters on every state."""
        if call.layer.data_format == "channels_first":
            raise RefusalError(
                "its channels come first, for which there is no rule",
                'Use data_format="channels_last".',
            )
        return super().spread(call, mapped)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of filters."""
        return {**config, "filters": grown.outputs[0][-1]} if grown.maps else config

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the cell's kernels and bias."""
        cell, made = grown.layer.cell, grown.output(-1)
        gates = copied(made.tiled(4) if made else None)
        entering, back = divided(grown.input(-1)), divided(made)
        found = [
            weight(cell.kernel, cell.kernel_initializer, before_last=entering, last=gates),
            weight(cell.recurrent_kernel, cell.recurrent_initializer, before_last=back, last=gates),
        ]
        if cell.use_bias:
            found.append(weight(cell.bias, cell.bias_initializer, last=gates))
        return found


for _layer in (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D):
    register_rule(_layer, ConvolutionalRecurrentRule())


class BidirectionalRule(Rule):
    """Its width is that of each direction; concatenated outputs are two blocks of it."""

    def width(self, layer: Any) -> int | None:
        """Return the number of units of each direction."""
        return getattr(layer.forward_layer, "units", None)

    def target(self, call: CallView) -> Target:
        """Return the last axis of the first output."""
        axis = len(call.outputs[0]) - 1
        return Target(Port("out"), axis, 2 if call.layer.merge_mode == "concat" else 1)

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Take maps on the input's features, put those on the units on every output and state."""
        layer = call.layer
        for inner in (layer.forward_layer, layer.backward_layer):
            if not isinstance(rule_for(inner), RecurrentRule):
                raise RefusalError(f"there is no rule for {type(inner).__name__} inside it")
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
                raise StructureRequest(Structure(blocks=2))
            units = block
        return [
            MappedOutput(
                port,
                len(call.shape(port)) - 1,
                units.tiled(2) if joined and port == Port("out", 0) else units,
            )
            for port in call.ports()
            if port != Port("in", 0)
        ]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of units in both directions."""
        blocks = 2 if grown.layer.merge_mode == "concat" else 1
        units = (grown.outputs[0][-1] or 0) // blocks
        found = dict(config)
        for name in ("layer", "backward_layer"):
            if name in config:
                inner = config[name]
                found[name] = {**inner, "config": {**inner["config"], "units": units}}
        return found

    def weights(self, grown: GrownLayer) -> list[Weight]:
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

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return what follows for the wrapped layer; a map on time passes through."""
        if mapped.axis == 1:
            other = Port("out") if mapped.port.side == "in" else Port("in")
            return [MappedOutput(other, 1, mapped.map)]
        following = _rule(call.layer).spread(
            _inside(call), MappedOutput(mapped.port, mapped.axis - 1, mapped.map)
        )
        return [MappedOutput(one.port, one.axis + 1, one.map) for one in following]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the wrapped layer's changed."""
        rule = rule_for(grown.layer.layer)
        if rule is None or not grown.maps:
            return config
        inner = config["layer"]
        changed = rule.configure(inner["config"], _grown_inside(grown))
        return {**config, "layer": {**inner, "config": changed}}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the wrapped layer's weights."""
        return _rule(grown.layer).weights(_grown_inside(grown))


def _rule(layer: Any) -> Rule:
    rule = rule_for(layer.layer)
    if is_model(layer.layer) or rule is None:
        raise RefusalError(
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


def _grown_inside(grown: GrownLayer) -> GrownLayer:
    return GrownLayer(
        layer=grown.layer.layer,
        inputs=tuple(_without_time(shape) for shape in grown.inputs),
        outputs=tuple(_without_time(shape) for shape in grown.outputs),
        maps={(port, axis - 1): one for (port, axis), one in grown.maps.items() if axis > 1},
    )


register_rule(keras.layers.TimeDistributed, TimeDistributedRule())
