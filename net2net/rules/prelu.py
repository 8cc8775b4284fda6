"""PReLU: an activation whose slopes are weights of the channels."""

from __future__ import annotations

from typing import Any

import keras

from net2net.rules.base import Grown, Weight, copied
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.registry import register_rule


class PReLURule(ElementwiseRule):
    """Copies the slopes along with their channels; axes with one shared slope stay."""

    def weights(self, grown: Grown) -> list[Weight]:
        """Return the slopes, whose axes are the input's without the batch's."""
        layer: Any = grown.layer
        fixed = layer.shared_axes or []
        free = range(1, len(grown.inputs[0]))
        maps = {axis - 1: copied(grown.input(axis)) for axis in free if axis not in fixed}
        axes = {axis: one for axis, one in maps.items() if one}
        return [Weight(layer.alpha, axes, layer.alpha_initializer)]


register_rule(keras.layers.PReLU, PReLURule())
