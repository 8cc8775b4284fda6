"""Compare what a model computes before and after it has grown, on inputs of its own kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from net2net.errors import UnsupportedLayerError, summary
from net2net.graph import Graph, find_models, functional_of, graph_of, plain_functional
from net2net.propagate import WideningPlan
from net2net.rules.registry import rule_for

_SIZES = (16, 32, 64, 128, 224)
"""Lengths that are tried for axes of any length."""
_TOLERANCES = {"float64": 1e-8, "float32": 1e-3, "float16": 0.05, "bfloat16": 0.2}


def check_function(old: Any, new: Any, plan: WideningPlan, check: Any) -> None:
    """Compare the outputs of a model and of the grown one.

    Args:
        old: The model.
        new: The grown model.
        plan: The maps it has grown by.
        check: True, or the inputs to compare on; None to compare where a layer carries state that
            no rule names.

    Raises:
        UnsupportedLayerError: If they differ; it names the first layer that does.
        ValueError: If `check=True` and no inputs can be made up that the model takes.
    """
    if check is None and not has_unnamed_state(old, plan.graph):
        return
    given = check is not None and check is not True
    try:
        inputs, expected = (check, _outputs(old, check)) if given else _try_inputs(old, plan)
    except Exception as error:  # a model's own code may raise anything
        if given:
            raise
        _say_that_nothing_was_compared(old, error, check)
        return
    if _difference(expected, _outputs(old, inputs)) > 0:
        return  # the model draws random numbers without a seed of its own
    if _difference(expected, _outputs(new, inputs)) <= _tolerance(old):
        return
    raise UnsupportedLayerError(
        _first_difference(old, new, plan, inputs),
        "made again for the grown model, it computes something else than before, since its config "
        "does not tell all of its state",
        "Complete its `get_config`, or give it a rule with `net2net.register_rule`; with "
        "`check=False` the grown model is returned as it is.",
    )


def has_unnamed_state(model: Any, graph: Graph) -> bool:
    """Return whether a part of a model may carry state that neither a rule nor a config tells."""
    plain = (keras.Sequential, type(plain_functional()))
    if any(type(one) not in plain for one in find_models(model)):
        return True
    return any(_may_have_unnamed_state(layer) for _, layer in graph.layers())


def _may_have_unnamed_state(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Layer):
        return False
    if any(not type(one).__module__.startswith("keras.") for one in layer._flatten_layers()):
        return True
    kept = bool(layer.variables) or any(
        hasattr(one, "save_assets") for one in layer._flatten_layers()
    )
    return "call" in vars(layer) or (rule_for(layer) is None and kept)


def _say_that_nothing_was_compared(model: Any, error: Exception, check: Any) -> None:
    text = (
        f"No inputs could be made up that model '{model.name}' takes ({summary(error)}), so it was "
        "not compared with the grown one. Hand some in: check=inputs."
    )
    if check is True:
        raise ValueError(text) from error
    warnings.warn(text, UserWarning, stacklevel=6)


def _try_inputs(model: Any, plan: WideningPlan) -> tuple[Any, list[Any]]:
    """Return made-up inputs that a model takes, and its outputs for them."""
    failure: Exception | None = None
    open_axes = any(None in tuple(one.shape)[1:] for one in functional_of(model).inputs)
    for size in _SIZES if open_axes else _SIZES[:1]:
        inputs = draw_inputs(model, plan.graph, size)
        try:
            found = _outputs(model, inputs)
        except Exception as error:  # a model's own code may raise anything
            failure = error
            continue
        if any(np.isfinite(one).any() for one in found):
            return inputs, found
        failure = ValueError("it gives no finite output for them")
    raise failure if failure is not None else AssertionError("sizes are there")


def draw_inputs(model: Any, graph: Graph, size: int = 16, rows: int = 4) -> Any:
    """Return random inputs of a model's signature.

    Whole numbers stay within the embeddings that they go into, words within a vocabulary.

    Args:
        model: The model.
        graph: Its graph.
        size: Length of axes of any length. Defaults to 16.
        rows: Size of the batch, where it is free. Defaults to 4.
    """
    generator = np.random.default_rng(0)
    functional = functional_of(model)
    flat = []
    for tensor, number in zip(functional.inputs, graph.entries[id(model)], strict=True):
        batch, *rest = tuple(tensor.shape)
        shape = (batch or rows, *(one or size for one in rest))
        drawn = _draw(tensor.dtype, shape, _readers(graph, number), generator)
        flat.append(keras.ops.convert_to_tensor(drawn))  # Keras takes no mixture with arrays
    return keras.tree.pack_sequence_as(functional._inputs_struct, flat)


def _draw(dtype: str, shape: tuple[int, ...], readers: list[Any], generator: Any) -> Any:
    for reader in readers:
        words = _vocabulary_of(reader)
        if words:
            return generator.choice(np.array(words), size=shape)
    if dtype == "string":
        return generator.choice(np.array(["a", "b"]), size=shape)
    if dtype == "bool":
        return generator.integers(2, size=shape).astype(bool)
    if "int" in dtype:
        limits = [int(one.input_dim) for one in readers if hasattr(one, "input_dim")]
        return generator.integers(min(limits, default=2), size=shape).astype(dtype)
    values = generator.normal(size=shape)
    values[shape[0] // 2 :] = np.abs(values[shape[0] // 2 :])  # logarithms want these
    return values.astype(dtype if dtype.startswith("float") else "float32")


def _vocabulary_of(layer: Any) -> list[Any]:
    if not hasattr(layer, "get_vocabulary"):
        return []
    return list(layer.get_vocabulary(include_special_tokens=False))


def _readers(graph: Graph, tensor: int) -> list[Any]:
    """Return the layers that read an input, beyond those without weights."""
    found, waiting, seen = [], [tensor], {tensor}
    while waiting:
        number = waiting.pop()
        for call in graph.calls_touching(number):
            if number not in call.inputs:
                continue
            found.append(call.layer)
            if getattr(call.layer, "weights", None) or hasattr(call.layer, "get_vocabulary"):
                continue
            waiting += [one for one in call.outputs if one not in seen]
            seen.update(call.outputs)
    return found


@contextmanager
def _kept_state(model: Any) -> Iterator[None]:
    """Put back what calls change at the end: states of recurrent layers and of random numbers."""
    restore = _state_restorer(model)
    try:
        yield
    finally:
        restore()


def _state_restorer(model: Any) -> Callable[[], None]:
    kept = [v for v in model.variables if not v.trainable]
    for one in model._flatten_layers():
        states = keras.tree.flatten(getattr(one, "states", None) or [])
        kept += [state for state in states if isinstance(state, keras.Variable)]
    values = [np.array(keras.ops.convert_to_numpy(one)) for one in kept]

    def restore() -> None:
        for one, value in zip(kept, values, strict=True):
            one.assign(value)

    return restore


def _outputs(model: Any, inputs: Any) -> list[Any]:
    with _kept_state(model):
        found = keras.tree.flatten(model(inputs, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in found]


def _difference(expected: Sequence[Any], found: Sequence[Any]) -> float:
    """Return the largest difference, relative to the largest value of each output."""
    if [one.shape for one in expected] != [one.shape for one in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.dtype.kind not in "fiub" and one.dtype.name != "bfloat16":
            worst = max(worst, 0.0 if np.array_equal(one, other) else float("inf"))
            continue
        one, other = one.astype("float64"), other.astype("float64")
        if not np.array_equal(np.isfinite(one), np.isfinite(other)):
            return float("inf")
        where = np.isfinite(one)
        if where.any():
            scale = max(float(np.abs(one[where]).max()), 1e-30)
            worst = max(worst, float(np.abs(one - other)[where].max()) / scale)
    return worst


def _tolerance(model: Any) -> float:
    types = {getattr(one, "compute_dtype", None) for one in model._flatten_layers()}
    return max(_TOLERANCES.get(one, 0.0) for one in [*types, "float32"] if one)


def _first_difference(old: Any, new: Any, plan: WideningPlan, inputs: Any) -> str:
    """Return the path of the first layer whose output differs, by the maps it should have."""
    later = _outer_calls(graph_of(new))
    for path, (tensors, symbols) in _outer_calls(plan.graph).items():
        if path not in later:
            continue
        try:
            expected = _intermediate(old, symbols, inputs)
            found = _intermediate(new, later[path][1], inputs)
        except Exception:  # a tensor that cannot be looked at, such as a mask
            continue
        for number, one, other in zip(tensors, expected, found, strict=False):
            for axis in range(one.ndim):
                if (number, axis) in plan.maps:
                    one = np.take(one, plan.maps[number, axis].source, axis=axis)
            if _difference([one], [other]) > _tolerance(old):
                return path
    return str(old.name)


def _outer_calls(graph: Graph) -> dict[str, tuple[list[int], list[Any]]]:
    """Return tensors and symbols that come out of each layer of the outermost model."""
    found: dict[str, tuple[list[int], list[Any]]] = {}
    for call in graph.calls:
        known = [one for one in call.outputs if one in graph.symbols]
        if known and call.path not in found:
            found[call.path] = (known, [graph.symbols[one] for one in known])
    return found


def _intermediate(model: Any, symbols: list[Any], inputs: Any) -> list[Any]:
    probe = keras.Model(functional_of(model)._inputs_struct, symbols)
    with _kept_state(model):
        found = keras.tree.flatten(probe(inputs, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in found]
