"""Build a grown model from its plan: layers, values, compilation and optimizer state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np

from net2net.errors import UnsupportedLayerError
from net2net.optimizer_state import carry_optimizer_state
from net2net.propagate import WideningPlan
from net2net.rebuild import RebuiltModel, rebuild
from net2net.rules.base import Weight
from net2net.rules.registry import rule_for
from net2net.weights import NewUnits, add_noise, grow_weight, reinitialize_new_units


def build_grown_model(
    model: Any,
    plan: WideningPlan,
    *,
    generator: np.random.Generator,
    new: NewUnits = "net2net",
    noise: float = 0.0,
    learning_rate: float | None = None,
    insertions: Mapping[int, Sequence[Any]] | None = None,
    template: Callable[[Any], Any] | None = None,
) -> RebuiltModel:
    """Return the model of a plan, with all values, compiled if the old one was.

    Args:
        model: The old model, which stays as it is.
        plan: The maps it grows by.
        generator: Source of fresh values and of noise.
        new: Kind of the new units. Defaults to "net2net".
        noise: Standard deviation of the noise on new units' outgoing weights. Defaults to 0.
        learning_rate: The rate to go on with. Defaults to None, the old one.
        insertions: Layers to put after others, by the old layer's identity. Defaults to none.
        template: Returns, for an inserted variable, the old one whose second moments it starts
            with. Defaults to None.

    Raises:
        UnsupportedLayerError: If it cannot be built.
        ValueError: If a learning rate is given for a model that is not compiled.
    """
    compiled = getattr(model, "compiled", False)
    if learning_rate is not None and not compiled:
        raise ValueError(
            f"learning_rate={learning_rate} was given, but model '{model.name}' is not compiled, "
            "so it has no optimizer. Compile it first, or leave the argument out."
        )
    with _strategy_scope(model):
        result = rebuild(model, plan, insertions)
        pairs: list[tuple[Any, Any, Weight | None]] = []
        changed = []
        for old, made in result.layers:
            weights = {id(one.variable): one for one in _weights_of(plan, old)}
            if any(one.axes for one in weights.values()):
                changed.append(old)
            for before, after in _paired_variables(old, made):
                weight = weights.get(id(before))
                _set_value(before, after, weight, new, noise, generator)
                pairs.append((before, after, weight))
        _warn_of_penalties(changed)
        if compiled:
            compile_like(model, result.model, learning_rate)
            if model.optimizer is not None:
                carry_optimizer_state(
                    model.optimizer,
                    result.model.optimizer,
                    pairs,
                    result.model.trainable_variables,
                    template,
                )
    return result


def compile_like(old: Any, new: Any, learning_rate: float | None) -> None:
    """Compile a model like another, with an optimizer and metrics of its own.

    Args:
        old: The compiled model.
        new: The model to compile.
        learning_rate: The rate to go on with; None for the old one's present rate or schedule.
    """
    # The live arguments, not their serialised form: a loss may be any function.
    arguments = dict(old._compile_config.config)
    arguments["optimizer"] = optimizer_like(old.optimizer, learning_rate)
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = keras.tree.map_structure(_metric_like, arguments.get(name))
    new.compile(**arguments)


def optimizer_like(old: Any, learning_rate: float | None) -> Any:
    """Return a new optimizer, not built, with another's settings.

    Args:
        old: The optimizer.
        learning_rate: The rate to go on with; None to keep the rate or schedule.

    Raises:
        ValueError: If a rate is given for an optimizer that has several.
    """
    config = old.get_config()
    inner = getattr(old, "inner_optimizer", None)
    if inner is not None:
        return type(old)(**{**config, "inner_optimizer": optimizer_like(inner, learning_rate)})
    if hasattr(old, "_inner_optimizers"):
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate={learning_rate} was given, but {type(old).__name__} has a rate for "
                "each of its optimizers. Set `model.optimizer.optimizers[k].learning_rate` "
                "afterwards."
            )
        return type(old).from_config(config)
    present = getattr(old, "_learning_rate", None)
    if learning_rate is not None:
        config["learning_rate"] = float(learning_rate)
    elif callable(present) and not hasattr(present, "assign"):
        config["learning_rate"] = present  # a schedule is without state, and may be the user's own
    return type(old).from_config(config)


def _metric_like(metric: Any) -> Any:
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric


def _strategy_scope(model: Any) -> AbstractContextManager[Any]:
    """Return the scope of the `tf.distribute` strategy that a model is under, if it is."""
    strategy = getattr(model, "_distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


def _weights_of(plan: WideningPlan, layer: Any) -> list[Weight]:
    rule = rule_for(layer)
    grown = plan.grown_layer(layer)
    return rule.weights(grown) if rule is not None and grown.maps else []


def _paired_variables(old: Any, made: Any) -> list[tuple[Any, Any]]:
    before, after = old.variables, made.variables
    if len(before) != len(after):
        raise UnsupportedLayerError(
            old.name,
            f"made again from its config it has {len(after)} variables instead of {len(before)}",
            "Complete its `get_config`.",
        )
    return list(zip(before, after, strict=True))


def _set_value(
    before: Any,
    after: Any,
    weight: Weight | None,
    new: NewUnits,
    noise: float,
    generator: np.random.Generator,
) -> None:
    value = np.array(keras.ops.convert_to_numpy(before))  # a copy: models share no memory
    if weight is not None and weight.axes:
        value = grow_weight(value, weight.axes)
        if new != "net2net":
            value = reinitialize_new_units(value, weight, new, generator)
        if noise:
            value = add_noise(value, weight.axes, noise, generator)
    if tuple(value.shape) != tuple(after.shape):
        raise UnsupportedLayerError(
            before.path.rpartition("/")[0],
            f"by its rule, weight '{before.name}' becomes {tuple(value.shape)}, but the layer "
            f"made from the new config has {tuple(after.shape)}",
            "Correct `weights` or `configure` of the rule registered for it.",
        )
    after.assign(value)


def _warn_of_penalties(layers: list[Any]) -> None:
    names = [
        layer.name
        for layer in layers
        if any(
            value is not None
            for key, value in vars(layer).items()
            if key.endswith(("_regularizer", "_constraint"))
        )
    ]
    if names:
        warnings.warn(
            f"The grown model's outputs are unchanged, but the regularisers or constraints of "
            f"{', '.join(names)} see other weights, so the penalty or the next step's projection "
            "changes. Lower the penalty's factor if the loss must go on without a jump.",
            UserWarning,
            stacklevel=4,
        )
