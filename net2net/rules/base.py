"""`Rule`: how one kind of layer passes channel maps along, and what they do to its weights.

A map belongs to one axis of one tensor. A rule answers four questions about its layer:

1. `width` and `width_axis`: how wide is the layer, and which axis shows that width?
2. `propagate`: given a map on this axis of this tensor, which other axes need one too?
3. `configure`: what does the layer's config become?
4. `weights`: which axes of which weights are copied, and which are divided by shares?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from net2net.channel_map import ChannelMap, Structure
from net2net.errors import RefusalError, StructureRequest
from net2net.graph import Shape


@dataclass(frozen=True)
class Port:
    """A tensor of a call, or a width inside the layer.

    Args:
        side: "in", "out", or "internal" for widths that no tensor shows: on axis 0 the layer's own
            (attention heads), on the next ones those that `inner_widths` names.
        index: Number of the input or output. Defaults to 0.
    """

    side: Literal["in", "out", "internal"]
    index: int = 0

    @property
    def opposite(self) -> Port:
        """The first output for an input, the first input for an output."""
        return Port("out") if self.side == "in" else Port("in")


@dataclass(frozen=True)
class MappedAxis:
    """A channel map on an axis of a tensor of a call.

    Args:
        port: The tensor.
        axis: The axis, counted from the front; the batch's is 0.
        map: The map.
    """

    port: Port
    axis: int
    map: ChannelMap


@dataclass(frozen=True)
class WidthAxis:
    """The axis that shows a layer's width.

    Args:
        port: The tensor.
        axis: The axis, counted from the front.
        blocks: How many times the width stands there, one block after another. Defaults to 1.
    """

    port: Port
    axis: int
    blocks: int = 1


@dataclass(frozen=True)
class CallView:
    """A call as rules see it while maps propagate.

    Args:
        layer: The layer.
        inputs: Present shapes of the tensors that go in.
        outputs: Present shapes of the tensors that come out.
        constants: Array arguments of the call that are no tensors of the graph. Defaults to none.
        arguments: For each input, the name of the argument it is passed as. Defaults to none.
        known: The maps that are already on this call's tensors. Defaults to none.
        settings: The call's arguments that are no tensors, by name. Defaults to none.
        gets_shares: Whether the first input's channels come multiplied by their shares, which
            `Rule.needs_shares` asks for. Defaults to False.
    """

    layer: Any
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    constants: tuple[Any, ...] = ()
    arguments: tuple[str, ...] = ()
    known: Mapping[tuple[Port, int], ChannelMap] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    gets_shares: bool = False

    def shape(self, port: Port) -> Shape:
        """Return the shape of one tensor."""
        return (self.inputs if port.side == "in" else self.outputs)[port.index]

    def ports(self) -> list[Port]:
        """Return every tensor, inputs first, without masks, which have no channels."""
        inputs = [Port("in", k) for k in range(len(self.inputs)) if not self.is_mask(k)]
        return inputs + [Port("out", k) for k in range(len(self.outputs))]

    def is_mask(self, index: int) -> bool:
        """Return whether an input is a mask and has no channels."""
        name = self.arguments[index] if index < len(self.arguments) else ""
        return name == "mask" or name.endswith("_mask")


@dataclass(frozen=True)
class GrownLayer:
    """A layer as rules see it once all maps are known.

    Args:
        layer: The layer as it was.
        inputs: New shapes of the tensors that go in.
        outputs: New shapes of the tensors that come out.
        maps: The maps on its tensors.
        arguments: For each input, the name of the argument it is passed as. Defaults to none.
        gives_shares: Whether its outputs are to be multiplied by the shares of their channels.
            Defaults to False.
    """

    layer: Any
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    maps: Mapping[tuple[Port, int], ChannelMap]
    arguments: tuple[str, ...] = ()
    gives_shares: bool = False

    def input(self, axis: int, index: int = 0) -> ChannelMap | None:
        """Return the map on an axis of an input, None where it has none."""
        return self.maps.get((Port("in", index), axis % len(self.inputs[index])))

    def output(self, axis: int, index: int = 0) -> ChannelMap | None:
        """Return the map on an axis of an output, None where it has none."""
        return self.maps.get((Port("out", index), axis % len(self.outputs[index])))

    def internal(self, axis: int = 0) -> ChannelMap | None:
        """Return the map of a width inside the layer, None where it has none."""
        return self.maps.get((Port("internal"), axis))


@dataclass(frozen=True)
class WeightAxis:
    """A map on an axis of a weight.

    Args:
        map: The map.
        divided: Whether the layer sums over these channels, so that copies are multiplied by
            their shares.
        scale: Factor on all of the weight, where the layer divides by a function of the width.
            Defaults to 1.
    """

    map: ChannelMap
    divided: bool
    scale: float = 1.0


@dataclass(frozen=True)
class Weight:
    """A weight and the maps on its axes; axes without a map stay as they are.

    Args:
        variable: The Keras variable.
        axes: The map on each axis that has one; axes may count from the end.
        initializer: Source of fresh values. Defaults to None: it has no initializer.
    """

    variable: Any
    axes: dict[int, WeightAxis]
    initializer: Any = None


def weight(variable: Any, initializer: Any, axes: Mapping[int, WeightAxis | None]) -> Weight:
    """Return a `Weight` with those of the given axes that have a map."""
    return Weight(variable, {axis: one for axis, one in axes.items() if one}, initializer)


def bias_weight(layer: Any, made: ChannelMap | None) -> list[Weight]:
    """Return a layer's bias, copied along its only axis; nothing if the layer has none."""
    if layer.bias is None:
        return []
    return [weight(layer.bias, layer.bias_initializer, {0: copy_axis(made)})]


