"""A model as a flat list of calls; the only module that reads Keras's private graph.

Nested models are flattened: the calls of an inner model are in the list as often as the inner
model is called. Tensors are numbered, so that one number names one tensor of one call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import signature
from typing import Any

import keras
import numpy as np

from net2net.composites import Composite, is_composite, open_call
from net2net.errors import UnsupportedLayerError

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer.

    Args:
        layer: The layer, or the operation of `keras.ops`.
        path: Its name, after the names of the nested models around it.
        inputs: Numbers of the tensors that go in.
        outputs: Numbers of the tensors that come out.
        index: Its place in the order of computation.
        constants: Arrays of one or more dimensions among the call's other arguments. Defaults to
            none.
        arguments: For each input, the name of the argument it is passed as. Defaults to none.
        settings: The call's other arguments, by name. Defaults to none.
    """

    layer: Any
    path: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    index: int
    constants: tuple[Any, ...] = ()
    arguments: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """All calls of a model, in an order in which they can be computed.

    Attributes:
        calls: The calls.
        shapes: The shape of every tensor, by number, batch axis included.
        inputs: Numbers of the model's inputs, with their names.
        outputs: Numbers of the model's outputs, with the names of their layers.
        symbols: The symbolic tensors of the outermost model, by number.
        entries: The tensors that each model in it was first called with, by its identity.
        masks: Numbers of the tensors that nested models are handed as masks.
        borrowed: The path of a call that takes a variable as an argument, by its identity.
        composites: The first call of each layer that is made of layers, and the numbers of the
            tensors that enter it, by its identity.
    """

    calls: list[LayerCall] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    inputs: dict[int, str] = field(default_factory=dict)
    outputs: dict[int, str] = field(default_factory=dict)
    symbols: dict[int, Any] = field(default_factory=dict)
    entries: dict[int, list[int]] = field(default_factory=dict)
    masks: set[int] = field(default_factory=set)
    borrowed: dict[int, str] = field(default_factory=dict)
    composites: dict[int, tuple[Composite, list[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._touching: dict[int, list[LayerCall]] = defaultdict(list)
        self._of_layer: dict[int, list[LayerCall]] = defaultdict(list)

    def add(self, call: LayerCall) -> None:
        """Append a call."""
        self.calls.append(call)
        self._of_layer[id(call.layer)].append(call)
        for tensor in {*call.inputs, *call.outputs}:
            self._touching[tensor].append(call)

    def new_tensor(self, shape: Shape) -> int:
        """Return the number of one more tensor."""
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def calls_touching(self, tensor: int) -> list[LayerCall]:
        """Return the calls that a tensor comes out of or goes into."""
        return self._touching[tensor]

    def calls_of(self, layer: Any) -> list[LayerCall]:
        """Return the calls of one layer."""
        return self._of_layer[id(layer)]

    def internal_tensor(self, layer: Any) -> int:
        """Return the number, below zero, of the width inside a layer."""
        return -1 - self.calls_of(layer)[0].index

    def parts_of(self, layer: Any) -> tuple[Any, ...]:
        """Return the layers that a layer is made of; itself alone for most."""
        found = self.composites.get(id(layer))
        return found[0].parts if found else (layer,)

    def composite_around(self, layer: Any) -> Composite | None:
        """Return the layer that another one is a part of, None where it is none's."""
        for one, _ in self.composites.values():
            if any(part is layer for part in one.parts):
                return one
        return None

    def layers_with(self, variable: Any) -> Iterator[Any]:
        """Yield the layers that have a variable."""
        whole = [one.layer for one, _ in self.composites.values()]
        for layer in [*whole, *(one for _, one in self.layers())]:
            if any(variable is one for one in getattr(layer, "variables", ())):
                yield layer

    def layers(self) -> Iterator[tuple[str, Any]]:
        """Yield every layer once, with its path."""
        seen = set()
        for call in self.calls:
            if id(call.layer) not in seen:
                seen.add(id(call.layer))
                yield call.path, call.layer


def functional_of(model: Any) -> Any:
    """Return the Functional graph inside a Sequential or Functional model.

    Raises:
        UnsupportedLayerError: If the model is subclassed.
        ValueError: If it is no model, or not built.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Expected a Keras model, received {model!r}. Hand in a `keras.Sequential` or a "
            "Functional `keras.Model`."
        )
    if isinstance(model, keras.Sequential):
        if model._functional is None:
            raise ValueError(
                f"Model '{model.name}' is not built, so its weights are not known yet. Start it "
                "with `keras.Input(shape)`, or call `model.build(input_shape)` first."
            )
        return model._functional
    if not hasattr(model, "_nodes_by_depth"):
        raise UnsupportedLayerError(
            model.name,
            "it is a subclassed model, whose `call` cannot be followed",
            "Write it with the Functional API: `keras.Model(inputs, outputs)`.",
        )
    return model


def is_model(layer: Any) -> bool:
    """Return whether a layer is a model with a graph of its own; subclassed ones have none."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "_nodes_by_depth")
    )


def find_models(model: Any) -> list[Any]:
    """Return a model and all models nested in it, each once."""
    found = [model]
    for one in found:
        for layer in one.layers:
            if is_model(layer) and not any(layer is known for known in found):
                found.append(layer)
    return found


def input_layer_of(tensor: Any) -> Any:
    """Return the InputLayer of a model's input."""
    return tensor._keras_history.operation


def graph_of(model: Any) -> Graph:
    """Return the graph of a built Sequential or Functional model.

    Raises:
        UnsupportedLayerError: If the model, or one inside it, is subclassed.
        ValueError: If the model is not built.
    """
    functional = functional_of(model)
    graph = Graph()
    tensors = {id(tensor): graph.new_tensor(tensor.shape) for tensor in functional.inputs}
    for tensor in functional.inputs:
        graph.inputs[tensors[id(tensor)]] = input_layer_of(tensor).name
    graph.entries[id(model)] = [tensors[id(tensor)] for tensor in functional.inputs]
    _add_calls(functional, tensors, graph, prefix="")
    for tensor in functional.outputs:
        graph.outputs[tensors[id(tensor)]] = tensor._keras_history.operation.name
    return graph


def _add_calls(functional: Any, tensors: dict[int, int], graph: Graph, prefix: str) -> None:
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.is_input:
                continue
            entering = [tensors[id(tensor)] for tensor in node.arguments.keras_tensors]
            path = prefix + node.operation.name
            for value in keras.tree.flatten([node.arguments.args, node.arguments.kwargs]):
                if isinstance(value, keras.Variable):
                    graph.borrowed[id(value)] = path
            if is_model(node.operation):
                inner = functional_of(node.operation)
                entering, rest = _inputs_and_rest(node, tensors)
                graph.masks.update(rest)
                if len(inner.inputs) != len(entering):
                    raise UnsupportedLayerError(
                        path,
                        "it is called with other inputs than it was built with",
                        "Call it with as many inputs as it has.",
                    )
                graph.entries.setdefault(id(node.operation), entering)
                inside = {id(t): n for t, n in zip(inner.inputs, entering, strict=True)}
                _add_calls(inner, inside, graph, prefix=path + "/")
                leaving = [inside[id(tensor)] for tensor in inner.outputs]
            elif is_composite(node.operation):
                opened, view = open_call(node.operation, path, node.arguments)
                entering = [tensors[id(tensor)] for tensor in opened.inputs]
                graph.composites.setdefault(id(node.operation), (opened, entering))
                inside = {id(t): n for t, n in zip(view.inputs, entering, strict=True)}
                _add_calls(view, inside, graph, prefix=path + "/")
                leaving = [inside[id(tensor)] for tensor in view.outputs]
            else:
                leaving = [graph.new_tensor(tensor.shape) for tensor in node.outputs]
                graph.add(
                    LayerCall(
                        layer=node.operation,
                        path=path,
                        inputs=tuple(entering),
                        outputs=tuple(leaving),
                        index=len(graph.calls),
                        constants=_constants(node),
                        arguments=_argument_names(node),
                        settings=_settings(node),
                    )
                )
            if not prefix:
                graph.symbols.update(zip(leaving, node.outputs, strict=True))
            tensors.update({id(t): n for t, n in zip(node.outputs, leaving, strict=True)})


def _inputs_and_rest(node: Any, tensors: dict[int, int]) -> tuple[list[int], list[int]]:
    """Return the tensors that a nested model's call hands in, and those beside them: masks."""
    args, kwargs = node.arguments.args, dict(node.arguments.kwargs)
    first = args[0] if args else kwargs.pop("inputs", [])
    symbols = [one for one in keras.tree.flatten(first) if isinstance(one, keras.KerasTensor)]
    rest = [one for one in keras.tree.flatten([args[1:], kwargs]) if id(one) in tensors]
    return [tensors[id(one)] for one in symbols], [tensors[id(one)] for one in rest]


def _named_arguments(node: Any) -> list[tuple[str, Any]]:
    call = getattr(node.operation, "call", None)
    named = list(signature(call).parameters) if call else []
    args, kwargs = node.arguments.args, node.arguments.kwargs
    pairs = [(named[k] if k < len(named) else "", arg) for k, arg in enumerate(args)]
    return pairs + [(name, kwargs[name]) for name in sorted(kwargs)]


def _settings(node: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in _named_arguments(node)
        if not any(isinstance(one, keras.KerasTensor) for one in keras.tree.flatten(value))
    }


def _argument_names(node: Any) -> tuple[str, ...]:
    names = [
        name
        for name, value in _named_arguments(node)
        for tensor in keras.tree.flatten(value)
        if isinstance(tensor, keras.KerasTensor)
    ]
    return tuple(names)


def _constants(node: Any) -> tuple[Any, ...]:
    found = []
    for value in keras.tree.flatten([node.arguments.args, node.arguments.kwargs]):
        if isinstance(value, keras.KerasTensor) or not hasattr(value, "shape"):
            continue
        if np.ndim(value) > 0:
            found.append(value)
    return tuple(found)


def find_layer(model: Any, layer: Any, graph: Graph) -> tuple[str, Any]:
    """Return the path of a layer and the layer.

    Args:
        model: The model.
        layer: A name, a path ("inner/dense"), an index into `model.layers`, or the layer.
        graph: The model's graph.

    Raises:
        ValueError: If there is no such layer, or more than one.
    """
    known = dict(graph.layers())
    if isinstance(layer, int | np.integer) and not isinstance(layer, bool):
        if not -len(model.layers) <= layer < len(model.layers):
            raise ValueError(
                f"Model '{model.name}' has {len(model.layers)} layers, so there is none at index "
                f"{layer}. Name one of {', '.join(one.name for one in model.layers)}."
            )
        layer = model.layers[layer]
    if not isinstance(layer, str):
        for path, one in known.items():
            if one is layer:
                return path, one
        name = getattr(layer, "name", repr(layer))
        raise ValueError(_unsuitable_message(model, layer, name, known))
    if layer in known:
        return layer, known[layer]
    inside = [path for path in known if path.rsplit("/", 1)[-1] == layer]
    if len(inside) == 1:
        return inside[0], known[inside[0]]
    if inside:
        raise ValueError(
            f"Model '{model.name}' has several layers named '{layer}'. Say which: "
            f"{', '.join(inside)}."
        )
    for one in model.layers:
        if one.name == layer:
            raise ValueError(_unsuitable_message(model, one, layer, known))
    if layer in graph.inputs.values():
        raise ValueError(_input_message(model, layer))
    near = get_close_matches(layer, [*known, *(p.rsplit("/", 1)[-1] for p in known)], n=3)
    hint = f"Its layers are {', '.join(known)}."
    if near:
        hint = f"Did you mean {' or '.join(repr(n) for n in dict.fromkeys(near))}?"
    raise ValueError(f"Model '{model.name}' has no layer '{layer}'. {hint}")


def _input_message(model: Any, name: str) -> str:
    return (
        f"Layer '{name}' is an input of model '{model.name}', whose size is the data's, not the "
        "model's. Widen a layer after it."
    )


def _unsuitable_message(model: Any, layer: Any, name: str, known: Mapping[str, Any]) -> str:
    if isinstance(layer, keras.layers.InputLayer):
        return _input_message(model, name)
    if is_model(layer) or is_composite(layer):
        inner = ", ".join(path for path in known if path.startswith(f"{name}/"))
        kind = "a nested model" if is_model(layer) else "made of layers,"
        return f"'{name}' is {kind} with no width of its own. Name a layer in it: {inner}."
    return f"Layer '{name}' is not part of model '{model.name}'. Name one of the model's layers."


def free_name(wanted: str, taken: set[str]) -> str:
    """Return a name that is not taken, numbered where it has to be, and add it to those taken."""
    found, count = wanted, 0
    while found in taken:
        count += 1
        found = f"{wanted}_{count}"
    taken.add(found)
    return found


def plain_functional() -> Any:
    """Return a functional model of Keras's own class that computes nothing."""
    inputs = keras.Input((1,))
    return keras.Model(inputs, keras.layers.Identity(name="same")(inputs))
