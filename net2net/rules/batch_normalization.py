"""BatchNormalization: one scale, offset, mean and variance a channel."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from net2net.mapping import Structure
from net2net.rules.base import CallView, Grown, Mapped, Weight, copied, demand, weight
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.registry import register_rule


class BatchNormalizationRule(ElementwiseRule):
    """Copies all four: exact with moving statistics and with the batch's, which are copies too."""

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Pass the map through; over other axes the statistics need equally many copies."""
        if mapped.axis != call.layer.axis % len(call.inputs[0]):
            demand(mapped.map, Structure(equal=True))
        return super().spread(call, mapped)

    def weights(self, grown: Grown) -> list[Weight]:
        """Return scale and offset, where there are, and both moving statistics."""
        layer = grown.layer
        one = copied(grown.input(layer.axis))
        found = [
            weight(layer.moving_mean, layer.moving_mean_initializer, first=one),
            weight(layer.moving_variance, layer.moving_variance_initializer, first=one),
        ]
        if layer.scale:
            found.append(weight(layer.gamma, layer.gamma_initializer, first=one))
        if layer.center:
            found.append(weight(layer.beta, layer.beta_initializer, first=one))
        return found


register_rule(keras.layers.BatchNormalization, BatchNormalizationRule())
