"""Plan the maps by which a layer gets wider, before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from net2net.channel_map import ChannelMap, Structure, draw_map
from net2net.errors import RefusalError, StructureRequest, UnsupportedLayerError
from net2net.graph import Graph, LayerCall, find_layer
from net2net.propagate import TensorAxis, WideningPlan, missing_rule, ports, propagate
from net2net.rules.base import MappedAxis, Port, Rule, WidthAxis
from net2net.rules.registry import rule_for
from net2net.weights import NewUnits

_LARGEST = 2**20


@dataclass(frozen=True)
class Target:
    """A width that can be asked for: a layer's own, or one that it has inside.

    Args:
        path: Path of the layer, with the inner width's name behind it.
        layer: The layer.
        inner: Name of the width inside the layer. Defaults to "", the layer's own width.
    """

    path: str
    layer: Any
    inner: str = ""


def find_target(model: Any, name: Any, graph: Graph) -> Target:
    """Return the width that is named by a layer, or by "layer/key_dim" and the like.

    Args:
        model: The model.
        name: What `find_layer` takes, or a layer's path with the name of a width inside it.
        graph: The model's graph.

    Raises:
        ValueError: If there is no such layer or width.
    """
    before, _, inner = name.rpartition("/") if isinstance(name, str) else ("", "", "")
    if before and name not in dict(graph.layers()):
        held = [
            (path, layer)
            for path, layer in graph.layers()
            if before in (path, path.rsplit("/", 1)[-1]) and inner_widths(layer)
        ]
        if held and inner not in inner_widths(held[0][1]):
            raise ValueError(
                f"Layer '{before}' has no width '{inner}' inside. It has "
                f"{', '.join(inner_widths(held[0][1]))}."
            )
        if held:
            path, layer = find_layer(model, before, graph)
            return Target(f"{path}/{inner}", layer, inner)
    return Target(*find_layer(model, name, graph))


def inner_widths(layer: Any) -> dict[str, int]:
    """Return the widths inside a layer that no tensor shows, by name."""
    rule = rule_for(layer)
    return rule.inner_widths(layer) if rule else {}


def plan_width(
    plan: WideningPlan,
    target: Target,
    units: int,
    generator: np.random.Generator,
    new: NewUnits = "net2net",
) -> None:
    """Add to a plan the maps that make one layer wider.

    Args:
        plan: The plan; unchanged if this fails.
        target: The layer, or a width in it.
        units: Its new width.
        generator: Source of the maps.
        new: Kind of the new units. Defaults to "net2net".

    Raises:
        UnsupportedLayerError: If the layer cannot grow, or not to this width.
        ValueError: If the width is not larger than the present one.
    """
    call, _, place = _find_width(plan, target)
    width = planned_width(plan, target)
    if isinstance(units, bool) or not isinstance(units, int | np.integer) or units <= width:
        raise ValueError(
            f"Layer '{target.path}' has {width} units and was to get {units!r}. Growth needs a "
            f"whole number above {width}; net2net cannot make a layer narrower."
        )
    old, wanted = width * place.blocks, int(units) * place.blocks

    def draw(structure: Structure) -> ChannelMap:
        step = _step(call, width, place, structure)
        if (wanted - old) % step:
            each = step // place.blocks
            raise UnsupportedLayerError(
                call.path,
                f"with {width} units it can only grow by multiples of {each}, because of the "
                f"groups or normalisations behind it, and {units} is not one",
                f"Ask for {width + each}, {width + 2 * each} and so on.",
            )
        one = draw_map(old, wanted, structure, generator)
        if new == "zero_out" and structure.equal:
            raise UnsupportedLayerError(
                call.path,
                "a normalisation over the channels stands behind it, which sees fresh units",
                'Use new="net2net", whose copies it does not see.',
            )
        if new == "zero_out":
            return replace(one, share=np.where(one.fresh, 0.0, 1.0))
        return replace(one, share=np.ones(one.new_size)) if new == "random" else one

    plan.add(_fit_structure(plan, call, place, draw)[1], target.path)


def smallest_step(plan: WideningPlan, target: Target) -> tuple[int, dict[TensorAxis, ChannelMap]]:
    """Return the number of units by which a layer can grow at a time, and the maps of one step.

    Args:
        plan: The plan, which stays unchanged.
        target: The layer, or a width in it.

    Raises:
        UnsupportedLayerError: If the layer cannot grow.
    """
    call, _, place = _find_width(plan, target)
    width = planned_width(plan, target)
    old = width * place.blocks

    def draw(structure: Structure) -> ChannelMap:
        step = _step(call, width, place, structure)
        return draw_map(old, old + step, structure, np.random.default_rng(0))

    one, maps = _fit_structure(plan, call, place, draw)
    return (one.new_size - old) // place.blocks, maps


def planned_width(plan: WideningPlan, target: Target) -> int:
    """Return a width as planned so far."""
    call, rule, place = _find_width(plan, target)
    if place.port.side == "internal":
        return plan.internal_width(target.layer, rule, place.axis) or 0
    return (plan.view_call(call).shape(place.port)[place.axis] or 0) // place.blocks


def width_location(plan: WideningPlan, target: Target) -> TensorAxis | None:
    """Return the tensor and axis that show a width, None where it has none."""
    rule = rule_for(target.layer)
    if rule is None or not rule.width(target.layer):
        return None
    call, _, place = _find_width(plan, target)
    return dict(ports(plan.graph, call))[place.port], place.axis


def has_width(plan: WideningPlan, target: Target, units: int) -> bool:
    """Return whether another layer's growth has brought this one to the width already."""
    return width_location(plan, target) in plan.maps and planned_width(plan, target) == units


