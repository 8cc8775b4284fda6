"""What a rule is: how one kind of layer passes channel maps along, and what they do to its weights.

A map stands on one axis of one tensor. A rule answers four questions about its layer:

1. `width` and `target`: how wide is the layer, and on which axis does that width stand?
2. `spread`: a map is on this axis of this tensor; which other axes must have one too?
3. `configure`: what does the layer's config become?
4. `weights`: which axes of which weights are copied, and which are shared out?
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
    """A tensor of a call: its k-th input, its k-th output, or a width inside the layer.

    Args:
        side: "in", "out", or "own" for a width that no tensor shows (attention heads).
        index: Which input or output.
    """

    side: Literal["in", "out", "own"]
    index: int = 0


@dataclass(frozen=True)
class MappedOutput:
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
class Target:
    """Where a layer's width stands.

    Args:
        port: The tensor.
        axis: The axis, counted from the front.
        blocks: How many times the width stands there, one block after another.
    """

    port: Port
    axis: int
    blocks: int = 1


@dataclass(frozen=True)
class CallView:
    """What a rule sees of a call while maps spread.

    Args:
        layer: The layer.
        inputs: Shapes of the tensors that go in, as large as they are by now.
        outputs: Shapes of the tensors that come out.
        own: The width inside the layer, where it has one.
        constants: Array arguments of the call that are no tensors of the graph.
        arguments: For each input, the name of the argument it is handed in as.
        known: The maps that are already on this call's tensors.
    """

    layer: Any
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    own: int | None = None
    constants: tuple[Any, ...] = ()
    arguments: tuple[str, ...] = ()
    known: Mapping[tuple[Port, int], ChannelMap] = field(default_factory=dict)

    def shape(self, port: Port) -> Shape:
        """Return the shape of one tensor."""
        return (self.inputs if port.side == "in" else self.outputs)[port.index]

    def ports(self) -> list[Port]:
        """Return every tensor, inputs first, masks left out: they have no channels."""
        inputs = [Port("in", k) for k in range(len(self.inputs)) if not self.is_mask(k)]
        return inputs + [Port("out", k) for k in range(len(self.outputs))]

    def is_mask(self, index: int) -> bool:
        """Return whether an input says which places count, instead of carrying channels."""
        named = self.arguments[index] if index < len(self.arguments) else ""
        return named == "mask" or named.endswith("_mask")


@dataclass(frozen=True)
class GrownLayer:
    """What a rule sees of a layer once all maps are known.

    Args:
        layer: The layer as it was.
        inputs: New shapes of the tensors that go in.
        outputs: New shapes of the tensors that come out.
        maps: The maps on its tensors.
        arguments: For each input, the name of the argument it is handed in as.
    """

    layer: Any
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    maps: Mapping[tuple[Port, int], ChannelMap]
    arguments: tuple[str, ...] = ()

    def input(self, axis: int, index: int = 0) -> ChannelMap | None:
        """Return the map on an axis of an input, None where it has none."""
        return self.maps.get((Port("in", index), axis % len(self.inputs[index])))

    def output(self, axis: int, index: int = 0) -> ChannelMap | None:
        """Return the map on an axis of an output, None where it has none."""
        return self.maps.get((Port("out", index), axis % len(self.outputs[index])))

    def own(self) -> ChannelMap | None:
        """Return the map of the width inside the layer, None where it has none."""
        return self.maps.get((Port("own"), 0))


@dataclass(frozen=True)
class CarriedWeight:
    """A map on an axis of a weight.

    Args:
        map: The map.
        shares: Whether the weight mixes these channels, so that it is multiplied by the shares.
    """

    map: ChannelMap
    shares: bool


@dataclass(frozen=True)
class Weight:
    """A weight and the maps on its axes; axes without a map stay as they are.

    Args:
        variable: The Keras variable.
        axes: The map on each axis that has one; axes may count from the end.
        initializer: What draws a fresh value for it, None where it has no initialiser.
    """

    variable: Any
    axes: dict[int, CarriedWeight]
    initializer: Any = None


def weight(variable: Any, initializer: Any = None, **axes: CarriedWeight | None) -> Weight:
    """Return a weight from axes that may have no map.

    Args:
        variable: The Keras variable.
        initializer: What draws a fresh value for it.
        **axes: `first`, `last` and `before_last`: the map on that axis, or None.

    Returns:
        The weight with the axes that do have one.
    """
    numbers = {"first": 0, "before_last": -2, "last": -1}
    return Weight(variable, {numbers[name]: one for name, one in axes.items() if one}, initializer)


def copied(one: ChannelMap | None) -> CarriedWeight | None:
    """Return the map for an axis whose channels are copied."""
    return CarriedWeight(one, shares=False) if one else None


def divided(one: ChannelMap | None) -> CarriedWeight | None:
    """Return the map for an axis over which the layer sums, so that copies share its value."""
    return CarriedWeight(one, shares=True) if one else None


def require_structure(one: ChannelMap, structure: Structure) -> None:
    """Refuse a map without the structure, in a way that lets the planner draw one with it."""
    if not one.satisfies(structure):
        raise StructureRequest(structure)


def refuse_axis(call: CallView, mapped: MappedOutput, way_out: str = "") -> RefusalError:
    """Return the refusal of a map that is not on a channel axis of this layer."""
    return RefusalError(
        f"{type(call.layer).__name__} treats axis {mapped.axis} as positions, and the channels "
        "to be copied lie on it",
        way_out or "Widen another layer, or let a Dense layer mix the channels before this one.",
    )


class Rule:
    """How one kind of layer grows. Subclass it, and hand an instance to `register_rule`.

    Attributes:
        waits: Whether maps on all inputs must be known before an output's can be (Concatenate).
        ties_calls: Whether all calls of one layer without weights must see the same maps.

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
        """Return the layer's own number of units, None where it has no width of its own."""
        return None

    def target(self, call: CallView) -> Target:
        """Return where the width stands."""
        return Target(Port("out"), len(call.outputs[0]) - 1)

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the maps that follow on other tensors of the call.

        Args:
            call: The call.
            mapped: The map that has arrived.

        Returns:
            What follows; nothing where the layer makes or mixes these channels itself.

        Raises:
            Obstacle: Where the map cannot pass.
            NeedsStructure: Where another map could.
        """
        raise NotImplementedError

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:  # noqa: ARG002
        """Return the config of the grown layer."""
        return config

    def weights(self, grown: GrownLayer) -> list[Weight]:  # noqa: ARG002
        """Return the weights that have maps on their axes."""
        return []

    def rebuild(self, layer: Any, config: dict[str, Any]) -> Any:
        """Return a new layer from a config."""
        return type(layer).from_config(config)
