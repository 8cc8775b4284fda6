"""Follow one channel map through a graph to every axis that must have one too."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import keras

from net2net.channel_map import ChannelMap
from net2net.errors import RefusalError, UnsupportedLayerError
from net2net.graph import Graph, LayerCall, Shape
from net2net.rules.base import CallView, GrownLayer, MappedAxis, Port, Rule, Weight
from net2net.rules.registry import rule_for

TensorAxis = tuple[int, int]
"""A tensor's number and an axis of it."""
_INTERNAL_AXES = 3
"""The widths inside a layer: its own, and those that `Rule.inner_widths` names."""
_MASK = (
    "the channels to be copied are its mask",
    "Widen a layer that is mixed by another before a mask is made of it.",
)


@dataclass
class WideningPlan:
    """The maps that a model will be grown by, and the shapes its tensors then have.

    Args:
        graph: The model as it is.
        maps: The maps so far. Defaults to none.
        causes: The layers that were asked to grow, by the axes that have a map for it.
    """

    graph: Graph
    maps: dict[TensorAxis, ChannelMap] = field(default_factory=dict)
    causes: dict[TensorAxis, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        givers = {
            call.index: _share_giver(self.graph, call)
            for call in self.graph.calls
            if (rule_for(call.layer) or Rule()).needs_shares(call)
        }
        self._givers = {index: giver for index, giver in givers.items() if giver is not None}

    def shape(self, tensor: int) -> Shape:
        """Return a tensor's planned shape."""
        return tuple(
            self.maps[tensor, axis].new_size if (tensor, axis) in self.maps else size
            for axis, size in enumerate(self.graph.shapes[tensor])
        )

    def internal_width(self, layer: Any, rule: Rule, axis: int = 0) -> int | None:
        """Return a planned width inside a layer."""
        one = self.maps.get((self.graph.internal_tensor(layer), axis))
        if one:
            return one.new_size
        return rule.width(layer) if not axis else [*rule.inner_widths(layer).values()][axis - 1]

    def add(self, maps: dict[TensorAxis, ChannelMap], cause: str) -> None:
        """Apply more maps after those that are there, because of a layer that was to grow."""
        for key, one in maps.items():
            self.causes.setdefault(key, []).append(cause)
            self.maps[key] = self.maps[key].then(one) if key in self.maps else one

    def view_call(
        self, call: LayerCall, maps: dict[TensorAxis, ChannelMap] | None = None
    ) -> CallView:
        """Return a call as rules see it, with the given maps on its tensors."""
        return CallView(
            layer=call.layer,
            inputs=tuple(self.shape(tensor) for tensor in call.inputs),
            outputs=tuple(self.shape(tensor) for tensor in call.outputs),
            constants=call.constants,
            arguments=call.arguments,
            known=maps_of_call(self.graph, call, maps or {}),
            settings=call.settings,
            gets_shares=call.index in self._givers,
        )

    def grown_layer(self, layer: Any) -> GrownLayer:
        """Return a layer as rules see it once all maps are known."""
        calls = self.graph.calls_of(layer)
        if not calls:
            return GrownLayer(layer, (), (), {})
        return GrownLayer(
            layer=layer,
            inputs=tuple(self.shape(tensor) for tensor in calls[0].inputs),
            outputs=tuple(self.shape(tensor) for tensor in calls[0].outputs),
            maps=maps_of_call(self.graph, calls[0], self.maps),
            arguments=calls[0].arguments,
            gives_shares=any(one is layer for one in self._givers.values()),
        )

    def weights(self, layer: Any) -> list[Weight]:
        """Return the weights of a layer, and of the layers inside, that have maps."""
        found: list[Weight] = []
        for part in self.graph.parts_of(layer):
            rule, grown = rule_for(part), self.grown_layer(part)
            found += rule.weights(grown) if rule is not None and grown.maps else []
        return found

    def touches(self, layer: Any) -> bool:
        """Return whether a layer, or one inside, has a map."""
        return any(self.grown_layer(part).maps for part in self.graph.parts_of(layer))


def _share_giver(graph: Graph, call: LayerCall) -> Any:
    """Return the layer that can multiply a call's input by shares, for that call alone."""
    while True:
        tensor = call.inputs[0]
        touching = graph.calls_touching(tensor)
        before = [one for one in touching if tensor in one.outputs]
        if len(touching) != 2 or not before or tensor in graph.outputs:
            return None
        call = before[0]
        rule = rule_for(call.layer)
        if len(graph.calls_of(call.layer)) == 1 and rule and rule.can_give_shares(call.layer):
            return call.layer
        if not isinstance(call.layer, keras.layers.Dropout | keras.layers.Identity):
            return None


def maps_of_call(
    graph: Graph, call: LayerCall, maps: dict[TensorAxis, ChannelMap]
) -> dict[tuple[Port, int], ChannelMap]:
    """Return the maps on one call's tensors, by port and axis."""
    found = {}
    for port, tensor in ports(graph, call):
        rank = _INTERNAL_AXES if tensor < 0 else len(graph.shapes[tensor])
        for axis in range(rank):
            if (tensor, axis) in maps:
                found[port, axis] = maps[tensor, axis]
    return found


def ports(graph: Graph, call: LayerCall) -> list[tuple[Port, int]]:
    """Return every port of a call with the number of its tensor."""
    inputs = [(Port("in", k), tensor) for k, tensor in enumerate(call.inputs)]
    outputs = [(Port("out", k), tensor) for k, tensor in enumerate(call.outputs)]
    return [*inputs, *outputs, (Port("internal"), graph.internal_tensor(call.layer))]


def missing_rule(call: LayerCall) -> tuple[str, str]:
    """Return reason and hint for a layer without a rule."""
    name, layer = type(call.layer).__name__, call.layer
    hint = f"Give it one with `net2net.register_rule({name}, rule)`"
    own = not type(layer).__module__.startswith("keras.")
    if own and len(getattr(layer, "_flatten_layers", lambda: ())()) > 1:
        hint += f"; or, as it is made of layers, call `net2net.register_composite({name})`"
    return f"there is no rule for {name}", f"{hint}."


def propagate(
    plan: WideningPlan, call: LayerCall, start: MappedAxis
) -> dict[TensorAxis, ChannelMap]:
    """Return the map on every axis that must be mapped once one is.

    Args:
        plan: The graph, and the maps that come before this one.
        call: The call at which the map starts.
        start: The map.

    Raises:
        UnsupportedLayerError: If a layer refuses the map.
        StructureRequest: If a map of another structure could pass.
    """
    return _Propagation(plan, call.path).run(call, start)


class _Propagation:
    def __init__(self, plan: WideningPlan, origin: str) -> None:
        self.plan = plan
        self.graph = plan.graph
        self.origin = origin
        self.found: dict[TensorAxis, ChannelMap] = {}
        self.queue: deque[tuple[TensorAxis, ChannelMap, str]] = deque()
        self.waiting: dict[int, LayerCall] = {}

    def run(self, call: LayerCall, start: MappedAxis) -> dict[TensorAxis, ChannelMap]:
        self._push(call, start)
        while self.queue or self.waiting:
            if self.queue:
                self._set_map(*self.queue.popleft())
                continue
            # Of the layers that wait for all their inputs, the first in the graph has them all.
            call = self.waiting.pop(min(self.waiting))
            for (port, axis), one in maps_of_call(self.graph, call, self.found).items():
                self._apply_rule(call, MappedAxis(port, axis, one))
        return self.found

    def _push(self, call: LayerCall, mapped: MappedAxis) -> None:
        tensor = dict(ports(self.graph, call))[mapped.port]
        self.queue.append(((tensor, mapped.axis), mapped.map, call.path))

    def _set_map(self, key: TensorAxis, one: ChannelMap, path: str) -> None:
        """Record the map on an axis and visit every call that the tensor touches."""
        tensor, axis = key
        if key in self.found:
            if not self.found[key].equals(one):
                raise self._refusal(
                    path,
                    "two ways through the model need different maps here",
                    "Widen a layer on another branch.",
                )
            return
        self._refuse_border(tensor, path)
        if tensor in self.graph.masks:
            raise self._refusal(path, *_MASK)
        self.found[key] = one
        if tensor < 0:
            for call in self.graph.calls_of(self.graph.calls[-1 - tensor].layer):
                self._apply_rule(call, MappedAxis(Port("internal"), axis, one))
            return
        for call in self.graph.calls_touching(tensor):
            for port, number in ports(self.graph, call):
                if number == tensor:
                    self._visit(call, MappedAxis(port, axis, one))

    def _visit(self, call: LayerCall, mapped: MappedAxis) -> None:
        rule = rule_for(call.layer)
        if rule is not None and rule.waits:
            self.waiting[call.index] = call
        else:
            self._apply_rule(call, mapped)

    def _apply_rule(self, call: LayerCall, mapped: MappedAxis) -> None:
        rule = rule_for(call.layer)
        if rule is None:
            raise self._refusal(call.path, *missing_rule(call))
        view = self.plan.view_call(call, self.found)
        for variable in getattr(call.layer, "weights", ()):
            if id(variable) in self.graph.borrowed:
                raise self._refusal(
                    call.path,
                    f"'{self.graph.borrowed[id(variable)]}' takes its '{variable.name}' as an "
                    "argument, and would take it grown",
                    "Use a layer that is called both ways, such as "
                    "`keras.layers.ReversibleEmbedding`.",
                )
        if mapped.port.side == "in" and view.is_mask(mapped.port.index):
            raise self._refusal(call.path, *_MASK)
        try:
            for following in rule.propagate(view, mapped):
                self._push(call, following)
        except RefusalError as refusal:
            raise self._refusal(call.path, refusal.reason, refusal.hint) from None
        if rule.ties_calls or getattr(call.layer, "weights", None):
            self._tie_calls(call, mapped)

    def _tie_calls(self, call: LayerCall, mapped: MappedAxis) -> None:
        """Put the same map on all other calls of a shared layer: it has one set of weights."""
        for other in self.graph.calls_of(call.layer):
            if other is call:
                continue
            rule = rule_for(call.layer) or Rule()
            there = rule.tied(mapped, self.plan.view_call(call), self.plan.view_call(other))
            tensors = dict(ports(self.graph, other))
            here = dict(ports(self.graph, call))[mapped.port]
            same = there.port in tensors and (
                len(self.graph.shapes[tensors[there.port]]) == len(self.graph.shapes[here])
            )
            if not same:
                raise self._refusal(
                    call.path,
                    "it is shared, and called with inputs of different kinds",
                    "Use one layer for each kind.",
                )
            self._push(other, there)

    def _refuse_border(self, tensor: int, path: str) -> None:
        if tensor in self.graph.inputs:
            raise self._refusal(
                path,
                f"its channels are those of the model's input '{self.graph.inputs[tensor]}'",
                "Widen a layer after one that mixes channels, such as Dense or Conv2D.",
            )
        if tensor in self.graph.outputs:
            raise self._refusal(
                path,
                f"its channels are those of the model's output '{self.graph.outputs[tensor]}'",
                "Widen a layer before the last one that mixes channels, such as Dense or Conv2D.",
            )

    def _refusal(self, path: str, reason: str, hint: str) -> UnsupportedLayerError:
        where = "" if path == self.origin else f"at '{path}', "
        return UnsupportedLayerError(self.origin, where + reason, hint)
