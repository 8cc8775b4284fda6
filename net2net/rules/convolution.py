"""Conv1D, Conv2D and Conv3D, grouped or not, channels first or last.

Transposed convolutions, whose kernel has its two channel axes the other way round.

Separable convolutions: a depthwise kernel, then a pointwise one that mixes.

Depthwise convolutions: every input channel has m output channels of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.channel_map import Structure
from net2net.errors import StructureRequest
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
    require_structure,
    weight,
)
from net2net.rules.core import require_plain
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule


def channel_axis(layer: Any, rank: int) -> int:
    """Return the axis of a tensor of this rank that the layer's data format calls channels."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


class ConvolutionRule(Rule):
    """Kernel [*window, in / groups, out]: shared out over `in`, copied over `out`.

    With several groups, the maps must be the same inside each: the kernel's `in` axis is one
    group wide and serves them all.
    """

    def width(self, layer: Any) -> int:
        """Return the number of filters."""
        return int(layer.filters)

    def target(self, call: CallView) -> Target:
        """Return the channel axis of the output."""
        return Target(Port("out"), channel_axis(call.layer, len(call.outputs[0])))

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Take maps on the channel axes, refuse them on places."""
        require_plain(call.layer)
        if mapped.axis != channel_axis(call.layer, len(call.inputs[0])):
            raise refuse_axis(call, mapped)
        if mapped.port.side == "out":
            require_elementwise(call.layer.activation)
        require_structure(mapped.map, Structure(blocks=getattr(call.layer, "groups", 1)))
        return []

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of filters."""
        axis = channel_axis(grown.layer, len(grown.outputs[0]))
        return {**config, "filters": grown.outputs[0][axis]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        axis = channel_axis(layer, len(grown.outputs[0]))
        entering, made = grown.input(axis), copied(grown.output(axis))
        group = entering.untiled(layer.groups) if entering else None
        kernel = weight(
            layer.kernel, layer.kernel_initializer, before_last=divided(group), last=made
        )
        if layer.bias is None:
            return [kernel]
        return [kernel, weight(layer.bias, layer.bias_initializer, first=made)]


for _layer in (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D):
    register_rule(_layer, ConvolutionRule())


class TransposedConvolutionRule(ConvolutionRule):
    """Kernel [*window, out, in]: copied over `out`, shared out over `in`."""

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        axis = channel_axis(layer, len(grown.outputs[0]))
        made = copied(grown.output(axis))
        kernel = weight(
            layer.kernel,
            layer.kernel_initializer,
            before_last=made,
            last=divided(grown.input(axis)),
        )
        if layer.bias is None:
            return [kernel]
        return [kernel, weight(layer.bias, layer.bias_initializer, first=made)]


for _layer in (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
):
    register_rule(_layer, TransposedConvolutionRule())


class SeparableConvolutionRule(ConvolutionRule):
    """Depthwise [*window, in, m] is copied over `in`; pointwise [1.., in·m, out] shares it out."""

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return both kernels and the bias."""
        layer = grown.layer
        axis = channel_axis(layer, len(grown.outputs[0]))
        entering, made = grown.input(axis), copied(grown.output(axis))
        between = entering.repeated(layer.depth_multiplier) if entering else None
        found = [
            weight(
                layer.depthwise_kernel, layer.depthwise_initializer, before_last=copied(entering)
            ),
            weight(
                layer.pointwise_kernel,
                layer.pointwise_initializer,
                before_last=divided(between),
                last=made,
            ),
        ]
        if layer.bias is not None:
            found.append(weight(layer.bias, layer.bias_initializer, first=made))
        return found


for _layer in (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D):
    register_rule(_layer, SeparableConvolutionRule())


class DepthwiseRule(Rule):
    """Output channel c·m + r comes from input channel c: the map passes through, in runs of m.

    Its width is that of the layers that feed it: widening it widens them.
    """

    def width(self, layer: Any) -> int | None:
        """Return the number of output channels, known from the kernel [*window, in, m]."""
        return int(layer.kernel.shape[-2] * layer.kernel.shape[-1]) if layer.built else None

    def target(self, call: CallView) -> Target:
        """Return the channel axis of the output."""
        return Target(Port("out"), channel_axis(call.layer, len(call.outputs[0])))

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the map on the other side, widened to or narrowed from runs of m."""
        layer = call.layer
        if mapped.axis != channel_axis(layer, len(call.inputs[0])):
            raise refuse_axis(call, mapped)
        require_elementwise(layer.activation)
        if mapped.port.side == "in":
            return [
                MappedOutput(Port("out"), mapped.axis, mapped.map.repeated(layer.depth_multiplier))
            ]
        entering = mapped.map.unrepeated(layer.depth_multiplier)
        if entering is None:
            raise StructureRequest(Structure(runs=layer.depth_multiplier))
        return [MappedOutput(Port("in"), mapped.axis, entering)]

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        axis = channel_axis(layer, len(grown.outputs[0]))
        kernel = weight(
            layer.kernel, layer.depthwise_initializer, before_last=copied(grown.input(axis))
        )
        if layer.bias is None:
            return [kernel]
        made = copied(grown.output(axis))
        return [kernel, weight(layer.bias, layer.bias_initializer, first=made)]


for _layer in (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D):
    register_rule(_layer, DepthwiseRule())
