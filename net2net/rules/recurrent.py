"""Recurrent layers, alone, bidirectional and convolutional, and the TimeDistributed wrapper."""

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
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule, rule_for


class RecurrentRule(Rule):
    """Kernel [in, gates·units], recurrent kernel [units, gates·units], each gate one block.

    Every block is copied alike; the recurrent kernel is divided over the state
    that comes back, so copies of a unit keep equal states.
    """

    def width(self, layer: Any) -> int:
        """Return the number of units."""
        return int(layer.units)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the input's features, put those on the units on every output and state."""
        require_elementwise_gates(call.layer)
        if mapped.axis != len(call.shape(mapped.port)) - 1:
            raise refuse_axis(call, mapped)
        return [] if mapped.port == Port("in") else _map_units(call, mapped.map)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of units."""
        return {**config, "units": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the cell's kernels and bias."""
        return gate_weights(grown.layer, grown.input(-1), grown.output(-1))


def _map_units(call: CallView, units: ChannelMap) -> list[MappedAxis]:
    """Return a map of the units on every output and state."""
    ports = [port for port in call.ports() if port != Port("in")]
    return [MappedAxis(port, len(call.shape(port)) - 1, units) for port in ports]


def require_elementwise_gates(layer: Any) -> None:
    """Refuse a layer whose activations mix channels."""
    require_elementwise(layer.activation)
    require_elementwise(getattr(layer, "recurrent_activation", None))