def _find_width(plan: WideningPlan, target: Target) -> tuple[LayerCall, Rule, WidthAxis]:
    layer = target.layer
    call = plan.graph.calls_of(layer)[0]
    rule = rule_for(layer)
    if rule is None:
        raise UnsupportedLayerError(call.path, *missing_rule(call))
    if target.inner:
        place = 1 + list(rule.inner_widths(layer)).index(target.inner)
        return call, rule, WidthAxis(Port("internal"), place)
    if rule.width(layer) is None:
        raise UnsupportedLayerError(
            call.path,
            f"{type(layer).__name__} has no width of its own",
            "Widen the layer that makes its channels.",
        )
    try:
        return call, rule, rule.width_axis(plan.view_call(call))
    except RefusalError as refusal:
        raise UnsupportedLayerError(call.path, refusal.reason, refusal.hint) from None


def _fit_structure(
    plan: WideningPlan, call: LayerCall, place: WidthAxis, draw: Callable[[Structure], ChannelMap]
) -> tuple[ChannelMap, dict[TensorAxis, ChannelMap]]:
    """Draw maps of stricter and stricter structure until one passes all layers.

    Returns:
        The map that passes, and all maps that follow from it.
    """
    structure = Structure(blocks=place.blocks)
    while True:
        one = draw(structure)
        try:
            return one, propagate(plan, call, MappedAxis(place.port, place.axis, one))
        except StructureRequest as request:
            stricter = structure.combine(request.structure)
            if stricter == structure:
                # What asks may see a part of the channels only, such as one of two halves.
                stricter = structure.nest(request.structure)
        if stricter == structure or stricter.blocks * stricter.runs > _LARGEST:
            raise UnsupportedLayerError(
                call.path,
                "a layer behind it treats its channels in groups together with others",
                "Widen a layer after that one.",
            )
        structure = stricter


def _step(call: LayerCall, width: int, place: WidthAxis, structure: Structure) -> int:
    """Return by how many channels the layer's axis grows at a time."""
    step = structure.step(width * place.blocks)
    if step is None:
        raise UnsupportedLayerError(
            call.path,
            f"its {width} units cannot be divided into the {structure.blocks * structure.runs} "
            "groups that the layers behind it need",
            "Widen a layer after those.",
        )
    return step
