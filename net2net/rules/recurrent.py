"""SimpleRNN, GRU and LSTM: gates side by side on one axis, and a state that feeds back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import Obstacle
from net2net.mapping import ChannelMap
from net2net.rules.base import (
    CallView,
    Grown,
    Mapped,
    Port,
    Rule,
    Weight,
    copied,
    refuse_axis,
    shared,
    weight,
)
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule

_GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


class RecurrentRule(Rule):
    """Kernel [in, gates·units], recurrent kernel [units, gates·units].

    Every gate is one block that is copied alike; the recurrent kernel is shared out over the
    state that comes back, so copies of a unit keep equal states.
    """

    def width(self, layer: Any) -> int:
        """Return the number of units."""
        return int(layer.units)

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Take maps on the input's features, put those on the units on every output and state."""
        require_gates(call.layer)
        if mapped.axis != len(call.shape(mapped.port)) - 1:
            raise refuse_axis(call, mapped)
        if mapped.port == Port("in", 0):
            return []
        return [
            Mapped(port, len(call.shape(port)) - 1, mapped.map)
            for port in call.ports()
            if port != Port("in", 0)
        ]

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new number of units."""
        return {**config, "units": grown.outputs[0][-1]}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return the cell's kernels and bias."""
        return gate_weights(grown.layer, grown.input(-1), grown.output(-1))


def require_gates(layer: Any) -> None:
    """Refuse a recurrent layer that keeps its state between batches or has odd activations."""
    if layer.stateful:
        raise Obstacle(
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
        weight(cell.kernel, cell.kernel_initializer, first=shared(entering), last=gates),
        weight(cell.recurrent_kernel, cell.recurrent_initializer, first=shared(made), last=gates),
    ]
    if cell.bias is not None:
        # A GRU with reset_after has two biases, one above the other.
        found.append(weight(cell.bias, cell.bias_initializer, last=gates))
    return found


for _layer in (keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM):
    register_rule(_layer, RecurrentRule())
