"""Wider models: `widen` one layer, `grow` many (and deepen), `widenable` reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from net2net.build import build_grown_model
from net2net.deepening import deepen_model
from net2net.errors import UnsupportedLayerError, renamed_attribute
from net2net.graph import find_layer, graph_of
from net2net.planning import (
    Target,
    find_target,
    has_width,
    inner_widths,
    plan_width,
    planned_width,
    smallest_step,
    width_location,
)
from net2net.propagate import WideningPlan
from net2net.rules.registry import rule_for
from net2net.weights import NewUnits


def widen(
    model: Any,
    layer: str | int | Any,
    units: int,
    *,
    new: NewUnits = "net2net",
    noise: float = 0.0,
    seed: int = 0,
    learning_rate: float | None = None,
    check: Any = None,
) -> Any:
    """Return a model that computes the same and has one wider layer.

    Net2WiderNet (Chen, Goodfellow and Shlens 2016, eqs 1 and 2): new units copy old ones, and
    the copies share their outgoing weight. Deviation: shares are drawn from a Dirichlet
    distribution, not equal, so that copies learn differently without noise.

    Args:
        model: A built Sequential or Functional model; it stays as it is.
        layer: A name, a path ("inner/dense"), an index into `model.layers`, or the layer; with
            "/key_dim", "/value_dim" or "/head_dim" behind it, the size of each attention head.
        units: The new width: units, filters, embedding size, attention heads, or their size.
        new: "net2net" for copies; "zero_out" for fresh units whose outgoing weights are zero;
            "random" for fresh weights both ways, which changes what the model computes. Defaults
            to "net2net".
        noise: Standard deviation of noise on new units' outgoing weights, in units of the
            weight's own; above 0 the function is kept only approximately. Defaults to 0.
        seed: Seed of all random choices. Defaults to 0.
        learning_rate: The new optimizer's rate. Defaults to None, the present one.
        check: True to compare the outputs of both models on a few made-up inputs, or the inputs to
            compare on; False not to. Defaults to None: where a layer carries state that no rule
            names, such as one of your own classes.

    Returns:
        A new model of the same kind, with the same names; compiled, with the optimizer's state
        mapped along, if the given one was.

    Raises:
        UnsupportedLayerError: If the layer cannot grow, or not to this width, or if the grown
            model computes something else.
        ValueError: If there is no such layer, or the width is not larger than the present one.

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
        check=check,
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
    check: Any = None,
) -> Any:
    """Return a model that computes the same and has many wider layers and new layers.

    Args:
        model: A built Sequential or Functional model; it stays as it is.
        widths: The new width of each layer. Of a group of layers whose channels meet (in an Add,
            say) one is enough; others must ask for the same width. Defaults to none.
        deepen: Layers to put a block after, as `deepen` does. Defaults to none.
        new: Kind of the new units, as in `widen`. Defaults to "net2net".
        noise: Noise on new units' outgoing weights, as in `widen`. Defaults to 0.
        seed: Seed of all random choices. Defaults to 0.
        learning_rate: The new optimizer's rate. Defaults to None, the present one.
        check: Whether to compare both models' outputs, as in `widen`. Defaults to None.

    Returns:
        A new model, as from `widen`.

    Raises:
        UnsupportedLayerError: If a layer cannot grow; then nothing has grown.
        ValueError: If there is no such layer, or a width is not larger than the present one.

    Example:
        >>> import keras, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"),
        ...                           keras.layers.Dense(4, name="b"), keras.layers.Dense(2)])
        >>> big = net2net.grow(model, widths={"a": 6, "b": 8}, deepen=["b"])
        >>> [layer.name for layer in big.layers[:3]], [layer.units for layer in big.layers[:3]]
        (['a', 'b', 'b_deeper'], [6, 8, 8])
    """
    generator = np.random.default_rng(seed)
    plan = plan_widths(model, widths, new, noise, generator)[0]
    paths = [find_layer(model, name, plan.graph)[0] for name in deepen]
    wide = build_grown_model(
        model,
        plan,
        generator=generator,
        new=new,
        noise=noise,
        learning_rate=learning_rate,
        check=check,
    )
    if not paths:
        return wide
    return deepen_model(
        wide,
        paths,
        batch_norm=False,
        data=None,
        generator=generator,
        learning_rate=None,
        check=check,
    )


def plan_widths(
    model: Any,
    widths: Mapping[str, int] | Iterable[tuple[Any, int]],
    new: NewUnits,
    noise: float,
    generator: np.random.Generator,
) -> tuple[WideningPlan, list[str]]:
    """Return the maps by which a model gets the widths asked for, and the layers asked for.

    The arguments are those of `grow`, but for `generator`, the source of the maps.
    """
    if new not in get_args(NewUnits):
        raise ValueError(f"Expected new to be one of {get_args(NewUnits)}, received {new!r}.")
    if not noise >= 0:
        raise ValueError(f"Expected noise to be 0 or more, received {noise!r}.")
    plan = WideningPlan(graph_of(model))
    asked: list[tuple[Target, int]] = []
    for name, units in widths.items() if isinstance(widths, Mapping) else widths:
        target = find_target(model, name, plan.graph)
        if not (asked and has_width(plan, target, units)):
            plan_width(plan, target, units, generator, new)
        asked.append((target, units))
    for target, units in asked:
        if planned_width(plan, target) != units:
            raise ValueError(
                f"Layer '{target.path}' was to get {units} units, but another layer of its group "
                f"asks for {planned_width(plan, target)}, and their channels meet. Ask for one "
                "width."
            )
    return plan, [target.path for target, _ in asked]


@dataclass(frozen=True)
class Width:
    """Result of `widenable` for one layer; true if it can be widened.

    Args:
        width: Its present width.
        step: It can be widened by any multiple of this; 0 if it cannot be.
        group: Paths of the layers whose widths grow with it since their channels meet, its own
            among them. Defaults to ().
        reason: Why it cannot be widened. Defaults to "": it can.
    """

    width: int
    step: int
    group: tuple[str, ...] = ()
    reason: str = ""

    stream = renamed_attribute("stream", "group")
    obstacle = renamed_attribute("obstacle", "reason")

    def __bool__(self) -> bool:
        return self.step > 0


def widenable(model: Any) -> dict[str, Width]:
    """Return which layers can be widened, by which steps, and why the others cannot.

    There is no upper limit: a layer can grow to its width plus any multiple of its step.

    Args:
        model: A built Sequential or Functional model.

    Returns:
        A `Width` for the path of every layer that has a width, or weights and no rule; and for
        the sizes of attention heads ("attention/key_dim").

    Raises:
        UnsupportedLayerError: If the model is subclassed.
        ValueError: If it is not built.

    Example:
        >>> import keras, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> found = net2net.widenable(model)
        >>> found["a"].step, found["b"].reason
        (1, "its channels are those of the model's output 'b'")
    """
    plan = WideningPlan(graph_of(model))
    widths = {}
    for path, layer in plan.graph.layers():
        rule = rule_for(layer)
        width = rule.width(layer) if rule else (0 if getattr(layer, "weights", None) else None)
        if width is not None:
            widths[Target(path, layer)] = width
        for name, size in inner_widths(layer).items():
            widths[Target(f"{path}/{name}", layer, name)] = size
    places = {target.path: width_location(plan, target) for target in widths}
    found = {}
    for target, width in widths.items():
        try:
            step, maps = smallest_step(plan, target)
        except UnsupportedLayerError as error:
            found[target.path] = Width(width, 0, (), error.reason)
            continue
        group = tuple(path for path, place in places.items() if place in maps)
        found[target.path] = Width(width, step, group)
    return found
