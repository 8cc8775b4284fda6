"""Follow one channel map through a graph to every axis that must have one too."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from net2net.channel_map import ChannelMap
from net2net.errors import RefusalError, UnsupportedLayerError
from net2net.graph import Graph, LayerCall, Shape
from net2net.rules.base import CallView, MappedOutput, Port, Rule
from net2net.rules.registry import rule_for

Key = tuple[int, int]
"""A tensor's number and an axis of it."""


@dataclass
class WideningPlan:
    """The maps that a model will be grown by, and the shapes its tensors then have.

    Args:
        graph: The model as it is.
        maps: The maps so far.
    """

    graph: Graph
    maps: dict[Key, ChannelMap] = field(default_factory=dict)

    def shape(self, tensor: int) -> Shape:
        """Return a tensor's shape as it will be."""
        return tuple(
            self.maps[tensor, axis].new_size if (tensor, axis) in self.maps else size
            for axis, size in enumerate(self.graph.shapes[tensor])
        )

    def own_width(self, layer: Any, rule: Rule) -> int | None:
        """Return the width inside a layer as it will be."""
        one = self.maps.get((self.graph.own_tensor(layer), 0))
        return one.new_size if one else rule.width(layer)

    def add(self, maps: dict[Key, ChannelMap]) -> None:
        """Let more maps follow those that are there."""
        for key, one in maps.items():
            self.maps[key] = self.maps[key].then(one) if key in self.maps else one

    def view(self, call: LayerCall, maps: dict[Key, ChannelMap] | None = None) -> CallView:
        """Return what a rule sees of a call, with the given maps on its tensors."""
        rule = rule_for(call.layer)
        return CallView(
            layer=call.layer,
            inputs=tuple(self.shape(tensor) for tensor in call.inputs),
            outputs=tuple(self.shape(tensor) for tensor in call.outputs),
            own=self.own_width(call.layer, rule) if rule else None,
            constants=call.constants,
            arguments=call.arguments,
            known=map_of(self.graph, call, maps or {}),
        )


def map_of(
    graph: Graph, call: LayerCall, maps: dict[Key, ChannelMap]
) -> dict[tuple[Port, int], ChannelMap]:
    """Return the maps on one call's tensors, by port."""
    found = {}
    for port, tensor in ports(graph, call):
        rank = 1 if tensor < 0 else len(graph.shapes[tensor])
        for axis in range(rank):
            if (tensor, axis) in maps:
                found[port, axis] = maps[tensor, axis]
    return found


def ports(graph: Graph, call: LayerCall) -> list[tuple[Port, int]]:
    """Return every port of a call with the number of its tensor."""
    inputs = [(Port("in", k), tensor) for k, tensor in enumerate(call.inputs)]
    outputs = [(Port("out", k), tensor) for k, tensor in enumerate(call.outputs)]
    return [*inputs, *outputs, (Port("own"), graph.own_tensor(call.layer))]


def propagate(plan: WideningPlan, call: LayerCall, start: MappedOutput) -> dict[Key, ChannelMap]:
    """Find every axis that must be mapped once one is.

    Args:
        plan: The graph, and the maps that come before this one.
        call: The call at which the map starts.
        start: The map.

    Returns:
        The map on every axis that needs one.

    Raises:
        UnsupportedLayerError: Where it meets an obstacle.
        NeedsStructure: Where a map of another structure could pass.
    """
    return _Propagation(plan, call.path).run(call, start)


class _Propagation:
    def __init__(self, plan: WideningPlan, asked: str) -> None:
        self.plan = plan
        self.graph = plan.graph
        self.asked = asked
        self.found: dict[Key, ChannelMap] = {}
        self.queue: deque[tuple[Key, ChannelMap, str]] = deque()
        self.waiting: dict[int, LayerCall] = {}

    def run(self, call: LayerCall, start: MappedOutput) -> dict[Key, ChannelMap]:
        self._push(call, start)
        while self.queue or self.waiting:
            if self.queue:
                self._arrive(*self.queue.popleft())
                continue
            # Of the layers that wait for all their inputs, the first in the graph has them all.
            late = self.waiting.pop(min(self.waiting))
            for (port, axis), one in map_of(self.graph, late, self.found).items():
                self._follow(late, MappedOutput(port, axis, one))
        return self.found

    def _push(self, call: LayerCall, mapped: MappedOutput) -> None:
        tensor = dict(ports(self.graph, call))[mapped.port]
        self.queue.append(((tensor, mapped.axis), mapped.map, call.path))

    def _arrive(self, key: Key, one: ChannelMap, path: str) -> None:
        tensor, axis = key
        if key in self.found:
            if not self.found[key].same_as(one):
                raise self._refusal(
                    path,
                    "two ways through the model need different maps here",
                    "Widen a layer on another branch.",
                )
            return
        self._refuse_border(tensor, path)
        self.found[key] = one
        for call in self.graph.calls_touching(tensor) if tensor >= 0 else []:
            for port, number in ports(self.graph, call):
                if number == tensor:
                    self._visit(call, MappedOutput(port, axis, one))

    def _visit(self, call: LayerCall, mapped: MappedOutput) -> None:
        rule = rule_for(call.layer)
        if rule is not None and rule.waits:
            self.waiting[call.index] = call
        else:
            self._follow(call, mapped)

    def _follow(self, call: LayerCall, mapped: MappedOutput) -> None:
        rule = rule_for(call.layer)
        name = type(call.layer).__name__
        if rule is None:
            raise self._refusal(
                call.path,
                f"there is no rule for {name}",
                f"Give it one with `net2net.register_rule({name}, rule)`.",
            )
        view = self.plan.view(call, self.found)
        if mapped.port.side == "in" and view.is_mask(mapped.port.index):
            raise self._refusal(
                call.path,
                "the channels to be copied are its mask",
                "Widen a layer that is mixed by another before a mask is made of it.",
            )
        try:
            for following in rule.spread(view, mapped):
                self._push(call, following)
        except RefusalError as obstacle:
            raise self._refusal(call.path, obstacle.obstacle, obstacle.way_out) from None
        if rule.ties_calls or getattr(call.layer, "weights", None):
            self._tie(call, mapped)

    def _tie(self, call: LayerCall, mapped: MappedOutput) -> None:
        """Put the same map on all other calls of a shared layer: it has one set of weights."""
        for other in self.graph.calls_of(call.layer):
            if other is call:
                continue
            tensors = dict(ports(self.graph, other))
            before = dict(ports(self.graph, call))[mapped.port]
            same = mapped.port in tensors and (
                len(self.graph.shapes[tensors[mapped.port]]) == len(self.graph.shapes[before])
            )
            if not same:
                raise self._refusal(
                    call.path,
                    "it is shared, and called with inputs of different kinds",
                    "Use one layer for each kind.",
                )
            self._push(other, mapped)

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

    def _refusal(self, path: str, obstacle: str, way_out: str) -> UnsupportedLayerError:
        where = "" if path == self.asked else f"at '{path}', "
        return UnsupportedLayerError(self.asked, where + obstacle, way_out)
