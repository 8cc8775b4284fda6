"""Deeper models: `deepen` inserts a block that is at first an identity, `deepenable` reports."""

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
    is_idempotent,
    is_linear,
    residual_block,
)
from net2net.build import Insertions, build_grown_model, strategy_scope
from net2net.errors import UnsupportedLayerError, renamed_attribute
from net2net.graph import Graph, LayerCall, Shape, find_layer, find_models, free_name, graph_of
from net2net.propagate import WideningPlan
from net2net.rebuild import preserve_global_seed
from net2net.rules.convolution import channel_axis

_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
)


def deepen(
    model: Any,
    layer: str | int | Any,
    *,
    batch_norm: bool = False,
    data: Any = None,
    seed: int = 0,
    learning_rate: float | None = None,
    check: Any = None,
) -> Any:
    """Return a deeper model that computes the same: a new block follows a layer.

    Net2DeeperNet (Chen, Goodfellow and Shlens 2016, section 2.2): after a linear, ReLU or ReLU6
    activation φ the block is φ(x · I), exact since φ(φ(x)) = φ(x). After any other activation,
    where that would not hold, it is x + W₂ φ(W₁ x) with W₂ = 0. Where BatchNormalization and an
    activation layer directly follow the layer, the block comes after them.

    Args:
        model: A built Sequential or Functional model; it stays as it is.
        layer: A name, a path ("inner/dense"), an index into `model.layers`, or the layer: a
            Dense or convolutional one.
        batch_norm: Whether the block has a BatchNormalization too. Defaults to False.
        data: Inputs to the model, from which the new BatchNormalization takes its statistics
            (mean and variance of the channels where the block begins). Defaults to None.
        seed: Seed of the residual block's first weights. Defaults to 0.
        learning_rate: The new optimizer's rate. Defaults to None, the present one.
        check: Whether to compare both models' outputs, as in `widen`. Defaults to None: where a
            layer carries state that no rule names.

    Returns:
        A new model of the same kind; compiled, with the optimizer's state carried over, if the
        given one was. New variables start with no momentum and with the layer's mean second
        moment.

    Raises:
        UnsupportedLayerError: If no block can follow the layer.
        ValueError: If there is no such layer, or `batch_norm` lacks `data`.

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
        check=check,
    )


def deepen_model(
    model: Any,
    layers: Iterable[Any],
    *,
    batch_norm: bool,
    data: Any,
    generator: np.random.Generator,
    learning_rate: float | None,
    check: Any = None,
) -> Any:
    """Return a model with a block after each of several layers, built at once.

    The arguments are those of `deepen`, but for `generator`, the source of the residual blocks'
    first weights.
    """
    graph = graph_of(model)
    taken = {path.rsplit("/", 1)[-1] for path, _ in graph.layers()}
    taken |= {one.name for one in find_models(model)}
    blocks: list[tuple[Block, Any]] = []
    insertions: dict[int, list[Any]] = {}
    for one in layers:
        path, layer = find_layer(model, one, graph)
        point = insertion_point(graph, path, layer)
        name = free_name(f"{layer.name}_deeper", taken)
        with preserve_global_seed(), strategy_scope(model):
            block = _build_block(model, graph, point, name, batch_norm, data, generator)
        blocks.append((block, layer))
        insertions.setdefault(id(point.after.layer), []).extend(block.layers)

    def template(variable: Any) -> Any:
        """Return the kernel of the layer that an inserted variable follows, or a trained one."""
        for block, layer in blocks:
            for made in block.layers:
                if any(variable is one for one in made.variables):
                    return [*layer.trainable_variables, *model.trainable_variables, variable][0]
        raise AssertionError(f"{variable.path} was not inserted")

    def initialize() -> None:
        for block, _ in blocks:
            block.initialize()

    return build_grown_model(
        model,
        WideningPlan(graph),
        generator=generator,
        learning_rate=learning_rate,
        insertions=Insertions(insertions, initialize, template),
        check=check,
    )


@dataclass(frozen=True)
class Depth:
    """Result of `deepenable` for one layer; true if a block can follow it.

    Args:
        kind: "identity", "residual", or empty where no block can follow.
        after: Path of the layer that the block would come after. Defaults to "".
        reason: Why no block can follow. Defaults to "": one can.
    """

    kind: str
    after: str = ""
    reason: str = ""

    obstacle = renamed_attribute("obstacle", "reason")

    def __bool__(self) -> bool:
        return bool(self.kind)


def deepenable(model: Any) -> dict[str, Depth]:
    """Return which layers a block can follow, of which kind, and why not the others.

    Args:
        model: A built Sequential or Functional model.

    Returns:
        A `Depth` for the path of every Dense or convolutional layer.

    Raises:
        UnsupportedLayerError: If the model is subclassed.
        ValueError: If it is not built.

    Example:
        >>> import keras, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu", name="a"),
        ...                           keras.layers.Dense(2, name="b")])
        >>> found = net2net.deepenable(model)
        >>> found["a"].kind, found["b"].reason
        ('identity', 'it is an output of the model')
    """
    graph = graph_of(model)
    found = {}
    for path, layer in graph.layers():
        if not can_deepen(layer):
            continue
        try:
            point = insertion_point(graph, path, layer)
        except UnsupportedLayerError as error:
            found[path] = Depth("", "", error.reason)
        else:
            found[path] = Depth("identity" if point.exact else "residual", point.after.path)
    return found


@dataclass(frozen=True)
class InsertionPoint:
    """Place of a block: the layer, the call that the block follows, and its activation."""

    layer: Any
    after: LayerCall
    activation: Any
    exact: bool


def insertion_point(graph: Graph, path: str, layer: Any) -> InsertionPoint:
    """Return where a block after a layer goes, or refuse.

    Raises:
        UnsupportedLayerError: If no block can follow the layer.
    """
    if not can_deepen(layer):
        raise UnsupportedLayerError(
            path,
            f"no block is known to follow {type(layer).__name__}",
            "Deepen after a Dense or a convolutional layer.",
        )
    around = graph.composite_around(layer)
    if around is not None:
        raise UnsupportedLayerError(
            path,
            f"it is inside '{around.path}', and nothing can be put into a layer",
            "Deepen after a layer beside it, or copy it whole with `net2net.copy_blocks`.",
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
    if any(call.outputs[0] in graph.outputs for call in graph.calls_of(after.layer)):
        raise UnsupportedLayerError(
            path,
            "it is an output of the model",
            "Deepen after a layer before it, so that the output stays the model's last layer.",
        )
    return InsertionPoint(layer, after, activation, is_idempotent(activation))


def _only_consumer(graph: Graph, call: LayerCall) -> LayerCall | None:
    tensor = call.outputs[0]
    consumers = [one for one in graph.calls_touching(tensor) if tensor in one.inputs]
    if len(consumers) != 1 or len(graph.calls_of(call.layer)) != 1 or tensor in graph.outputs:
        return None
    one = consumers[0]
    same_model = one.path.rpartition("/")[0] == call.path.rpartition("/")[0]
    return one if same_model and len(graph.calls_of(one.layer)) == 1 else None


def _build_block(
    model: Any,
    graph: Graph,
    point: InsertionPoint,
    name: str,
    batch_norm: bool,
    data: Any,
    generator: np.random.Generator,
) -> Block:
    tensor = point.after.outputs[0]
    shape = _shape_of_all(graph, point.after)
    if not point.exact:
        return residual_block(
            point.layer, point.activation, shape, name, batch_norm, int(generator.integers(2**31))
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
                point.after.path,
                "it stands in a nested model, where data handed to the outer one cannot be seen",
                "Deepen the nested model itself, or leave batch_norm out.",
            )
        statistics = _moments(model, graph.symbols[tensor], data, point.layer)
    return identity_block(point.layer, point.activation, shape, name, statistics)


def _shape_of_all(graph: Graph, call: LayerCall) -> Shape:
    """Return the shape of what comes out of all calls of a shared layer, None where it differs.

    Raises:
        UnsupportedLayerError: If the calls' outputs have different ranks.
    """
    shapes = [graph.shapes[one.outputs[0]] for one in graph.calls_of(call.layer)]
    if len({len(shape) for shape in shapes}) > 1:
        raise UnsupportedLayerError(
            call.path,
            "it is shared, and called with inputs of different ranks",
            "Use one layer for each kind, or deepen after another.",
        )
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))


def _moments(model: Any, symbol: Any, data: Any, layer: Any) -> tuple[Any, Any]:
    """Return mean and variance of every channel of a tensor of the model, over all data."""
    probe = keras.Model(model.inputs, symbol)
    values = np.asarray(probe.predict(data, verbose=0), dtype=np.float64)
    channels = channel_axis(layer, values.ndim)
    axes = tuple(axis for axis in range(values.ndim) if axis != channels)
    return values.mean(axis=axes), values.var(axis=axes)
