"""Wider layers: `widen` for one, `grow` for many and for deeper ones too, `widenable` to ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from net2net.build import build_grown_model
from net2net.deepening import deepen_model
from net2net.errors import UnsupportedLayerError
from net2net.graph import find_layer, graph_of
from net2net.planning import (
    NewUnits,
    is_grown,
    place_of_width,
    plan_width,
    present_width,
    smallest_step,
)
from net2net.propagate import WideningPlan
from net2net.rules.registry import rule_for


def widen(
    model: Any,
    layer: str | int | Any,
    units: int,
    *,
    new: NewUnits = "net2net",
    noise: float = 0.0,
    seed: int = 0,
    learning_rate: float | None = None,
) -> Any:
    """Return a model with one layer wider that computes what the given one does.

    Net2WiderNet (Chen, Goodfellow and Shlens 2016, eqs 1 and 2): new units copy old ones, and
    the copies share their outgoing weight. Deviation: shares are drawn from a Dirichlet
    distribution, not equal, so that copies learn differently without noise.

    Args:
        model: A built Sequential or Functional model; it stays as it is.
        layer: A name, a path ("inner/dense"), an index into `model.layers`, or the layer.
        units: The new width: units, filters, embedding size, or attention heads.
        new: "net2net" for copies; "zero_out" for fresh units whose outgoing weights are zero;
            "random" for fresh weights both ways, which does change what the model computes.
        noise: Standard deviation of noise on new units' outgoing weights, in units of the
            weight's own; above 0 the function is kept only about.
        seed: Seed of all that is drawn.
        learning_rate: The rate that the new optimizer goes on with; None for the present one.

    Returns:
        A new model of the same kind, with the same names; compiled, with the optimizer's state
        mapped along, if the given one was.

    Raises:
        UnsupportedLayerError: Where the layer cannot grow, or not to this width.
        ValueError: Where there is no such layer, or the width is not larger than the present one.

    Example:
        >>> import keras, numpy as np, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu", name="a"),
        ...                           keras.layers.Dense(2)])
        >>> wide = net2net.widen(model, "a", 7)
        >>> x = np.ones((1, 3), "float32")
        >>> wide.get_layer("a").units, bool(np.allclose(model(x), wide(x), atol=1e-6))
        (7, True)
    """
    return grow(
        model,
        widths=[(layer, units)],
        new=new,
        noise=noise,
        seed=seed,
        learning_rate=learning_rate,
    )


def grow(
    model: Any,
    widths: Mapping[str, int] | Iterable[tuple[Any, int]] = (),
    deepen: Iterable[Any] = (),
    *,
    new: NewUnits = "net2net",
    noise: float = 0.0,
    seed: int = 0,
    learning_rate: float | None = None,
) -> Any:
    """Return a model with many layers wider, and some followed by new ones, built in one go.

    Args:
        model: A built Sequential or Functional model; it stays as it is.
        widths: The new width of each layer. Layers that share a stream (those that meet in an
            Add, say) need be named once; named again, they must ask for the same width.
        deepen: Layers to put an identity block after, as `deepen` does.
        new: What new units are; see `widen`.
        noise: Noise on new units' outgoing weights; see `widen`.
        seed: Seed of all that is drawn.
        learning_rate: The rate that the new optimizer goes on with; None for the present one.

    Returns:
        A new model, as from `widen`.

    Raises:
        UnsupportedLayerError: Where a layer cannot grow; then nothing has grown.
        ValueError: Where there is no such layer, or a width is not larger than the present one.

    Example:
        >>> import keras, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"),
        ...                           keras.layers.Dense(4, name="b"), keras.layers.Dense(2)])
        >>> big = net2net.grow(model, widths={"a": 6, "b": 8}, deepen=["b"])
        >>> [layer.name for layer in big.layers[:3]], [layer.units for layer in big.layers[:3]]
        (['a', 'b', 'b_deeper'], [6, 8, 8])
    """
    if new not in get_args(NewUnits):
        raise ValueError(f"Expected new to be one of {get_args(NewUnits)}, received {new!r}.")
    if not noise >= 0:
        raise ValueError(f"Expected noise to be 0 or more, received {noise!r}.")
    plan = WideningPlan(graph_of(model))
    generator = np.random.default_rng(seed)
    asked: list[tuple[str, Any, int]] = []
    for name, units in widths.items() if isinstance(widths, Mapping) else widths:
        path, layer = find_layer(model, name, plan.graph)
        if not (asked and is_grown(plan, layer, units)):
            plan_width(plan, layer, units, generator, new)
        asked.append((path, layer, units))
    for path, layer, units in asked:
        if present_width(plan, layer) != units:
            raise ValueError(
                f"Layer '{path}' was to get {units} units, but another layer of its stream asks "
                f"for {present_width(plan, layer)}, and their channels meet. Ask for one width."
            )
    paths = [find_layer(model, name, plan.graph)[0] for name in deepen]
    wide = build_grown_model(
        model, plan, generator=generator, new=new, noise=noise, learning_rate=learning_rate
    ).model
    if not paths:
        return wide
    return deepen_model(
        wide, paths, batch_norm=False, data=None, generator=generator, learning_rate=None
    )


@dataclass(frozen=True)
class Width:
    """What `widenable` says about one layer.

    Args:
        width: Its present width.
        step: It can be widened by any multiple of this; 0 where it cannot be.
        stream: Paths of the layers whose widths grow along with it, since their channels meet;
            its own among them.
        obstacle: Why it cannot be widened; empty where it can.
    """

    width: int
    step: int
    stream: tuple[str, ...] = ()
    obstacle: str = ""

    def __bool__(self) -> bool:
        return self.step > 0


def widenable(model: Any) -> dict[str, Width]:
    """Say which layers of a model can be widened, by which steps, and why the others cannot.

    There is no upper limit: a layer can grow to its width plus any multiple of its step.

    Args:
        model: A built Sequential or Functional model.

    Returns:
        For the path of every layer that has a width, or weights and no rule: what can be done.
        An entry is true where the layer can be widened.

    Raises:
        UnsupportedLayerError: Where the model is subclassed.
        ValueError: Where it is not built.

    Example:
        >>> import keras, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> found = net2net.widenable(model)
        >>> found["a"].step, found["b"].obstacle
        (1, "its channels are those of the model's output 'b'")
    """
    plan = WideningPlan(graph_of(model))
    places = {}
    for path, layer in plan.graph.layers():
        place = place_of_width(plan, layer)
        if place is not None:
            places[path] = place
    found = {}
    for path, layer in plan.graph.layers():
        rule = rule_for(layer)
        width = rule.width(layer) if rule else (0 if getattr(layer, "weights", None) else None)
        if width is None:
            continue
        try:
            step, maps = smallest_step(plan, layer)
        except UnsupportedLayerError as error:
            found[path] = Width(width, 0, (), error.obstacle)
            continue
        stream = tuple(other for other, place in places.items() if place in maps)
        found[path] = Width(width, step, stream)
    return found
