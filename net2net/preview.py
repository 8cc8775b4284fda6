"""Costs and changes of a growth before anything is built: `plan`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from net2net.build import has_penalty, optimizer_like
from net2net.deepening import insertion_point
from net2net.graph import LayerCall, Shape, find_layer
from net2net.optimizer_state import slot_kinds
from net2net.planning import Target, width_location
from net2net.propagate import WideningPlan
from net2net.rules.base import Weight
from net2net.rules.registry import rule_for
from net2net.widening import plan_widths


@dataclass(frozen=True)
class PlannedLayer:
    """One layer that a growth changes.

    Args:
        path: Its path in the model.
        width: Its width before and after; None where it has no width of its own.
        why: "asked for", "grows with x" (their channels meet), "reads x" or "new after x".
        parameters: Parameters before and after.
        multiply_adds: Multiply-adds for one example before and after.
    """

    path: str
    width: tuple[int, int] | None
    why: str
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]


@dataclass(frozen=True)
class GrowthPlan:
    """Changes and costs of a growth; prints as a table.

    Args:
        layers: The layers that change, in the order of computation.
        parameters: The model's parameters before and after.
        multiply_adds: Multiply-adds of its kernels for one example before and after. An axis of
            any length counts as one place.
        optimizer_bytes: Memory of the optimizer's slots before and after; zeros where the model
            is not compiled.
        inexact: What cannot be kept exactly, one sentence each.
    """

    layers: tuple[PlannedLayer, ...]
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    optimizer_bytes: tuple[int, int]
    inexact: tuple[str, ...]

    def __str__(self) -> str:
        header = ("layer", "width", "why", "parameters", "multiply-adds")
        rows = [
            (
                one.path,
                "" if one.width is None else _change(one.width),
                one.why,
                _change(one.parameters),
                _change(one.multiply_adds),
            )
            for one in self.layers
        ]
        total = _change(self.parameters), _change(self.multiply_adds)
        rows.append(("the whole model", "", "", *total))
        sizes = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
        lines = [
            "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip()
            for row in [header, *rows]
        ]
        lines.insert(1, "  ".join("-" * size for size in sizes))
        if any(self.optimizer_bytes):
            lines.append(f"optimizer's slots: {_change(self.optimizer_bytes)} bytes")
        return "\n".join([*lines, *(f"not exact: {one}" for one in self.inexact)])


def plan(
    model: Any,
    widths: Mapping[str, int] | Iterable[tuple[Any, int]] = (),
    deepen: Iterable[Any] = (),
    *,
    seed: int = 0,
) -> GrowthPlan:
    """Return what `grow` would change, without building anything.

    Args:
        model: A built Sequential or Functional model.
        widths: New widths, as in `grow`. Defaults to none.
        deepen: Layers to put a block after, as in `grow`. Defaults to none.
        seed: Seed of the choices, as in `grow`. Defaults to 0.

    Returns:
        The layers that change and why, with costs before and after; `print` shows a table.

    Raises:
        UnsupportedLayerError: If a layer cannot grow.
        ValueError: If there is no such layer, or a width is not larger than the present one.

    Example:
        >>> import keras, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> print(net2net.plan(model, {"a": 6}))
        layer            width   why        parameters  multiply-adds
        ---------------  ------  ---------  ----------  -------------
        a                4 -> 6  asked for  16 -> 24    12 -> 18
        b                2       reads a    10 -> 14    8 -> 12
        the whole model                     26 -> 38    20 -> 30
    """
    names = list(deepen)
    generator = np.random.default_rng(seed)
    maps, asked = plan_widths(model, widths, "net2net", 0.0, generator)
    costs = {path: _Cost(maps, layer) for path, layer in maps.graph.layers()}
    points = []
    for name in names:
        path, layer = find_layer(model, name, maps.graph)
        points.append((path, insertion_point(maps.graph, path, layer)))
    rows = []
    for path, one in costs.items():
        if one.changes:
            rows.append(
                PlannedLayer(
                    path, one.width, _reason(maps, path, one.layer, asked), one.size, one.work
                )
            )
        for other, point in points:
            if point.after.path == path:
                rows.append(_planned_block(maps, other, point))
    new = [row for row in rows if row.why.startswith("new after")]

    added = _total(row.parameters for row in new)
    return GrowthPlan(
        tuple(rows),
        _grown_total(model.count_params(), [one.size for one in costs.values()], added),
        _add(
            _total(one.work for one in costs.values()),
            _total(row.multiply_adds for row in new),
        ),
        _optimizer_bytes(model, [one.trained for one in costs.values()], added),
        tuple(_inexact(model, maps, costs)),
    )


class _Cost:
    """Parameters and multiply-adds of a layer before and after, from its weights' shapes alone."""

    def __init__(self, maps: WideningPlan, layer: Any) -> None:
        self.layer = layer
        rule, grown = rule_for(layer), maps.grown_layer(layer)
        self.weights: list[Weight] = rule.weights(grown) if rule and grown.maps else []
        known = {id(one.variable): one for one in self.weights}
        self.size, self.trained, self.work = (0, 0), (0, 0), (0, 0)
        calls = maps.graph.calls_of(layer)
        for variable in getattr(layer, "weights", ()):
            before = tuple(variable.shape)
            after = _grown_shape(before, known.get(id(variable)))
            pair = math.prod(before), math.prod(after)
            self.size = _add(self.size, pair)
            self.trained = _add(self.trained, pair) if variable.trainable else self.trained
            for call in calls if len(before) > 1 else ():
                if hasattr(layer, "input_dim") and not call.settings.get("reverse"):
                    continue  # an embedding looks up, and multiplies nothing
                # Widening changes channels, never places.
                places = _places(maps.graph.shapes, call)
                one, other = math.prod(before) * places, math.prod(after) * places
                self.work = _add(self.work, (one, other))
        old = rule.width(layer) if rule else None
        self.width = (old, _width_after(maps, Target("", layer), old)) if old else None
        self.changes = bool(grown.maps) and (
            any(one.axes for one in self.weights)
            or (self.width is not None and self.width[0] != self.width[1])
        )


