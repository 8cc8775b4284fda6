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
"""Power of the gradient's scale by which each slot of each optimizer grows."""
_ALWAYS = {"_accumulated_gradients": 1}
_AVERAGED_WEIGHTS = "_model_variables_moving_average"


def carry_optimizer_state(
    old: Any,
    new: Any,
    pairs: list[tuple[Any, Any, Weight | None]],
    trainable: list[Any],
    template: Callable[[Any], Any] | None = None,
) -> None:
    """Set the state of a grown model's optimizer from the old model's optimizer.

    Args:
        old: The old optimizer.
        new: The new optimizer, not built.
        pairs: Old variable, new variable, and the old one's maps, for every variable.
        trainable: The new model's trainable variables.
        template: Returns, for a new trainable variable without an old one, the old variable whose
            mean second moments it starts with. Defaults to None: they start at zero.
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
        _warn_of_reset(old)
        return
    if not new.built:
        new.build(trainable)
    _copy_scalars(old, new)
    for before, after in zip(_parts(old), _parts(new), strict=True):
        # Each optimizer of a MultiOptimizer has the slots of its own variables.
        carry_optimizer_state(before, after, pairs, list(after._trainable_variables), template)
    if not _parts(old):
        _carry_slots(old, new, pairs, trainable, template)


def _carry_slots(
    old: Any,
    new: Any,
    pairs: list[tuple[Any, Any, Weight | None]],
    trainable: list[Any],
    template: Callable[[Any], Any] | None,
) -> None:
    origins = {id(after): (before, weight) for before, after, weight in pairs}
    # The averaged weights grow as the weights do, by no power.
    powers = {**_ALWAYS, **_POWERS.get(type(old).__name__, {}), _AVERAGED_WEIGHTS: None}
    names = _slot_lists(old)
    if any(name not in powers for name in names):
        _warn_of_reset(old)
    for name in names:
        if name not in powers or not getattr(new, name, None):
            continue
        power = powers[name]
        for variable, slot in zip(trainable, getattr(new, name), strict=True):
            if slot is None:
                continue
            if id(variable) in origins:
                before, weight = origins[id(variable)]
                value = _slot_of(old, name, before)
                if value is not None:
                    slot.assign(_grow(keras.ops.convert_to_numpy(value), weight, power))
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
    """Return the optimizers inside a MultiOptimizer, none for any other."""
    return list(getattr(optimizer, "_inner_optimizers", ()))


def _grow(value: Array, weight: Weight | None, power: int | None) -> Array:
    if weight is None:
        return value.copy()
    if power is None:
        return grow_weight(value, weight.axes)
    return grow_slot(value, weight.axes, power)


def _slot_lists(optimizer: Any) -> list[str]:
    """Return the names of the attributes that hold one slot for each trainable variable."""
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
    """Copy the step counter and other counters, but not the rate, which `build` sets."""
    for before, after in zip(old.variables, new.variables, strict=False):
        if before.name == "learning_rate" or tuple(before.shape) != tuple(after.shape):
            continue
        if before.name == after.name and len(before.shape) == 0:
            # By way of NumPy: on JAX, a shared array would be given away by the first step.
            after.assign(keras.ops.convert_to_numpy(before).copy())


def _warn_of_reset(optimizer: Any) -> None:
    warnings.warn(
        f"The slots of {type(optimizer).__name__} cannot be carried over exactly, so those "
        "net2net does not know start afresh. Go on with a lower learning rate for a while, or "
        "train with SGD, Adam, AdamW, RMSprop, Adagrad, Lamb, Nadam, Adamax or Lion.",
        UserWarning,
        stacklevel=5,
    )
