"""Build a grown model from its plan: layers, values, compilation and optimizer state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from net2net.arguments import object_like
from net2net.check import check_function
from net2net.errors import UnsupportedLayerError
from net2net.model_state import metric_like, replace_optimizers, set_attribute
from net2net.optimizer_state import carry_optimizer_state
from net2net.propagate import WideningPlan
from net2net.rebuild import (
    RebuiltModel,
    carry_derived_state,
    carry_settings_of_variable,
    rebuild,
)
from net2net.rules.base import Weight
from net2net.weights import NewUnits, add_noise, grow_weight, reinitialize_new_units


@dataclass(frozen=True)
class Insertions:
    """Layers that are put after others.

    Args:
        after: The layers, by the identity of the old layer that they follow.
        initialize: Sets their values, once they are built.
        template: Returns, for one of their variables, the old one whose second moments it starts
            with.
    """

    after: Mapping[int, Sequence[Any]]
    initialize: Callable[[], None]
    template: Callable[[Any], Any]


def build_grown_model(
    model: Any,
    plan: WideningPlan,
    *,
    generator: np.random.Generator,
    new: NewUnits = "net2net",
    noise: float = 0.0,
    learning_rate: float | None = None,
    insertions: Insertions | None = None,
    check: Any = None,
) -> Any:
    """Return the model of a plan, with all values, compiled if the old one was.

    Args:
        model: The old model, which stays as it is.
        plan: The maps it grows by.
        generator: Source of fresh values and of noise.
        new: Kind of the new units. Defaults to "net2net".
        noise: Standard deviation of the noise on new units' outgoing weights. Defaults to 0.
        learning_rate: The rate to go on with. Defaults to None, the old one.
        insertions: Layers to put after others. Defaults to None.
        check: Whether to compare both models' outputs, or the inputs for that, as in `widen`.
            Defaults to None: where a layer carries state that no rule names.

    Raises:
        UnsupportedLayerError: If it cannot be built, or computes something else.
        ValueError: If a learning rate is given for a model that is not compiled.
    """
    compiled = getattr(model, "compiled", False)
    if learning_rate is not None and not compiled:
        raise ValueError(
            f"learning_rate={learning_rate} was given, but model '{model.name}' is not compiled, "
            "so it has no optimizer. Compile it first, or leave the argument out."
        )
    kept = new != "random" and not noise
    with strategy_scope(model):
        arguments = compile_arguments(model, learning_rate) if compiled else {}
        result = rebuild(model, plan, insertions.after if insertions else None)
        pairs = _set_values(result, plan, new, noise, generator)
        if insertions is not None:
            insertions.initialize()
        template = insertions.template if insertions else None
        known: dict[int, Any] = {}
        if compiled:
            # A class's own `compile` may take other arguments; what it has set is carried over.
            keras.Model.compile(result.model, **arguments)
            result.model.jit_compile = model.jit_compile
            if model.loss is not model._compile_config.config.get("loss"):
                result.model.loss = model.loss  # a class's own `compile` has set it
            if model.optimizer is not None:
                carry_optimizer_state(
                    model.optimizer,
                    result.model.optimizer,
                    pairs,
                    result.model.trainable_variables,
                    template,
                )
                known[id(model.optimizer)] = result.model.optimizer
        _carry_further_optimizers(result, pairs, known)
        if check is not False and not (check is None and not kept):
            check_function(model, result.model, plan, check)
    return result.model


def compile_arguments(old: Any, learning_rate: float | None) -> dict[str, Any]:
    """Return the arguments to compile a model like another, with an optimizer of its own.

    Args:
        old: The compiled model.
        learning_rate: The rate to go on with; None for the old one's present rate or schedule.

    Raises:
        UnsupportedLayerError: If the optimizer cannot be made again.
    """
    # The live arguments, not their serialised form: a loss may be any function.
    arguments = dict(old._compile_config.config)
    arguments["optimizer"] = optimizer_like(old.optimizer, learning_rate)
    # What may have been set on the model since.
    arguments["run_eagerly"] = old.run_eagerly
    arguments["steps_per_execution"] = old.steps_per_execution
    # The old optimizer is wrapped already if it is to be.
    arguments["auto_scale_loss"] = False
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = keras.tree.map_structure(metric_like, arguments.get(name))
    return arguments


def optimizer_like(old: Any, learning_rate: float | None) -> Any:
    """Return a new optimizer, not built, with another's settings.

    Args:
        old: The optimizer, or None.
        learning_rate: The rate to go on with; None to keep the rate or schedule.

    Raises:
        UnsupportedLayerError: If it cannot be made again from its config.
        ValueError: If a rate is given for an optimizer that has several.
    """
    if old is None:
        return None
    inner = getattr(old, "inner_optimizer", None)
    if hasattr(old, "_inner_optimizers") and learning_rate is not None:
        raise ValueError(
            f"learning_rate={learning_rate} was given, but {type(old).__name__} has a rate for "
            "each of its optimizers. Set `model.optimizer.optimizers[k].learning_rate` "
            "afterwards."
        )
    try:
        config = _config_with_live_rate(old)
        if inner is not None:
            config["inner_optimizer"] = optimizer_like(inner, learning_rate)
            return object_like(old, config, lambda one: type(old)(**one))
        if learning_rate is not None:
            config["learning_rate"] = float(learning_rate)
        return object_like(old, config)
    except (TypeError, ValueError, NotImplementedError) as error:
        kind = type(old).__name__
        raise UnsupportedLayerError(
            old.name,
            f"the optimizer {kind} cannot be made again from its config ({error})",
            f"Complete `get_config` of {kind}, or grow the model before it is compiled.",
        ) from error


def _config_with_live_rate(optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's config with its schedule itself: it may have no config."""
    rate = vars(optimizer).get("_learning_rate")
    if not callable(rate) or isinstance(rate, keras.Variable):
        return dict(optimizer.get_config())
    vars(optimizer)["_learning_rate"] = None  # a schedule has no state, so that both may use it
    try:
        config = dict(optimizer.get_config())
    finally:
        vars(optimizer)["_learning_rate"] = rate
    return {**config, "learning_rate": rate}