def _grown_shape(shape: tuple[int, ...], one: Weight | None) -> tuple[int, ...]:
    new = list(shape)
    for axis, mapped in (one.axes if one else {}).items():
        new[axis] = mapped.map.new_size
    return tuple(new)


def _width_after(maps: WideningPlan, target: Target, old: int) -> int:
    place = width_location(maps, target)
    one = maps.maps.get(place) if place else None
    # Where the axis holds the width several times, all of it grows alike.
    return old * one.new_size // one.old_size if one else old


def _places(shapes: Sequence[Shape], call: LayerCall) -> int:
    """Return how often a call applies its kernels to one example."""
    layer = call.layer
    taken = layer if not hasattr(layer, "layer") else layer.layer
    side = call.inputs if hasattr(taken, "cell") or "Transpose" in type(taken).__name__ else ()
    shape = [one or 1 for one in shapes[(side or call.outputs)[0]][1:]]
    if hasattr(taken, "cell"):
        return shape[0]
    first = getattr(taken, "data_format", None) == "channels_first"
    return math.prod(shape[1:] if first else shape[:-1])


def _reason(maps: WideningPlan, path: str, layer: Any, asked: list[str]) -> str:
    if path in asked:
        return "asked for"
    sizes = [name.rpartition("/")[2] for name in asked if name.rpartition("/")[0] == path]
    if sizes:
        return f"asked for: {', '.join(sizes)}"
    place = width_location(maps, Target(path, layer))
    if place in maps.causes:
        return f"grows with {_names(maps.causes[place])}"
    read = [tensor for call in maps.graph.calls_of(layer) for tensor in call.inputs]
    causes = [name for key, names in maps.causes.items() if key[0] in read for name in names]
    return f"reads {_names(causes)}"


def _names(causes: list[str]) -> str:
    return ", ".join(dict.fromkeys(causes))


