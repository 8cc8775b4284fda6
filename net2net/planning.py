"""Plan by which maps a layer gets wider, before anything is built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from net2net.channel_map import ChannelMap, Structure, draw_map
from net2net.errors import StructureRequest, UnsupportedLayerError
from net2net.graph import LayerCall
from net2net.propagate import Key, WideningPlan, ports, propagate
from net2net.rules.base import MappedOutput, Rule, Target
from net2net.rules.registry import rule_for

NewUnits = Literal["net2net", "zero_out", "random"]
"""What new units are: copies, or fresh with zero outgoing weights, or fresh altogether."""


def plan_width(
    plan: WideningPlan,
    layer: Any,
    units: int,
    generator: np.random.Generator,
    new: NewUnits = "net2net",
) -> None:
    """Add to a plan the maps that make one layer wider.

    Args:
        plan: The plan; unchanged where this fails.
        layer: The layer.
        units: Its new width.
        generator: Source of the maps.
        new: What new units are.

    Raises:
        UnsupportedLayerError: Where the layer cannot grow, or not to this width.
        ValueError: Where the width is not larger than the present one.
    """
    call, _, target = _target(plan, layer)
    width = present_width(plan, layer)
    if isinstance(units, bool) or not isinstance(units, int | np.integer) or units <= width:
        raise ValueError(
            f"Layer '{call.path}' has {width} units and was to get {units!r}. Growth needs a whole "
            f"number above {width}; net2net cannot make a layer narrower."
        )
    structure = Structure(blocks=target.blocks)
    while True:
        one = _drawn(call, width, int(units), target, structure, generator)
        if new == "zero_out":
            if structure.equal:
                raise UnsupportedLayerError(
                    call.path,
                    "a normalisation over the channels stands behind it, which sees fresh units",
                    'Use new="net2net", whose copies it does not see.',
                )
            one = replace(one, share=np.where(one.fresh, 0.0, 1.0))
        elif new == "random":
            one = replace(one, share=np.ones(one.new_size))
        try:
            plan.add(propagate(plan, call, MappedOutput(target.port, target.axis, one)))
            return
        except StructureRequest as need:
            structure = _joined(call, structure, need.structure)


def smallest_step(plan: WideningPlan, layer: Any) -> tuple[int, dict[Key, ChannelMap]]:
    """Find by how many units at a time a layer can grow.

    Args:
        plan: The plan, which stays unchanged.
        layer: The layer.

    Returns:
        The step, and the maps of one step.

    Raises:
        UnsupportedLayerError: Where the layer cannot grow.
    """
    call, _, target = _target(plan, layer)
    width = present_width(plan, layer)
    structure = Structure(blocks=target.blocks)
    while True:
        total = structure.step(width * target.blocks)
        if total is None:
            raise _indivisible(call, width, structure)
        step = -(-total // target.blocks)
        generator = np.random.default_rng(0)
        one = _drawn(call, width, width + step, target, structure, generator)
        try:
            return step, propagate(plan, call, MappedOutput(target.port, target.axis, one))
        except StructureRequest as need:
            structure = _joined(call, structure, need.structure)


def present_width(plan: WideningPlan, layer: Any) -> int:
    """Return a layer's width as planned so far."""
    call, rule, target = _target(plan, layer)
    if target.port.side == "own":
        return plan.own_width(layer, rule) or 0
    return (plan.view(call).shape(target.port)[target.axis] or 0) // target.blocks


def place_of_width(plan: WideningPlan, layer: Any) -> Key | None:
    """Return the tensor and axis on which a layer's width stands, None where it has none."""
    rule = rule_for(layer)
    if rule is None or rule.width(layer) is None:
        return None
    call, _, target = _target(plan, layer)
    return dict(ports(plan.graph, call))[target.port], target.axis


def is_grown(plan: WideningPlan, layer: Any, units: int) -> bool:
    """Return whether another layer's growth has brought this one to the width already."""
    place = place_of_width(plan, layer)
    return place in plan.maps and present_width(plan, layer) == units


def _target(plan: WideningPlan, layer: Any) -> tuple[LayerCall, Rule, Target]:
    call = plan.graph.calls_of(layer)[0]
    rule, name = rule_for(layer), type(layer).__name__
    if rule is None:
        raise UnsupportedLayerError(
            call.path,
            f"there is no rule for {name}",
            f"Give it one with `net2net.register_rule({name}, rule)`.",
        )
    if rule.width(layer) is None:
        raise UnsupportedLayerError(
            call.path,
            f"{name} has no width of its own",
            "Widen the layer that makes its channels.",
        )
    return call, rule, rule.target(plan.view(call))


def _drawn(
    call: LayerCall,
    width: int,
    units: int,
    target: Target,
    structure: Structure,
    generator: np.random.Generator,
) -> ChannelMap:
    old, new = width * target.blocks, units * target.blocks
    step = structure.step(old)
    if step is None:
        raise _indivisible(call, width, structure)
    if (new - old) % step:
        each = -(-step // target.blocks)
        raise UnsupportedLayerError(
            call.path,
            f"with {width} units it can only grow by multiples of {each}, because of the groups "
            f"or normalisations behind it, and {units} is not one",
            f"Ask for {width + each}, {width + 2 * each} and so on.",
        )
    return draw_map(old, new, structure, generator)


def _joined(call: LayerCall, present: Structure, needed: Structure) -> Structure:
    joined = present.joined(needed)
    if joined == present:
        raise UnsupportedLayerError(
            call.path,
            "a layer behind it treats its channels in groups together with others",
            "Widen a layer after that one.",
        )
    return joined


def _indivisible(call: LayerCall, width: int, structure: Structure) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        call.path,
        f"its {width} units cannot be divided into the {structure.blocks * structure.runs} groups "
        "that the layers behind it need",
        "Widen a layer after those.",
    )