def _set_values(
    result: RebuiltModel,
    plan: WideningPlan,
    new: NewUnits,
    noise: float,
    generator: np.random.Generator,
) -> list[tuple[Any, Any, Weight | None]]:
    """Set all values, and return every old variable with the new one and its maps."""
    pairs: list[tuple[Any, Any, Weight | None]] = []
    known: dict[int, Any] = {}
    for old, made in result.layers:
        weights = {id(one.variable): one for one in plan.weights(old)}
        for before, after in _paired_variables(old, made):
            if known.get(id(before)) is after:
                continue  # set already, with a layer that this model is over
            if known.setdefault(id(before), after) is not after:
                raise UnsupportedLayerError(
                    old.name,
                    f"it has '{before.path}' together with another layer, and made again from "
                    "their configs, each would have its own",
                    "Call one layer twice instead, such as `keras.layers.ReversibleEmbedding`.",
                )
            weight = weights.get(id(before))
            _set_value(before, after, weight, new, noise, generator)
            pairs.append((before, after, weight))
        if isinstance(old, keras.layers.Layer):
            carry_derived_state(old, made)
    for before, after in result.variables:
        _set_value(before, after, None, new, noise, generator)
        pairs.append((before, after, None))
    warn_of_penalties([old for old, _ in result.layers if plan.touches(old)])
    return pairs


def _carry_further_optimizers(
    result: RebuiltModel, pairs: list[tuple[Any, Any, Weight | None]], known: dict[int, Any]
) -> None:
    """Set the optimizers that a model has beside `compile`'s, as those that train GANs have.

    Args:
        result: The new model.
        pairs: Old variable, new variable, and the old one's maps.
        known: The new optimizer in the place of each old one, by identity.
    """
    places = {id(before): after for before, after, _ in pairs}

    def made(model: Any, name: str, old: Any) -> Any:
        if id(old) in known:
            return known[id(old)]
        new = known[id(old)] = optimizer_like(old, None)
        trainable = [places.get(id(one)) for one in getattr(old, "_trainable_variables", ())]
        if any(one is None for one in trainable):
            raise UnsupportedLayerError(
                model.name,
                f"its optimizer '{name}' trains variables that are not the model's",
                "Set the attribute after the model has grown.",
            )
        carry_optimizer_state(old, new, pairs, trainable)
        return new

    for model, name in result.optimizers:
        value = replace_optimizers(getattr(model, name), partial(made, model, name))
        set_attribute(model, name, value)


def strategy_scope(model: Any) -> AbstractContextManager[Any]:
    """Return the scope of the `tf.distribute` strategy that a model is under, if it is."""
    strategy = getattr(model, "_distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


def _adapt_alike(old: Any, made: Any) -> None:
    """Give the layers inside a new one the LoRA matrices that no config tells of."""
    if not isinstance(old, keras.layers.Layer):
        return
    for before, after in zip(old._flatten_layers(), made._flatten_layers(), strict=False):
        if getattr(before, "lora_enabled", False) and not after.lora_enabled:
            after.enable_lora(before.lora_rank, lora_alpha=before.lora_alpha)


def _paired_variables(old: Any, made: Any) -> list[tuple[Any, Any]]:
    _adapt_alike(old, made)
    before, after = _state_of(old), _state_of(made)
    if len(before) != len(after):
        raise UnsupportedLayerError(
            old.name,
            f"made again from its config it has {len(after)} variables instead of {len(before)}",
            "Complete its `get_config`; or grow the model before a layer inside is quantised.",
        )
    return list(zip(before, after, strict=True))


def _state_of(layer: Any) -> list[Any]:
    """Return a layer's variables, and the states that recurrent layers keep between batches."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    found = list(layer.variables)
    for one in layer._flatten_layers():
        states = keras.tree.flatten(getattr(one, "states", None) or [])
        found += [
            state
            for state in states
            if isinstance(state, keras.Variable) and not any(state is known for known in found)
        ]
    return found


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
    carry_settings_of_variable(before, after)


def warn_of_penalties(layers: list[Any]) -> None:
    """Warn where growth changes what regularisers and constraints see.

    Args:
        layers: The layers that have grown, or whose inputs and outputs have.
    """
    names = [layer.name for layer in layers if has_penalty(layer)]
    if names:
        warnings.warn(
            f"The grown model's outputs are unchanged, but the regularisers or constraints of "
            f"{', '.join(names)} see other weights, so the penalty or the next step's projection "
            "changes. Lower the penalty's factor if the loss must go on without a jump.",
            UserWarning,
            stacklevel=6,
        )


def has_penalty(layer: Any) -> bool:
    """Return whether a layer, or one in it, has a regulariser or constraint."""
    if not isinstance(layer, keras.layers.Layer):
        return False
    found = [
        value
        for one in layer._flatten_layers()
        for key, value in vars(one).items()
        if key.endswith(("_regularizer", "_constraint"))
    ]
    for variable in layer.variables:  # it may have been set on a variable by itself
        found += [getattr(variable, name, None) for name in ("regularizer", "constraint")]
    return any(value is not None and not _is_zero(value) for value in found)


def _is_zero(penalty: Any) -> bool:
    return type(penalty) is keras.regularizers.L1L2 and not (penalty.l1 or penalty.l2)