def _planned_block(maps: WideningPlan, path: str, point: Any) -> PlannedLayer:
    shape = maps.shape(point.after.outputs[0])
    layer = point.layer
    first = getattr(layer, "data_format", None) == "channels_first"
    channels = (shape[1] if first else shape[-1]) or 1
    window = math.prod(getattr(layer, "kernel_size", ()))
    kernel = window * channels * channels
    # The block follows each call of a shared layer.
    shapes = [maps.shape(call.outputs[0]) for call in maps.graph.calls_of(point.after.layer)]
    places = sum(math.prod(one or 1 for one in each[1:]) // channels for each in shapes)
    times = 1 if point.exact else 2
    size = times * (kernel + (channels if layer.use_bias else 0))
    kind = "identity" if point.exact else "residual"
    return PlannedLayer(
        f"{path}_deeper",
        (0, channels),
        f"new after {point.after.path}, {kind}",
        (0, size),
        (0, times * kernel * places),
    )


def _optimizer_bytes(
    model: Any, layers: list[tuple[int, int]], added: tuple[int, int]
) -> tuple[int, int]:
    """Return the memory of the slots, by an optimizer for a few parameters.

    Args:
        model: The model, some of whose trained weights may be in no layer.
        layers: Trained parameters of each layer before and after.
        added: Those of new layers.
    """
    optimizer = getattr(model, "optimizer", None)
    trained = model.trainable_variables
    if optimizer is None or not trained:
        return 0, 0
    whole = sum(math.prod(one.shape) for one in trained)
    before, after = _grown_total(whole, layers, added)
    probe = optimizer_like(optimizer, None)
    dtype = keras.backend.standardize_dtype(trained[0].dtype)
    probe.build([keras.Variable(np.zeros((64, 64)), dtype=dtype)])
    slots = [one for one in probe.variables if math.prod(one.shape) >= 64]
    each = sum(math.prod(one.shape) for one in slots) / 64**2
    size = 2 if "16" in dtype else 8 if "64" in dtype else 4
    return round(size * each * before), round(size * each * after)


def _inexact(model: Any, maps: WideningPlan, costs: Mapping[str, _Cost]) -> list[str]:
    found = []
    touched = {path: one.layer for path, one in costs.items() if maps.grown_layer(one.layer).maps}
    penalised = [path for path, layer in touched.items() if has_penalty(layer)]
    if penalised:
        found.append(
            f"the penalties or constraints of {', '.join(penalised)} see other weights, so the "
            "loss or the next step's projection changes"
        )
    norms = (keras.layers.LayerNormalization, keras.layers.RMSNormalization)
    before = [path for path, layer in touched.items() if isinstance(layer, norms)]
    optimizer = getattr(model, "optimizer", None)
    if before and optimizer is not None:
        found.append(
            f"optimizer slots before {', '.join(before)}: those of one channel's copies add up to "
            "the old one's, but are not split exactly by shares"
        )
    noisy = [path for path, layer in touched.items() if "Dropout" in type(layer).__name__]
    if noisy:
        found.append(f"in training, the noise of {', '.join(noisy)} differs between copies")
    if optimizer is not None and not slot_kinds(optimizer).keys() - {
        "_accumulated_gradients",
        "_model_variables_moving_average",
    }:
        found.append(
            f"the slots of {type(optimizer).__name__} are not known; see `net2net.register_slots`"
        )
    return found


def _change(pair: tuple[int, int]) -> str:
    before, after = (f"{one:,}" for one in pair)
    return before if before == after else f"{before} -> {after}"


def _grown_total(
    whole: int, pairs: Iterable[tuple[int, int]], added: tuple[int, int]
) -> tuple[int, int]:
    """Return the parameters of a model before and after, some of which may be in no layer."""
    before, after = _total(pairs)
    return whole, whole + after - before + added[1]


def _total(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    before, after = 0, 0
    for one, other in pairs:
        before, after = before + one, after + other
    return before, after


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
