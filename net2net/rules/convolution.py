"""Convolutions: plain, grouped, transposed, separable and depthwise; channels first or last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.channel_map import ChannelMap, Structure
from net2net.errors import StructureRequest
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedAxis,
    Port,
    Rule,
    Weight,
    WidthAxis,
    bias_weight,
    copy_axis,
    divide_axis,
    refuse_axis,
    require_structure,
    weight,
)
from net2net.rules.core import require_plain_kernel
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule


def channel_axis(layer: Any, rank: int) -> int:
    """Return the axis of a tensor of this rank that the layer's data format calls channels."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


class _ChannelAxisRule(Rule):
    """A convolution of any kind: kernels, and a bias over the output's channels."""

    def width_axis(self, call: CallView) -> WidthAxis:
        """Return the channel axis of the output."""
        return WidthAxis(Port("out"), channel_axis(call.layer, len(call.outputs[0])))

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the kernels and the bias."""
        axis = channel_axis(grown.layer, len(grown.outputs[0]))
        made = grown.output(axis)
        kernels = self.kernels(grown.layer, grown.input(axis), made)
        return [*kernels, *bias_weight(grown.layer, made)]

    def kernels(
        self, layer: Any, entering: ChannelMap | None, made: ChannelMap | None
    ) -> list[Weight]:
        """Return the kernels, given the maps of the input's and the output's channels."""
        raise NotImplementedError


class ConvolutionRule(_ChannelAxisRule):
    """Kernel [*window, in / groups, out]: divided over `in`, copied over `out`.

    With several groups, the maps must be the same inside each: the kernel's `in` axis is one
    group wide and serves them all.
    """

    def width(self, layer: Any) -> int:
        """Return the number of filters."""
        return int(layer.filters)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the channel axes, refuse them on places."""
        require_plain_kernel(call.layer)
        if mapped.axis != channel_axis(call.layer, len(call.inputs[0])):
            raise refuse_axis(call, mapped)
        if mapped.port.side == "out":
            require_elementwise(call.layer.activation, len(call.outputs[0]), mapped.axis)
        require_structure(mapped.map, Structure(blocks=getattr(call.layer, "groups", 1)))
        return []

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of filters."""
        axis = channel_axis(grown.layer, len(grown.outputs[0]))
        return {**config, "filters": grown.outputs[0][axis]}

    def kernels(
        self, layer: Any, entering: ChannelMap | None, made: ChannelMap | None
    ) -> list[Weight]:
        """Return the kernel."""
        group = entering.untile(layer.groups) if entering else None
        axes = {-2: divide_axis(group), -1: copy_axis(made)}
        return [weight(layer.kernel, layer.kernel_initializer, axes)]


class TransposedConvolutionRule(ConvolutionRule):
    """Kernel [*window, out, in]: copied over `out`, divided over `in`."""

    def kernels(
        self, layer: Any, entering: ChannelMap | None, made: ChannelMap | None
    ) -> list[Weight]:
        """Return the kernel."""
        axes = {-2: copy_axis(made), -1: divide_axis(entering)}
        return [weight(layer.kernel, layer.kernel_initializer, axes)]


class SeparableConvolutionRule(ConvolutionRule):
    """Depthwise [*window, in, m] is copied over `in`; pointwise [1.., in·m, out] divides it."""

    def kernels(
        self, layer: Any, entering: ChannelMap | None, made: ChannelMap | None
    ) -> list[Weight]:
        """Return both kernels."""
        between = entering.repeat(layer.depth_multiplier) if entering else None
        depthwise = {-2: copy_axis(entering)}
        pointwise = {-2: divide_axis(between), -1: copy_axis(made)}
        return [
            weight(layer.depthwise_kernel, layer.depthwise_initializer, depthwise),
            weight(layer.pointwise_kernel, layer.pointwise_initializer, pointwise),
        ]


class DepthwiseRule(_ChannelAxisRule):
    """Output channel c·m + r comes from input channel c: the map passes through, in runs of m.

    Its width is that of the layers that feed it: widening it widens them.
    """

    def width(self, layer: Any) -> int | None:
        """Return the number of output channels, known from the kernel [*window, in, m]."""
        return int(layer.kernel.shape[-2] * layer.kernel.shape[-1]) if layer.built else None

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the other side, widened to or narrowed from runs of m."""
        layer = call.layer
        if mapped.axis != channel_axis(layer, len(call.inputs[0])):
            raise refuse_axis(call, mapped)
        require_elementwise(layer.activation, len(call.outputs[0]), mapped.axis)
        if mapped.port.side == "in":
            other: ChannelMap | None = mapped.map.repeat(layer.depth_multiplier)
        else:
            other = mapped.map.unrepeat(layer.depth_multiplier)
        if other is None:
            raise StructureRequest(Structure(runs=layer.depth_multiplier))
        return [MappedAxis(mapped.port.opposite, mapped.axis, other)]

    def kernels(
        self,
        layer: Any,
        entering: ChannelMap | None,
        made: ChannelMap | None,  # noqa: ARG002
    ) -> list[Weight]:
        """Return the kernel."""
        return [weight(layer.kernel, layer.depthwise_initializer, {-2: copy_axis(entering)})]


for _layer in (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D):
    register_rule(_layer, ConvolutionRule())
for _layer in (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
):
    register_rule(_layer, TransposedConvolutionRule())
for _layer in (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D):
    register_rule(_layer, SeparableConvolutionRule())
for _layer in (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D):
    register_rule(_layer, DepthwiseRule())
