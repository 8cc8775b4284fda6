"""Carry an optimizer's state over: momenta, second moments, step counter, averaged weights.

The loss as a function of the grown weights has ∂/∂W' = s_j · ∂/∂W for a copy's incoming weights
and ∂/∂W' = ∂/∂W for its outgoing ones, the reverse of what growth does to the weights. A slot
that is linear in the gradient follows that, a slot that is quadratic follows its square.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from net2net.rules.base import Weight
from net2net.weights import Array, grow_slot, grow_weight

_POWERS: dict[str, dict[str, int]] = {
    "SGD": {"momentums": 1},
    "Adam": {"_momentums": 1, "_velocities": 2, "_velocity_hats": 2},
    "AdamW": {"_momentums": 1, "_velocities": 2, "_velocity_hats": 2},
    "Lamb": {"_momentums": 1, "_velocities": 2},
    "Nadam": {"_momentums": 1, "_velocities": 2},
    "Adamax": {"_m": 1, "_u": 1},
    "Adagrad": {"_accumulators": 2},
    "Adadelta": {"_accumulated_grads": 2, "_accumulated_delta_vars": 0},
    # The momentum of RMSprop is one of updates, from which the gradient's scale is divided out.
    "RMSprop": {"_velocities": 2, "_average_gradients": 1, "_momentums": 0},
    "Lion": {"_momentums": 1},
}
"""By which power of the gradient's scale each slot of each optimizer grows."""

_ALWAYS = {"_accumulated_gradients": 1}
_AVERAGED_WEIGHTS = "_model_variables_moving_average"


def carry_optimizer_state(
    old: Any,
    new: Any,
    pairs: list[tuple[Any, Any, Weight | None]],
    trainable: list[Any],
    template: Callable[[Any], Any] | None = None,
) -> None:
    """Give a new optimizer an old one's state, for a model that has grown.

    Args:
        old: The old model's optimizer.
        new: The new model's optimizer, not built.
        pairs: Old variable, new variable, and the old one's maps, for every variable.
        trainable: The new model's trainable variables.
        template: For a new trainable variable without an old one, the old variable whose mean
            second moments it starts with.
    """
    inner = getattr(old, "inner_optimizer", None)
    if inner is not None:
        carry_optimizer_state(inner, new.inner_optimizer, pairs, trainable, template)
        if old.built:
            new.build(trainable)
            _copy_scalars(old, new)
        return
    if not old.built:
        return
    if not hasattr(old, "_trainable_variables_indices"):
        _warn_of_fresh(old)
        return
    if not new.built:
        new.build(trainable)
    _copy_scalars(old, new)
    parts = zip(_parts(old), _parts(new), strict=True)
    for before, after in parts:
        # Each optimizer of a MultiOptimizer has the slots of its own variables.
        carry_optimizer_state(before, after, pairs, list(after._trainable_variables), template)
    if _parts(old):
        return
    known = {id(after): (before, weight) for before, after, weight in pairs}
    powers = {**_ALWAYS, **_POWERS.get(type(old).__name__, {})}
    unknown = [
        name for name in _slot_lists(old) if name not in powers and name != _AVERAGED_WEIGHTS
    ]
    if unknown:
        _warn_of_fresh(old)
    for name in _slot_lists(old):
        if name in unknown or not getattr(new, name, None):
            continue
        power = None if name == _AVERAGED_WEIGHTS else powers[name]
        for place, variable in enumerate(trainable):
            slot = getattr(new, name)[place]
            if slot is None:
                continue
            if id(variable) in known:
                before, weight = known[id(variable)]
                value = _slot_of(old, name, before)
                if value is not None:
                    slot.assign(_grown(keras.ops.convert_to_numpy(value), weight, power))
            elif power is None:
                slot.assign(keras.ops.convert_to_numpy(variable).copy())
            elif power == 2 and template is not None:
                # With no second moment at a large step count, Adam's first step would be 3 times
                # too large: (1-β1)/√(1-β2) = 3.16.
                value = _slot_of(old, name, template(variable))
                if value is not None:
                    mean = float(np.mean(keras.ops.convert_to_numpy(value)))
                    slot.assign(np.full(slot.shape, mean, dtype=str(slot.dtype)))


def _parts(optimizer: Any) -> list[Any]:
    return list(getattr(optimizer, "_inner_optimizers", ()))


def _grown(value: Array, weight: Weight | None, power: int | None) -> Array:
    if weight is None:
        return value.copy()
    if power is None:
        return grow_weight(value, weight.axes)
    return grow_slot(value, weight.axes, power)


def _slot_lists(optimizer: Any) -> list[str]:
    """Name the attributes of an optimizer that hold one slot for each trainable variable."""
    size = len(optimizer._trainable_variables)
    return [
        name
        for name, value in vars(optimizer).items()
        if isinstance(value, list | tuple)
        and name not in ("_variables", "_trainable_variables")
        and len(value) == size
        and any(isinstance(one, keras.Variable) for one in value)
    ]


def _slot_of(optimizer: Any, name: str, variable: Any) -> Any:
    place = optimizer._trainable_variables_indices.get(optimizer._var_key(variable))
    return None if place is None else getattr(optimizer, name)[place]


def _copy_scalars(old: Any, new: Any) -> None:
    """Copy the step counter and other counters, but not the rate, which `compiling` decides."""
    for before, after in zip(old.variables, new.variables, strict=False):
        if before.name == "learning_rate" or tuple(before.shape) != tuple(after.shape):
            continue
        if before.name == after.name and len(before.shape) == 0:
            # By way of NumPy: on JAX, a shared array would be given away by the first step.
            after.assign(keras.ops.convert_to_numpy(before).copy())


def _warn_of_fresh(optimizer: Any) -> None:
    warnings.warn(
        f"The slots of {type(optimizer).__name__} cannot be carried over exactly, so those "
        "net2net does not know start afresh. Go on with a lower learning rate for a while, or "
        "train with SGD, Adam, AdamW, RMSprop, Adagrad, Lamb, Nadam, Adamax or Lion.",
        UserWarning,
        stacklevel=4,
    )
