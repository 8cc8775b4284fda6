"""Layers made of layers: followed through those inside, and made again with new sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import keras

from net2net.errors import UnsupportedLayerError, summary

_CLASSES: set[type] = set()
_MOST = 256
"""Configs that are tried at most."""


@dataclass(frozen=True)
class Composite:
    """A call of a layer that is made of layers.

    Args:
        layer: The layer.
        path: Its path.
        parts: The layers inside, at any depth.
        arguments: Positional and named arguments of the call.
        inputs: The tensors among them, in order.
    """

    layer: Any
    path: str
    parts: tuple[Any, ...]
    arguments: tuple[Any, Any]
    inputs: tuple[Any, ...]


def register_composite(layer_class: type) -> None:
    """Say that layers of a class are made of layers, which grow by rules of their own.

    The layers inside are then found by paths ("block/dense"). The layer is made again from its
    config, in which whole numbers are replaced until all weights have their new shapes.

    Args:
        layer_class: The layer class. Its `call` must be made of layers and `keras.ops`.

    Raises:
        TypeError: If it is no layer class.

    Example:
        >>> import keras, net2net
        >>> class Block(keras.layers.Layer):
        ...     def __init__(self, units, **settings):
        ...         super().__init__(**settings)
        ...         self.units, self.dense = units, keras.layers.Dense(units, name="dense")
        ...     def call(self, inputs):
        ...         return self.dense(inputs)
        ...     def get_config(self):
        ...         return {**super().get_config(), "units": self.units}
        >>> net2net.register_composite(Block)
        >>> model = keras.Sequential([keras.Input((3,)), Block(4, name="a"),
        ...                           keras.layers.Dense(2)])
        >>> net2net.widen(model, "a/dense", 6).layers[0].units
        6
    """
    if not isinstance(layer_class, type) or not issubclass(layer_class, keras.layers.Layer):
        raise TypeError(
            f"Expected a layer class, received {layer_class!r}. Hand in the class itself, for "
            "example `register_composite(MyBlock)`."
        )
    _CLASSES.add(layer_class)


def is_composite(layer: Any) -> bool:
    """Return whether a layer's class is registered as one that is made of layers."""
    return type(layer) in _CLASSES


def open_call(layer: Any, path: str, arguments: Any) -> tuple[Composite, Any]:
    """Return a call of a composite layer, and a functional model of what it does inside.

    Args:
        layer: The layer.
        path: Its path.
        arguments: The arguments of the call, with `args` and `kwargs`.

    Raises:
        UnsupportedLayerError: If its `call` cannot be followed.
    """
    parts = tuple(layer._flatten_layers(include_self=False))
    given: list[Any] = []
    handed = (tuple(arguments.args), dict(arguments.kwargs))
    (args, kwargs), stand_ins = _with_inputs(handed, given, lambda one: one.shape)
    with _nodes_kept([layer, *parts]):
        try:
            flat = keras.tree.flatten(layer.call(*args, **kwargs))
            outputs = [one for one in flat if isinstance(one, keras.KerasTensor)]
            view = keras.Model(stand_ins, outputs)
        except Exception as error:  # a layer's own code may raise anything
            raise UnsupportedLayerError(
                path,
                f"{type(layer).__name__} cannot be followed inside ({summary(error)})",
                "Let its `call` be made of layers and `keras.ops`, or give it a rule with "
                "`net2net.register_rule`.",
            ) from error
    return Composite(layer, path, parts, handed, tuple(given)), view


def composite_like(
    one: Composite,
    inputs: Sequence[tuple[int | None, ...]],
    shapes: Sequence[tuple[int, ...]],
    sizes: Mapping[int, set[int]],
    make: Callable[[dict[str, Any]], Any],
) -> Any:
    """Return a new layer, not built, whose weights will have the given shapes.

    Args:
        one: The old layer's call.
        inputs: The new shapes of its inputs.
        shapes: The new shapes of its variables.
        sizes: For each size that grows, what it may become.
        make: Returns the layer with some entries of its config replaced.

    Raises:
        UnsupportedLayerError: If no config leads to these shapes.
    """
    config = one.layer.get_config()
    names = [
        name
        for name, value in config.items()
        if isinstance(value, int) and not isinstance(value, bool) and value in sizes
    ]
    options = [[config[name], *sorted(sizes[config[name]])] for name in names]
    # The fewest changes first: another entry may have the same value by chance.
    found = sorted(
        (dict(zip(names, values, strict=True)) for values in product(*options)),
        key=lambda changes: sum(config[name] != value for name, value in changes.items()),
    )
    misfits = []
    for changes in found[:_MOST]:
        misfit = _misfit(one, make(changes), inputs, shapes)
        if not misfit:
            return make(changes)
        misfits.append(misfit)
    # Rather a weight of another shape than what a layer raises that does not fit together.
    misfit = max(misfits, key=lambda text: " instead of " in text)
    raise UnsupportedLayerError(
        one.path,
        f"{type(one.layer).__name__} does not get its new sizes by any values of its config's "
        f"entries ({', '.join(names) or 'none has a size that grows'}): {misfit}",
        "Ask for all widths that its `build` ties together, such as attention heads with the "
        "stream that they read, or let its sizes be arguments of its constructor.",
    )


def _misfit(
    one: Composite, layer: Any, inputs: Sequence[Any], shapes: Sequence[tuple[int, ...]]
) -> str:
    """Return which weight of a new layer has another shape than planned, "" where none has."""
    waiting = iter(inputs)
    (args, kwargs), _ = _with_inputs(one.arguments, [], lambda _: next(waiting))
    try:
        layer(*args, **kwargs)
    except Exception as error:  # a layer's own code may raise anything
        return summary(error)
    made = layer.variables
    if len(made) != len(shapes):
        return f"it has {len(made)} variables instead of {len(shapes)}"
    for variable, shape in zip(made, shapes, strict=True):
        if tuple(variable.shape) != tuple(shape):
            return f"'{variable.path}' becomes {tuple(variable.shape)} instead of {tuple(shape)}"
    return ""


def _with_inputs(
    arguments: Any, given: list[Any], shape: Callable[[Any], Any]
) -> tuple[Any, list[Any]]:
    """Return arguments with new inputs in the place of tensors, and these inputs."""
    made: list[Any] = []

    def stand_in(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        given.append(value)
        made.append(keras.Input(batch_shape=tuple(shape(value)), dtype=value.dtype))
        return made[-1]

    return keras.tree.map_structure(stand_in, arguments), made


@contextmanager
def _nodes_kept(layers: Sequence[Any]) -> Iterator[None]:
    """Forget the symbolic calls that are made within."""
    kept = [(one, list(one._inbound_nodes), list(one._outbound_nodes)) for one in layers]
    try:
        yield
    finally:
        for one, inbound, outbound in kept:
            one._inbound_nodes[:], one._outbound_nodes[:] = inbound, outbound
