"""From a plan to a model: rebuild, set the values, carry the optimizer over."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np

from net2net.compiling import compile_like
from net2net.errors import UnsupportedLayerError
from net2net.planning import NewUnits
from net2net.rebuilding import Rebuilt, grown_of, rebuilt
from net2net.rules.base import Weight
from net2net.rules.registry import rule_for
from net2net.slots import carry_slots
from net2net.spreading import Plan
from net2net.weights import fresh_weight, grown_weight, noisy_weight


def grown_model(
    model: Any,
    plan: Plan,
    *,
    generator: np.random.Generator,
    new: NewUnits = "net2net",
    noise: float = 0.0,
    learning_rate: float | None = None,
    insertions: Mapping[int, Sequence[Any]] | None = None,
    template: Callable[[Any], Any] | None = None,
) -> Rebuilt:
    """Build the model of a plan, with all values, compiled if the old one was.

    Args:
        model: The old model, which stays as it is.
        plan: The maps it grows by.
        generator: Source of fresh values and of noise.
        new: What new units are.
        noise: Standard deviation of the noise on new units' outgoing weights.
        learning_rate: The rate to go on with, None for the old one.
        insertions: Layers to put after others.
        template: For an inserted variable, the old one whose second moments it starts with.

    Returns:
        The new model, and which layer stands for which.

    Raises:
        UnsupportedLayerError: Where it cannot be built.
        ValueError: Where a learning rate is given for a model that is not compiled.
    """
    if learning_rate is not None and not getattr(model, "compiled", False):
        raise ValueError(
            f"learning_rate={learning_rate} was given, but model '{model.name}' is not compiled, "
            "so it has no optimizer. Compile it first, or leave the argument out."
        )
    with _scope_of(model):
        result = rebuilt(model, plan, insertions)
        pairs: list[tuple[Any, Any, Weight | None]] = []
        changed = []
        for old, made in result.layers:
            entries = {id(one.variable): one for one in _weights_of(plan, old)}
            if any(one.axes for one in entries.values()):
                changed.append(old)
            for before, after in _variables(old, made):
                one = entries.get(id(before))
                _set(before, after, one, new, noise, generator)
                pairs.append((before, after, one))
        _warn_of_penalties(changed)
        if getattr(model, "compiled", False):
            compile_like(model, result.model, learning_rate)
            if model.optimizer is not None:
                carry_slots(
                    model.optimizer,
                    result.model.optimizer,
                    pairs,
                    result.model.trainable_variables,
                    template,
                )
    return result


def _scope_of(model: Any) -> AbstractContextManager[Any]:
    """Where a model under a `tf.distribute` strategy grows: under the same one."""
    strategy = getattr(model, "_distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


def _weights_of(plan: Plan, layer: Any) -> list[Weight]:
    rule = rule_for(layer)
    grown = grown_of(plan, layer)
    return rule.weights(grown) if rule is not None and grown.maps else []


def _variables(old: Any, made: Any) -> list[tuple[Any, Any]]:
    before, after = old.variables, made.variables
    if len(before) != len(after):
        raise UnsupportedLayerError(
            old.name,
            f"made again from its config it has {len(after)} variables instead of {len(before)}",
            "Complete its `get_config`.",
        )
    return list(zip(before, after, strict=True))


def _set(
    before: Any,
    after: Any,
    one: Weight | None,
    new: NewUnits,
    noise: float,
    generator: np.random.Generator,
) -> None:
    value = np.array(keras.ops.convert_to_numpy(before))  # a copy: models share no memory
    if one is not None and one.axes:
        value = grown_weight(value, one.axes)
        if new != "net2net":
            value = fresh_weight(value, one, new, generator)
        if noise:
            value = noisy_weight(value, one.axes, noise, generator)
    if tuple(value.shape) != tuple(after.shape):
        raise UnsupportedLayerError(
            before.path.rpartition("/")[0],
            f"by its rule, weight '{before.name}' becomes {tuple(value.shape)}, but the layer "
            f"made from the new config has {tuple(after.shape)}",
            "Correct `weights` or `configure` of the rule registered for it.",
        )
    after.assign(value)


def _warn_of_penalties(layers: list[Any]) -> None:
    named = [
        layer.name
        for layer in layers
        if any(
            value is not None
            for key, value in vars(layer).items()
            if key.endswith(("_regularizer", "_constraint"))
        )
    ]
    if named:
        warnings.warn(
            f"The model computes what it did, but the regularisers or constraints of "
            f"{', '.join(named)} see other weights, so the penalty or the next step's projection "
            "changes. Lower the penalty's factor if the loss must go on without a jump.",
            UserWarning,
            stacklevel=4,
        )
