"""Normalizations: of batches, of layers (LayerNormalization, RMSNormalization), of groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.channel_map import Structure
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedAxis,
    Weight,
    WeightAxis,
    copy_axis,
    divide_axis,
    require_structure,
    weight,
)
from net2net.rules.elementwise import ElementwiseRule, axes_of
from net2net.rules.registry import register_rule


def _scale_and_offset(layer: Any, one: WeightAxis | None) -> list[Weight]:
    found = []
    if layer.scale:
        found.append(weight(layer.gamma, layer.gamma_initializer, {0: one}))
    if layer.center:
        found.append(weight(layer.beta, layer.beta_initializer, {0: one}))
    return found


class BatchNormalizationRule(ElementwiseRule):
    """Copies all four vectors: exact with moving statistics and with the batch's, copies too."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Pass the map through; over other axes the statistics need equally many copies."""
        if mapped.axis != call.layer.axis % len(call.inputs[0]):
            require_structure(mapped.map, Structure(equal=True))
        return super().propagate(call, mapped)

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return both moving statistics, and scale and offset if there are any."""
        layer, one = grown.layer, copy_axis(grown.input(grown.layer.axis))
        return [
            weight(layer.moving_mean, layer.moving_mean_initializer, {0: one}),
            weight(layer.moving_variance, layer.moving_variance_initializer, {0: one}),
            *_scale_and_offset(layer, one),
        ]


class LayerNormalizationRule(ElementwiseRule):
    """Exact where every channel has equally many copies: the moments then stay as they are.

    Optimizer slots before it are exact only for equal shares; with Dirichlet shares the slots of
    one channel's copies add up to the old one, but not each by its own share.
    """

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Pass the map through, asking for equally many copies on a normalised axis."""
        if mapped.axis in axes_of(call.layer.axis, len(call.inputs[0])):
            require_structure(mapped.map, Structure(equal=True))
        return super().propagate(call, mapped)

    def can_give_shares(self, layer: Any) -> bool:
        """Return whether it has a scale."""
        return isinstance(getattr(layer, "gamma", getattr(layer, "scale", None)), keras.Variable)

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return scale and offset, whose axes are the normalised ones."""
        layer, found = grown.layer, []
        mark = divide_axis if grown.gives_shares else copy_axis
        normalised = axes_of(layer.axis, len(grown.inputs[0]))
        axes = {place: mark(grown.input(axis)) for place, axis in enumerate(normalised)}
        for name in ("gamma", "beta", "scale"):
            variable = getattr(layer, name, None)
            if isinstance(variable, keras.Variable):  # LayerNormalization's `scale` is a flag
                initializer = getattr(layer, f"{name}_initializer", keras.initializers.Ones())
                found.append(weight(variable, initializer, axes))
        return found


class GroupNormalizationRule(ElementwiseRule):
    """Exact where whole groups are copied and there are as many more groups.

    Appending single channels at a fixed number of groups would move the groups' borders. With as
    many groups as channels (instance normalisation) every channel is a whole group.
    """

    ties_calls = True

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Pass a map of whole groups through, ask for one otherwise."""
        layer = call.layer
        if mapped.axis != layer.axis % len(call.inputs[0]):
            require_structure(mapped.map, Structure(equal=True))
        else:
            per_group = layer.input_spec.axes[layer.axis] // layer.groups
            require_structure(mapped.map, Structure(runs=per_group))
        return super().propagate(call, mapped)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with as many more groups."""
        one = grown.input(grown.layer.axis)
        if one is None:
            return config
        per_group = one.old_size // grown.layer.groups
        return {**config, "groups": one.new_size // per_group}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return scale and offset."""
        return _scale_and_offset(grown.layer, copy_axis(grown.input(grown.layer.axis)))


register_rule(keras.layers.BatchNormalization, BatchNormalizationRule())
register_rule(keras.layers.LayerNormalization, LayerNormalizationRule())
register_rule(keras.layers.RMSNormalization, LayerNormalizationRule())
register_rule(keras.layers.GroupNormalization, GroupNormalizationRule())
