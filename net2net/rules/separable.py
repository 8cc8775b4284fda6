"""Separable convolutions: a depthwise kernel, then a pointwise one that mixes."""

from __future__ import annotations

import keras

from net2net.rules.base import Grown, Weight, copied, shared, weight
from net2net.rules.convolution import ConvolutionRule, channel_axis
from net2net.rules.registry import register_rule


class SeparableConvolutionRule(ConvolutionRule):
    """Depthwise [*window, in, m] is copied over `in`; pointwise [1.., in·m, out] shares it out."""

    def weights(self, grown: Grown) -> list[Weight]:
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
                before_last=shared(between),
                last=made,
            ),
        ]
        if layer.bias is not None:
            found.append(weight(layer.bias, layer.bias_initializer, first=made))
        return found


for _layer in (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D):
    register_rule(_layer, SeparableConvolutionRule())