def gate_weights(layer: Any, entering: ChannelMap | None, made: ChannelMap | None) -> list[Weight]:
    """Return the weights of a cell, given the maps of its input's features and of its units."""
    cell = layer.cell
    gates = copy_axis(made.tile(cell.kernel.shape[-1] // made.old_size) if made else None)
    found = [
        weight(cell.kernel, cell.kernel_initializer, {-2: divide_axis(entering), -1: gates}),
        weight(
            cell.recurrent_kernel,
            cell.recurrent_initializer,
            {-2: divide_axis(made), -1: gates},
        ),
    ]
    if cell.bias is not None:
        # A GRU with reset_after has two biases, one above the other.
        found.append(weight(cell.bias, cell.bias_initializer, {-1: gates}))
    # The states that a stateful layer keeps between batches.
    states = keras.tree.flatten(getattr(layer, "states", None) or [])
    return found + [weight(state, None, {-1: copy_axis(made)}) for state in states]


class CellRule(RecurrentRule):
    """keras.layers.RNN around one of Keras's cells."""

    def width(self, layer: Any) -> int:
        """Return the cell's number of units; 0 where there is no rule for it."""
        return int(layer.cell.units) if type(layer.cell) in _CELLS else 0

    def width_axis(self, call: CallView) -> WidthAxis:
        """Return the axis of the units."""
        _require_cell(call.layer)
        return super().width_axis(call)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the input's features, put those on the units on every output and state."""
        _require_cell(call.layer)
        return super().propagate(replace(call, layer=call.layer.cell), mapped)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the cell's new number of units."""
        if not grown.maps:
            return config
        cell = config["cell"]
        inner = {**cell["config"], "units": grown.outputs[0][-1]}
        return {**config, "cell": {**cell, "config": inner}}


_CELLS = (keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell)


def _require_cell(layer: Any) -> None:
    kind = type(layer.cell)
    if kind not in _CELLS:
        raise RefusalError(
            f"there is no rule for its cell {kind.__name__}",
            "Use layers of one cell of Keras's each, such as LSTM, or let a Dense layer stand "
            "between it and the layer to be widened.",
        )


class ConvolutionalRecurrentRule(RecurrentRule):
    """Kernels [*window, in, 4·filters] and [*window, filters, 4·filters], gate by gate."""

    def width(self, layer: Any) -> int:
        """Return the number of filters."""
        return int(layer.filters)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the input's channels, put those on the filters on every state."""
        if call.layer.data_format == "channels_first":
            raise RefusalError(
                "its channels come first, for which there is no rule",
                'Use data_format="channels_last".',
            )
        return super().propagate(call, mapped)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of filters."""
        return {**config, "filters": grown.outputs[0][-1]} if grown.maps else config


class BidirectionalRule(Rule):
    """Its width is that of each direction; concatenated outputs are two blocks of it."""

    def width(self, layer: Any) -> int | None:
        """Return the number of units of each direction."""
        return getattr(layer.forward_layer, "units", None)

    def width_axis(self, call: CallView) -> WidthAxis:
        """Return the last axis of the first output."""
        axis = len(call.outputs[0]) - 1
        return WidthAxis(Port("out"), axis, 2 if call.layer.merge_mode == "concat" else 1)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the input's features, put those on the units on every output and state."""
        layer = call.layer
        for inner in (layer.forward_layer, layer.backward_layer):
            if not isinstance(rule_for(inner), RecurrentRule):
                raise RefusalError(f"there is no rule for {type(inner).__name__} inside it")
            require_elementwise_gates(inner)
        if mapped.axis != len(call.shape(mapped.port)) - 1:
            raise refuse_axis(call, mapped)
        if mapped.port == Port("in"):
            return []
        if layer.merge_mode != "concat":
            return _map_units(call, mapped.map)
        units = mapped.map.untile(2) if mapped.port == Port("out") else mapped.map
        if units is None:
            raise StructureRequest(Structure(blocks=2))
        return [
            replace(one, map=units.tile(2)) if one.port == Port("out") else one
            for one in _map_units(call, units)
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
            units = units.untile(2)
        entering = grown.input(-1)
        return [
            *gate_weights(layer.forward_layer, entering, units),
            *gate_weights(layer.backward_layer, entering, units),
        ]


class TimeDistributedRule(Rule):
    """Axis a of the wrapper is axis a - 1 of the wrapped layer, beyond the axis of time."""

    ties_calls = True

    def width(self, layer: Any) -> int | None:
        """Return the wrapped layer's width; 0 where it has weights that no rule knows."""
        rule = rule_for(layer.layer)
        if rule is None or is_model(layer.layer):
            return 0 if layer.weights else None
        return rule.width(layer.layer)

    def width_axis(self, call: CallView) -> WidthAxis:
        """Return the axis that shows the wrapped layer's width, counted with that of time."""
        inner = _inner_rule(call.layer).width_axis(_call_without_time(call))
        return replace(inner, axis=inner.axis + 1)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return what follows for the wrapped layer; a map on time passes through."""
        if mapped.axis == 1:
            return [MappedAxis(mapped.port.opposite, 1, mapped.map)]
        following = _inner_rule(call.layer).propagate(
            _call_without_time(call), MappedAxis(mapped.port, mapped.axis - 1, mapped.map)
        )
        return [MappedAxis(one.port, one.axis + 1, one.map) for one in following]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the wrapped layer's changed."""
        rule = rule_for(grown.layer.layer)
        if rule is None or not grown.maps:
            return config
        inner = config["layer"]
        changed = rule.configure(inner["config"], _grown_without_time(grown))
        return {**config, "layer": {**inner, "config": changed}}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the wrapped layer's weights."""
        return _inner_rule(grown.layer).weights(_grown_without_time(grown))


def _inner_rule(layer: Any) -> Rule:
    rule = rule_for(layer.layer)
    if is_model(layer.layer) or rule is None:
        raise RefusalError(
            f"there is no rule for {type(layer.layer).__name__} inside it",
            "Wrap single layers, each in a TimeDistributed of its own.",
        )
    return rule


def _drop_time(shape: Shape) -> Shape:
    return (shape[0], *shape[2:])


def _call_without_time(call: CallView) -> CallView:
    return replace(
        call,
        layer=call.layer.layer,
        inputs=tuple(_drop_time(shape) for shape in call.inputs),
        outputs=tuple(_drop_time(shape) for shape in call.outputs),
        known={(port, axis - 1): one for (port, axis), one in call.known.items() if axis > 1},
    )


def _grown_without_time(grown: GrownLayer) -> GrownLayer:
    return GrownLayer(
        layer=grown.layer.layer,
        inputs=tuple(_drop_time(shape) for shape in grown.inputs),
        outputs=tuple(_drop_time(shape) for shape in grown.outputs),
        maps={(port, axis - 1): one for (port, axis), one in grown.maps.items() if axis > 1},
    )


for _layer in (keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM):
    register_rule(_layer, RecurrentRule())
register_rule(keras.layers.RNN, CellRule())
for _layer in (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D):
    register_rule(_layer, ConvolutionalRecurrentRule())
register_rule(keras.layers.Bidirectional, BidirectionalRule())
register_rule(keras.layers.TimeDistributed, TimeDistributedRule())
