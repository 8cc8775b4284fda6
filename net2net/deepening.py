"""Deeper models: a block after a layer that at first passes on what it is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from net2net.blocks import (
    Block,
    can_deepen,
    identity_block,
    is_linear,
    is_repeatable,
    residual_block,
)
from net2net.build import build_grown_model
from net2net.errors import UnsupportedLayerError
from net2net.graph import Graph, LayerCall, find_layer, graph_of
from net2net.propagate import WideningPlan
from net2net.rebuild import untouched_global_seed
from net2net.rules.convolution import channel_axis


def deepen(
    model: Any,
    layer: str | int | Any,
    *,
    batch_norm: bool = False,
    data: Any = None,
    seed: int = 0,
    learning_rate: float | None = None,
) -> Any:
    """Return a model with a new block after a layer that computes what the given one does.

    Net2DeeperNet (Chen, Goodfellow and Shlens 2016, section 2.2): after a linear, ReLU or ReLU6
    activation φ the block is φ(x · I), exact since φ(φ(x)) = φ(x). After any other activation,
    where that would not hold, it is x + W₂ φ(W₁ x) with W₂ = 0. Where BatchNormalization and an
    activation layer directly follow the layer, the block comes after them.

    Args:
        model: A built Sequential or Functional model; it stays as it is.
        layer: A name, a path ("inner/dense"), an index into `model.layers`, or the layer: a
            Dense or convolutional one.
        batch_norm: Whether the block has a BatchNormalization too.
        data: Inputs to the model, from which the new BatchNormalization takes its statistics
            (mean and variance of the channels where the block begins).
        seed: Seed of the residual block's first weights.
        learning_rate: The rate that the new optimizer goes on with; None for the present one.

    Returns:
        A new model of the same kind; compiled, with the optimizer's state carried over, if the
        given one was. New variables start with no momentum and with the layer's mean second
        moment.

    Raises:
        UnsupportedLayerError: Where no block can follow the layer.
        ValueError: Where there is no such layer, or `batch_norm` lacks `data`.

    Example:
        >>> import keras, numpy as np, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu", name="a"),
        ...                           keras.layers.Dense(2)])
        >>> deep = net2net.deepen(model, "a")
        >>> x = np.ones((1, 3), "float32")
        >>> deep.layers[1].name, bool(np.allclose(model(x), deep(x), atol=1e-6))
        ('a_deeper', True)
    """
    return deepen_model(
        model,
        [layer],
        batch_norm=batch_norm,
        data=data,
        generator=np.random.default_rng(seed),
        learning_rate=learning_rate,
    )


def deepen_model(
    model: Any,
    layers: Iterable[Any],
    *,
    batch_norm: bool,
    data: Any,
    generator: np.random.Generator,
    learning_rate: float | None,
) -> Any:
    """Return a model with a block after each of several layers, built in one go.

    Args:
        model: The model.
        layers: The layers, as `deepen` takes them.
        batch_norm: As in `deepen`.
        data: As in `deepen`.
        generator: Source of the residual blocks' first weights.
        learning_rate: As in `deepen`.

    Returns:
        The deeper model.
    """
    graph = graph_of(model)
    taken = {path.rsplit("/", 1)[-1] for path, _ in graph.layers()}
    blocks: list[tuple[Block, Any]] = []
    insertions: dict[int, list[Any]] = {}
    for one in layers:
        path, layer = find_layer(model, one, graph)
        place = _place(graph, path, layer)
        name = _free_name(layer.name, taken)
        with untouched_global_seed():
            block = _block(model, graph, place, name, batch_norm, data, generator)
        blocks.append((block, layer))
        insertions.setdefault(id(place.after.layer), []).extend(block.layers)

    def template(variable: Any) -> Any:
        """Return the kernel of the layer behind which an inserted variable stands."""
        for block, layer in blocks:
            for made in block.layers:
                if any(variable is one for one in made.variables):
                    return layer.trainable_variables[0]
        raise AssertionError(f"{variable.path} was not inserted")

    result = build_grown_model(
        model,
        WideningPlan(graph),
        generator=generator,
        learning_rate=learning_rate,
        insertions=insertions,
        template=template,
    )
    for block, _ in blocks:
        block.settle()
    return result.model


@dataclass(frozen=True)
class Depth:
    """What `deepenable` says about one layer.

    Args:
        kind: "identity", "residual", or empty where no block can follow.
        after: Path of the layer that the block would come after.
        obstacle: Why no block can follow; empty where one can.
    """

    kind: str
    after: str = ""
    obstacle: str = ""

    def __bool__(self) -> bool:
        return bool(self.kind)


def deepenable(model: Any) -> dict[str, Depth]:
    """Say which layers of a model a block can follow, of which kind, and why not the others.

    Args:
        model: A built Sequential or Functional model.

    Returns:
        For the path of every Dense or convolutional layer: what can be done. An entry is true
        where a block can follow.

    Raises:
        UnsupportedLayerError: Where the model is subclassed.
        ValueError: Where it is not built.

    Example:
        >>> import keras, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu", name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> found = net2net.deepenable(model)
        >>> found["a"].kind, found["b"].obstacle
        ('identity', 'it is an output of the model')
    """
    graph = graph_of(model)
    found = {}
    for path, layer in graph.layers():
        if not can_deepen(layer):
            continue
        try:
            place = _place(graph, path, layer)
        except UnsupportedLayerError as error:
            found[path] = Depth("", "", error.obstacle)
        else:
            found[path] = Depth("identity" if place.exact else "residual", place.after.path)
    return found


@dataclass(frozen=True)
class _Place:
    layer: Any
    after: LayerCall
    activation: Any
    exact: bool


def _place(graph: Graph, path: str, layer: Any) -> _Place:
    if not can_deepen(layer):
        raise UnsupportedLayerError(
            path,
            f"no block is known to follow {type(layer).__name__}",
            "Deepen after a Dense or a convolutional layer.",
        )
    after = graph.calls_of(layer)[0]
    activation = layer.activation
    if is_linear(activation):
        activation = None
        for kinds in ((keras.layers.BatchNormalization,), _ACTIVATIONS):
            following = _only_consumer(graph, after)
            if following is None or not isinstance(following.layer, kinds):
                continue
            if kinds is _ACTIVATIONS:
                if following.outputs[0] in graph.outputs:
                    continue
                activation = following.layer
            after = following
    if after.outputs[0] in graph.outputs:
        raise UnsupportedLayerError(
            path,
            "it is an output of the model",
            "Deepen after a layer before it, so that the output stays the model's last layer.",
        )
    return _Place(layer, after, activation, is_repeatable(activation))


_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
)


def _only_consumer(graph: Graph, call: LayerCall) -> LayerCall | None:
    tensor = call.outputs[0]
    consumers = [one for one in graph.calls_touching(tensor) if tensor in one.inputs]
    if len(consumers) != 1 or len(graph.calls_of(call.layer)) != 1 or tensor in graph.outputs:
        return None
    one = consumers[0]
    same_model = one.path.rpartition("/")[0] == call.path.rpartition("/")[0]
    return one if same_model and len(graph.calls_of(one.layer)) == 1 else None


def _block(
    model: Any,
    graph: Graph,
    place: _Place,
    name: str,
    batch_norm: bool,
    data: Any,
    generator: np.random.Generator,
) -> Block:
    tensor = place.after.outputs[0]
    shape = graph.shapes[tensor]
    if not place.exact:
        return residual_block(
            place.layer, place.activation, shape, name, batch_norm, int(generator.integers(2**31))
        )
    statistics = None
    if batch_norm:
        if data is None:
            raise ValueError(
                "batch_norm=True needs data=, inputs to the model from which the new "
                "BatchNormalization takes its statistics: with others it would change the result."
            )
        if tensor not in graph.symbols:
            raise UnsupportedLayerError(
                place.after.path,
                "it stands in a nested model, where data handed to the outer one cannot be seen",
                "Deepen the nested model itself, or leave batch_norm out.",
            )
        statistics = _moments(model, graph.symbols[tensor], data, place.layer)
    return identity_block(place.layer, place.activation, shape, name, statistics)


def _moments(model: Any, symbol: Any, data: Any, layer: Any) -> tuple[Any, Any]:
    """Return mean and variance of every channel at a tensor of the model, over all the data."""
    probe = keras.Model(model.inputs, symbol)
    values = np.asarray(probe.predict(data, verbose=0), dtype=np.float64)
    channels = channel_axis(layer, values.ndim)
    axes = tuple(axis for axis in range(values.ndim) if axis != channels)
    return values.mean(axis=axes), values.var(axis=axes)


def _free_name(name: str, taken: set[str]) -> str:
    wanted = found = f"{name}_deeper"
    count = 0
    while found in taken:
        count += 1
        found = f"{wanted}_{count}"
    taken.add(found)
    return found
