"""Deeper models by copies of their own blocks: `copy_blocks`.

A copy of a residual block follows it, with the last kernels of its branches set to zero, so that
it passes its input on until it is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from net2net.blocks import is_idempotent, is_linear
from net2net.build import Insertions, build_grown_model, strategy_scope
from net2net.composites import is_composite
from net2net.errors import UnsupportedLayerError
from net2net.graph import Graph, find_models, free_name, functional_of, graph_of, is_model
from net2net.propagate import WideningPlan
from net2net.rebuild import (
    carry_settings_inside,
    carry_settings_of_variable,
    copy_of_layer,
    preserve_global_seed,
)

Block = str | tuple[str, str]


def copy_blocks(
    model: Any,
    blocks: Iterable[Block],
    *,
    seed: int = 0,
    learning_rate: float | None = None,
    check: Any = None,
) -> Any:
    """Return a deeper model that computes the same: a copy follows each of several blocks.

    Depth up-scaling. A block is residual: its output is its input plus branches. The copy has the
    block's trained weights, but for the last kernel and bias of each branch (or the scale and
    offset of a normalisation that comes last), which are zero: y = x + 0.

    Args:
        model: A built Sequential or Functional model; it stays as it is.
        blocks: The blocks. Each is the names of its first and last layer, where the last is
            the sum (or the activation right after it); or the name of one nested model.
        seed: Seed of all random choices. Defaults to 0.
        learning_rate: The new optimizer's rate. Defaults to None, the present one.
        check: Whether to compare both models' outputs, as in `widen`. Defaults to None.

    Returns:
        A new model of the same kind, with each copy as one nested model after its block;
        compiled, with the optimizer's state carried over, if the given one was.

    Raises:
        UnsupportedLayerError: If a block is not residual, so that no copy would pass its input on.
        ValueError: If there is no such layer.

    Example:
        >>> import keras, numpy as np, net2net
        >>> inputs = keras.Input((4,))
        >>> x = keras.layers.Dense(8, "gelu", name="in")(inputs)
        >>> x = keras.layers.Add(name="out")([inputs, keras.layers.Dense(4, name="mix")(x)])
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(x))
        >>> deep = net2net.copy_blocks(model, [("in", "out")])
        >>> x = np.ones((1, 4), "float32")
        >>> deep.layers[4].name, bool(np.allclose(model(x), deep(x), atol=1e-6))
        ('out_copy', True)
    """
    graph = graph_of(model)
    copies: list[_Copy] = []
    after: dict[int, list[Any]] = {}
    taken = {path.rsplit("/", 1)[-1] for path, _ in graph.layers()}
    taken |= {one.name for one in find_models(model)}
    with preserve_global_seed(), strategy_scope(model):
        for block in blocks:
            region = _find_region(model, block)
            one = _copy_region(region, free_name(f"{region.last.name}_copy", taken))
            copies.append(one)
            after.setdefault(id(region.last), []).append(one.model)

    def initialize() -> None:
        for one in copies:
            one.initialize()

    def template(variable: Any) -> Any:
        """Return the old variable that a copied one was copied from."""
        for one in copies:
            for old, new in one.layers:
                for before, made in zip(old.variables, new.variables, strict=True):
                    if made is variable:
                        return before
        raise AssertionError(f"{variable.path} was not copied")

    return build_grown_model(
        model,
        WideningPlan(graph),
        generator=np.random.default_rng(seed),
        learning_rate=learning_rate,
        insertions=Insertions(after, initialize, template),
        check=check,
    )


@dataclass(frozen=True)
class _Region:
    """A part of a model with one tensor that enters and one that leaves it."""

    view: Any
    last: Any
    graph: Graph
    zeroed: tuple[Any, ...]


@dataclass(frozen=True)
class _Copy:
    model: Any
    layers: list[tuple[Any, Any]]
    initialize: Callable[[], None]


def _find_region(model: Any, block: Block) -> _Region:
    layers = {layer.name: layer for layer in functional_of(model).layers}
    names = (block,) if isinstance(block, str) else tuple(block)
    for name in names:
        if name not in layers:
            raise ValueError(
                f"Model '{model.name}' has no layer '{name}'. Its layers are {', '.join(layers)}."
            )
    last = layers[names[-1]]
    calls = [
        [one for one in _nodes(model) if one.operation is layers[name]]
        for name in (names[0], names[-1])
    ]
    if any(len(found) != 1 for found in calls):
        raise UnsupportedLayerError(
            last.name,
            "a layer of it is called more than once",
            "Copy a block with weights of its own.",
        )
    leaving = calls[-1][0].output_tensors[0]
    if any(leaving is one for one in functional_of(model).outputs):
        raise UnsupportedLayerError(
            last.name,
            "it is an output of the model",
            "Copy a block before it, so that the output stays the model's last layer.",
        )
    entering = calls[0][0].input_tensors[0]
    before = entering._keras_history.operation
    while is_model(before):
        before = functional_of(before).outputs[0]._keras_history.operation
    if len(names) == 2 or is_composite(last):
        view = _view(last.name, entering, leaving)
    elif is_model(last):
        view = functional_of(last)
    else:
        raise ValueError(
            f"'{last.name}' is one layer. Name a block by its first and last layer, for example "
            f"('norm', '{last.name}'), or by the name of a nested model."
        )
    if len(view.inputs) != 1 or len(view.outputs) != 1:
        raise UnsupportedLayerError(
            last.name, "it has several inputs or outputs", "Copy a block with one of each."
        )
    graph = graph_of(view)
    zeroed = _branch_ends(graph, last.name, before)
    return _Region(view, last, graph, zeroed)


def _nodes(model: Any) -> list[Any]:
    return [one for nodes in functional_of(model)._nodes_by_depth.values() for one in nodes]


def _view(name: str, entering: Any, leaving: Any) -> Any:
    try:
        view = keras.Model(entering, leaving)
    except ValueError as error:
        raise UnsupportedLayerError(
            name,
            "other tensors enter the block than the one that its first layer reads",
            "Name the first layer after the tensor that the whole block starts from.",
        ) from error
    return view


def _branch_ends(graph: Graph, name: str, before: Any) -> tuple[Any, ...]:
    """Return the layers whose values must be zero for a block to pass its input on.

    Raises:
        UnsupportedLayerError: If the block is not residual.
    """
    producers = {tensor: call for call in graph.calls for tensor in call.outputs}
    (entry,) = graph.inputs
    (leaving,) = graph.outputs
    ends: list[Any] = []

    def skips(tensor: int) -> bool:
        if tensor == entry:
            return True
        call = producers[tensor]
        if _is_sum(call.layer) and len(call.inputs) >= 2:
            ways = [skips(one) for one in call.inputs]
            if sum(ways) != 1:
                return False
            for one, way in zip(call.inputs, ways, strict=True):
                if not way:
                    ends.append(_last_layer_with_weights(producers, one, name))
            return True
        same = type(before) is type(call.layer) and is_idempotent(call.layer)
        if same or type(call.layer) is keras.layers.Identity or _is_dropout(call.layer):
            return skips(call.inputs[0])
        return False

    if not skips(leaving) or not ends:
        raise UnsupportedLayerError(
            name,
            "the block is not residual: its output is not its input plus branches",
            "Use `net2net.deepen`, which inserts a block that is an identity.",
        )
    return tuple(ends)


def _is_sum(layer: Any) -> bool:
    return type(layer) is keras.layers.Add or type(layer).__module__ + type(layer).__name__ == (
        "keras.src.ops.numpyAdd"
    )


def _is_dropout(layer: Any) -> bool:
    return "Dropout" in type(layer).__name__ or type(layer).__name__ == "StochasticDepth"


def _last_layer_with_weights(producers: dict[int, Any], tensor: int, name: str) -> Any:
    """Return the layer of a branch that can make it zero."""
    while tensor in producers:
        call = producers[tensor]
        if _zeroes(call.layer) is not None:
            return call.layer
        if not (_is_dropout(call.layer) or type(call.layer) in _PASSING):
            break
        tensor = call.inputs[0]
    raise UnsupportedLayerError(
        name,
        "a branch of the block does not end in a layer without activation that could be zero",
        "End the branch in Dense, a convolution, attention or a normalisation with a scale.",
    )


_PASSING = (keras.layers.Identity, keras.layers.ReLU, keras.layers.Reshape)


def _zeroes(layer: Any) -> list[Any] | None:
    """Return the variables that must be zero for a layer to give zeros, None if none do that."""
    if isinstance(layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
        layer = layer._output_dense
    if isinstance(layer, keras.layers.Layer) and type(layer).__name__ == "LayerScale":
        return [layer.gamma]
    if hasattr(layer, "gamma") and isinstance(getattr(layer, "gamma", None), keras.Variable):
        beta = getattr(layer, "beta", None)
        return [layer.gamma, *([beta] if isinstance(beta, keras.Variable) else [])]
    if isinstance(layer, keras.layers.RMSNormalization):
        return [layer.scale]
    if isinstance(layer, keras.layers.SeparableConv1D | keras.layers.SeparableConv2D):
        kernels = [layer.pointwise_kernel]
    elif isinstance(getattr(layer, "kernel", None), keras.Variable):
        kernels = [layer.kernel]
    else:
        return None
    if not is_linear(layer.activation):
        return None
    return [*kernels, *([layer.bias] if layer.bias is not None else [])]


def _copy_region(region: _Region, name: str) -> _Copy:
    pairs: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        if is_model(layer):
            raise UnsupportedLayerError(
                layer.name, "it is a model within the block", "Copy blocks of plain layers."
            )
        new = copy_of_layer(layer)
        if isinstance(layer, keras.layers.Layer):
            pairs.append((layer, new))
        return new

    view = keras.Model(region.view._inputs_struct, region.view._outputs_struct)
    made = keras.models.clone_model(view, clone_function=clone)
    model = keras.Model(made._inputs_struct, made._outputs_struct, name=name)

    def initialize() -> None:
        for old, new in pairs:
            for before, after in zip(old.variables, new.variables, strict=True):
                after.assign(np.array(keras.ops.convert_to_numpy(before)))
        for old, new in pairs:
            parts = zip(old._flatten_layers(), new._flatten_layers(), strict=True)
            for part, made in parts:
                if any(part is one for one in region.zeroed):
                    for variable in _zeroes(made) or []:
                        variable.assign(np.zeros(tuple(variable.shape)))
            carry_settings_inside(old, new)
            for before, after in zip(old.variables, new.variables, strict=True):
                carry_settings_of_variable(before, after)

    return _Copy(model, pairs, initialize)
