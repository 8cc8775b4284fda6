"""ConvLSTM1D, 2D and 3D: an LSTM whose kernels are convolutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import Obstacle
from net2net.rules.base import CallView, Grown, Mapped, Weight, copied, shared, weight
from net2net.rules.recurrent import RecurrentRule
from net2net.rules.registry import register_rule


class ConvolutionalRecurrentRule(RecurrentRule):
    """Kernels [*window, in, 4·filters] and [*window, filters, 4·filters], gate by gate."""

    def width(self, layer: Any) -> int:
        """Return the number of filters."""
        return int(layer.filters)

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Take maps on the input's channels, put those on the filters on every state."""
        if call.layer.data_format == "channels_first":
            raise Obstacle(
                "its channels come first, for which there is no rule",
                'Use data_format="channels_last".',
            )
        return super().spread(call, mapped)

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new number of filters."""
        return {**config, "filters": grown.outputs[0][-1]} if grown.maps else config

    def weights(self, grown: Grown) -> list[Weight]:
        """Return the cell's kernels and bias."""
        cell, made = grown.layer.cell, grown.output(-1)
        gates = copied(made.tiled(4) if made else None)
        entering, back = shared(grown.input(-1)), shared(made)
        found = [
            weight(cell.kernel, cell.kernel_initializer, before_last=entering, last=gates),
            weight(cell.recurrent_kernel, cell.recurrent_initializer, before_last=back, last=gates),
        ]
        if cell.use_bias:
            found.append(weight(cell.bias, cell.bias_initializer, last=gates))
        return found


for _layer in (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D):
    register_rule(_layer, ConvolutionalRecurrentRule())
