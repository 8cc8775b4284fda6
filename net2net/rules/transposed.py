"""Transposed convolutions, whose kernel has its two channel axes the other way round."""

from __future__ import annotations

import keras

from net2net.rules.base import Grown, Weight, copied, shared, weight
from net2net.rules.convolution import ConvolutionRule, channel_axis
from net2net.rules.registry import register_rule


class TransposedConvolutionRule(ConvolutionRule):
    """Kernel [*window, out, in]: copied over `out`, shared out over `in`."""

    def weights(self, grown: Grown) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        axis = channel_axis(layer, len(grown.outputs[0]))
        made = copied(grown.output(axis))
        kernel = weight(
            layer.kernel,
            layer.kernel_initializer,
            before_last=made,
            last=shared(grown.input(axis)),
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