def copy_axis(one: ChannelMap | None) -> WeightAxis | None:
    """Return the map for an axis whose channels are copied."""
    return WeightAxis(one, divided=False) if one else None


def divide_axis(one: ChannelMap | None) -> WeightAxis | None:
    """Return the map for an axis that the layer sums over, so that copies share its value."""
    return WeightAxis(one, divided=True) if one else None


def divide_scaled_axis(one: ChannelMap | None, power: float) -> WeightAxis | None:
    """Return `divide_axis` with a factor: the growth of the width to a power."""
    scale = (one.new_size / one.old_size) ** power if one else 1.0
    return WeightAxis(one, divided=True, scale=scale) if one else None


def require_structure(one: ChannelMap, structure: Structure) -> None:
    """Request another map from the planner if this one lacks the structure."""
    if not one.satisfies(structure):
        raise StructureRequest(structure)


def refuse_axis(call: CallView, mapped: MappedAxis) -> RefusalError:
    """Return the refusal of a map that is not on a channel axis of this layer."""
    return RefusalError(
        f"{type(call.layer).__name__} treats axis {mapped.axis} as positions, and the channels "
        "to be copied lie on it",
        "Widen another layer, or let a Dense layer mix the channels before this one.",
    )


class Rule:
    """A rule by which one kind of layer grows: subclass it, pass an instance to `register_rule`.

    Attributes:
        waits: Whether maps on all inputs must be known before an output's can be (Concatenate).
        ties_calls: Whether all calls of one layer without weights must have the same maps.

    Example:
        >>> import keras, net2net
        >>> class Twice(keras.layers.Layer):
        ...     def call(self, inputs):
        ...         return 2 * inputs
        >>> net2net.register_rule(Twice, net2net.ElementwiseRule())
    """

    waits = False
    ties_calls = False

    def width(self, layer: Any) -> int | None:  # noqa: ARG002
        """Return the layer's own number of units, None where it has no width of its own.

        Args:
          layer: of the class that the rule is for.
        """
        return None

    def inner_widths(self, layer: Any) -> dict[str, int]:  # noqa: ARG002
        """Return further widths inside the layer that no tensor shows, by name; at most two.

        Args:
          layer: of the class that the rule is for.
        """
        return {}

    def width_axis(self, call: CallView) -> WidthAxis:
        """Return the axis that shows the width; by default the output's last.

        Args:
          call: of the layer.
        """
        return WidthAxis(Port("out"), len(call.outputs[0]) - 1)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the maps that follow on other tensors of the call.

        Args:
            call: The call.
            mapped: The map that has arrived.

        Returns:
            The maps that follow; none where the layer makes or mixes these channels itself.

        Raises:
            RefusalError: If the map cannot pass.
            StructureRequest: If a map of another structure could pass.
        """
        raise NotImplementedError

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:  # noqa: ARG002
        """Return the config of the grown layer.

        Args:
          config: of the layer as it is.
          grown: how its axes grow.
        """
        return config

    def weights(self, grown: GrownLayer) -> list[Weight]:  # noqa: ARG002
        """Return the weights that have maps on their axes.

        Args:
          grown: how the layer's axes grow.
        """
        return []

    def needs_shares(self, call: Any) -> bool:  # noqa: ARG002
        """Return whether a call sums over its input's channels with weights that are copied.

        Its input must then come multiplied by shares, from a layer that can give them.

        Args:
            call: The call, with `layer` and `settings`.
        """
        return False

    def can_give_shares(self, layer: Any) -> bool:  # noqa: ARG002
        """Return whether a layer's last weights can multiply its outputs by shares.

        Args:
          layer: of the class that the rule is for.
        """
        return False

    def tied(self, mapped: MappedAxis, call: CallView, other: CallView) -> MappedAxis:  # noqa: ARG002
        """Return the map on another call of the same layer, which has the same weights.

        Args:
          mapped: the map on `call`.
          call: of the layer.
          other: the other call.
        """
        return mapped

    def rebuild(self, layer: Any, config: dict[str, Any]) -> Any:
        """Return a new layer from a config.

        Args:
          layer: as it was.
          config: of the new one.
        """
        return type(layer).from_config(config)
