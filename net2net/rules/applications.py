"""The layers that `keras.applications` brings along for itself."""

from __future__ import annotations

from typing import Any

import keras

from net2net.rules.base import Grown, Weight, copied, weight
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.merging import MergingRule
from net2net.rules.registry import register_rule


class LayerScaleRule(ElementwiseRule):
    """ConvNeXt's LayerScale: one factor a channel, copied."""

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new number of channels."""
        return {**config, "projection_dim": grown.outputs[0][-1]}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return the factors."""
        layer = grown.layer
        start = keras.initializers.Constant(layer.init_values)
        return [weight(layer.gamma, start, first=copied(grown.input(-1)))]


# These classes have no public names, so they are named as Keras spells them.
register_rule("keras.src.applications.convnext.LayerScale", LayerScaleRule())
register_rule("keras.src.applications.convnext.StochasticDepth", ElementwiseRule())
# y = a + scale · b, a residual sum.
register_rule("keras.src.applications.inception_resnet_v2.CustomScaleLayer", MergingRule())
