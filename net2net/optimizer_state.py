"""Carry an optimizer's state over: every variable of the old one is carried, grown or refused.

The loss as a function of the grown weights has ∂/∂W' = s_j · ∂/∂W for a copy's incoming weights
and ∂/∂W' = ∂/∂W for its outgoing ones, the reverse of what growth does to the weights. A slot
that is linear in the gradient follows that, a slot that is quadratic follows its square.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from net2net.errors import UnsupportedLayerError
from net2net.rules.base import Weight, WeightAxis
from net2net.weights import Array, grow_slot, grow_weight

SlotKind = int | str
"""A power of the gradient's scale, or one of the kinds in `_KINDS`."""
_KINDS = ("weight", "linear", "rows", "columns")
_SLOTS: dict[str, dict[str, SlotKind]] = {
    "BaseOptimizer": {"_accumulated_gradients": 1, "_model_variables_moving_average": "weight"},
    "SGD": {"momentums": 1},
    "Adam": {"_momentums": 1, "_velocities": 2, "_velocity_hats": 2},
    "Nadam": {"_momentums": 1, "_velocities": 2},
    "Lamb": {"_momentums": 1, "_velocities": 2},
    "Adamax": {"_m": 1, "_u": 1},
    "Adagrad": {"_accumulators": 2},
    "Adadelta": {"_accumulated_grads": 2, "_accumulated_delta_vars": 0},
    # The momentum of RMSprop is one of updates, from which the gradient's scale is divided out.
    "RMSprop": {"_velocities": 2, "_average_gradients": 1, "_momentums": 0},
    "Lion": {"_momentums": 1},
    # Adafactor keeps the means of a matrix's rows and columns, whose product stands for the matrix.
    "Adafactor": {"_r": "rows", "_c": "columns", "_v": 2},
    "Ftrl": {"_accumulators": 2, "_linears": "linear"},
    "Muon": {"momentums": 1, "adam_velocities": 2},
    # Its momentum is a point among the weights, not a mean of gradients.
    "ScheduleFreeAdamW": {"_momentums": "weight", "_velocities": 2},
}
"""How each slot of each optimizer grows; those of a class hold for its subclasses too."""
_NOT_STATE = ("_variables", "_trainable_variables", "_tracker", "_learning_rate")


def register_slots(optimizer_class: type, slots: Mapping[str, SlotKind]) -> None:
    """Say how the slots of an optimizer of your own grow.

    Args:
        optimizer_class: The class, a `keras.optimizers.Optimizer`. Slots of its parents stay known.
        slots: For each attribute that holds a list with one variable a weight: the power of the
            gradient's scale that it has (1 for a mean of gradients, 2 for one of squares, 0 for
            neither), or "weight" for an average of the weights themselves.

    Raises:
        TypeError: If the first argument is no class.
        ValueError: If a kind is unknown.

    Example:
        >>> import keras, net2net
        >>> class Mine(keras.optimizers.SGD):
        ...     pass
        >>> net2net.register_slots(Mine, {"my_momenta": 1})
    """
    if not isinstance(optimizer_class, type):
        raise TypeError(
            f"Expected an optimizer class, received {optimizer_class!r}. Hand in the class itself."
        )
    for name, kind in slots.items():
        if kind not in (0, 1, 2, *_KINDS) or isinstance(kind, bool):
            raise ValueError(
                f"Slot '{name}' of {optimizer_class.__name__} was to grow as {kind!r}. Expected 0, "
                '1 or 2, the power of the gradient that it holds, or "weight".'
            )
    _SLOTS[optimizer_class.__name__] = dict(slots)


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

    Raises:
        UnsupportedLayerError: If it is not known how a variable of the optimizer grows.
    """
    _carry_exclusions(old, new, pairs)
    if not old.built:
        return
    inner = getattr(old, "inner_optimizer", None)
    if inner is not None:
        carry_optimizer_state(inner, new.inner_optimizer, pairs, trainable, template)
    if not new.built:
        new.build(_variables_to_build_for(old, pairs, trainable))
    for before, after in zip(_parts(old), _parts(new), strict=True):
        # Each optimizer of a MultiOptimizer has the slots of its own variables.
        carry_optimizer_state(before, after, pairs, list(after._trainable_variables), template)
    _Carrier(old, new, pairs, template).carry()


def slot_kinds(optimizer: Any) -> dict[str, SlotKind]:
    """Return how each known slot of an optimizer grows, by the attribute that holds it."""
    known: dict[str, SlotKind] = {}
    for kind in reversed(type(optimizer).__mro__):
        known |= _SLOTS.get(kind.__name__, {})
    strengths = ("l1_regularization_strength", "l2_regularization_strength", "beta")
    if any(getattr(optimizer, name, 0) for name in strengths):
        known.pop("_linears", None)  # they scale with the shares only without these
    return known


@dataclass
class _Carrier:
    old: Any
    new: Any
    pairs: list[tuple[Any, Any, Weight | None]]
    template: Callable[[Any], Any] | None

    def carry(self) -> None:
        kinds = slot_kinds(self.old)
        known = [name for name in kinds if _is_slot(self.old, name)]
        for name in known:
            self._carry_slot(name, kinds[name])
        others = dict(_state_variables(self.new, skip=known))
        for path, before in _state_variables(self.old, skip=known):
            after: Any = others.get(path)
            weight = self._weight_at(path)
            same = after is not None and tuple(before.shape) == tuple(after.shape)
            if not same or (weight is not None and weight.axes and before.shape):
                self._refuse(path)
            # By way of NumPy: on JAX, a shared array would be given away by the first step.
            after.assign(_array(before))

    def _carry_slot(self, name: str, kind: SlotKind) -> None:
        origins = {id(after): (before, weight) for before, after, weight in self.pairs}
        slots = getattr(self.new, name)
        for place, variable in enumerate(self.new._trainable_variables):
            if slots[place] is None:
                continue
            if id(variable) not in origins:
                value = self._first_value(name, kind, variable)
            else:
                before, weight = origins[id(variable)]
                value = self._grown_value(name, kind, before, weight)
            if value is not None and tuple(value.shape) == tuple(slots[place].shape):
                slots[place].assign(value.astype(str(slots[place].dtype)))

    def _grown_value(
        self, name: str, kind: SlotKind, before: Any, weight: Weight | None
    ) -> Array | None:
        value = _slot_of(self.old, name, before)
        if value is None or weight is None or not weight.axes:
            return value
        axes = weight.axes
        if kind == "weight":
            return grow_weight(value, axes)
        if kind == "linear":
            # z = -w √n / rate: a copy's w or its √n has its share.
            return grow_weight(value, {k: WeightAxis(one.map, True) for k, one in axes.items()})
        if kind in ("rows", "columns"):
            if value.ndim == 0:
                return value
            rows, columns = _slot_of(self.old, "_r", before), _slot_of(self.old, "_c", before)
            grown = grow_slot(_outer(rows, columns), axes, 2)
            return np.asarray(grown.mean(axis=-1 if kind == "rows" else -2))
        return grow_slot(value, axes, int(kind)) if value.ndim else value

    def _first_value(self, name: str, kind: SlotKind, variable: Any) -> Array | None:
        """Return the value that a slot of an inserted variable starts with."""
        if kind == "weight":
            return _array(variable)
        if kind == "linear":
            place = self.new._trainable_variables_indices[self.new._var_key(variable)]
            squares = _array(self.new._accumulators[place])
            rate = float(keras.ops.convert_to_numpy(self.new.learning_rate))
            return np.asarray(-_array(variable) * squares**-self.new.learning_rate_power / rate)
        if kind in (0, 1) or self.template is None:
            return None
        # With no second moment at a large step count, Adam's first step would be 3 times
        # too large: (1-β1)/√(1-β2) = 3.16.
        value = _slot_of(self.old, name, self.template(variable))
        if value is None:
            return None
        slots = getattr(self.new, name)
        place = self.new._trainable_variables_indices[self.new._var_key(variable)]
        return np.full(tuple(slots[place].shape), float(value.mean()))

    def _weight_at(self, path: tuple[Any, ...]) -> Weight | None:
        """Return the maps of the weight that a variable in a list of slots belongs to."""
        variables = self.old._trainable_variables
        if len(path) != 2 or not isinstance(path[1], int) or path[1] >= len(variables):
            return None
        key = self.old._var_key(variables[path[1]])
        found = [one for before, _, one in self.pairs if self.old._var_key(before) == key]
        return found[0] if found else None

    def _refuse(self, path: tuple[Any, ...]) -> None:
        kind = type(self.old).__name__
        name = str(path[0]) + "".join(f"[{one!r}]" for one in path[1:])
        variables = self.old._trainable_variables
        of = variables[path[1]] if len(path) == 2 and isinstance(path[1], int) else None
        layer = of.path.rpartition("/")[0] if of is not None else kind
        raise UnsupportedLayerError(
            layer,
            f"it is not known how '{name}' of the optimizer {kind} grows with it",
            f"Say so with `net2net.register_slots({kind}, ...)`, or compile the model with one of "
            "Keras's optimizers, or anew, before it grows.",
        )


def _carry_exclusions(old: Any, new: Any, pairs: list[tuple[Any, Any, Weight | None]]) -> None:
    """Carry over which variables have no weight decay, which no config tells."""
    chosen = getattr(old, "_exclude_from_weight_decay", None)
    if chosen is None:
        return
    keys = {old._var_key(before): new._var_key(after) for before, after, _ in pairs}
    new._exclude_from_weight_decay = {keys[key] for key in chosen if key in keys}
    new._exclude_from_weight_decay_pattern = getattr(
        old, "_exclude_from_weight_decay_pattern", None
    )
    new._exclude_from_weight_decay_cache = {}


def _variables_to_build_for(
    old: Any, pairs: list[tuple[Any, Any, Weight | None]], trainable: list[Any]
) -> list[Any]:
    """Return the new model's trainable variables, and those that were frozen after `compile`.

    On JAX without the latter, with a warning: Keras's training takes variables by their places
    there, and no optimizer that has others than the trainable ones.
    """
    present = {id(one) for one in trainable}
    known = set(getattr(old, "_trainable_variables_indices", ()))
    late = [
        after
        for before, after, _ in pairs
        if id(after) not in present and old._var_key(before) in known
    ]
    if not late or keras.backend.backend() != "jax":
        return [*trainable, *late]
    layers = dict.fromkeys(one.path.rpartition("/")[0] for one in late)
    warnings.warn(
        f"The optimizer's slots of {', '.join(layers)} are left out: frozen after `compile`, and "
        "on JAX an optimizer has slots for trainable variables alone. Compile the model anew if "
        "you unfreeze them.",
        UserWarning,
        stacklevel=7,
    )
    return trainable


def _parts(optimizer: Any) -> list[Any]:
    """Return the optimizers inside a MultiOptimizer, none for any other."""
    return list(getattr(optimizer, "_inner_optimizers", ()))


def _is_slot(optimizer: Any, name: str) -> bool:
    return bool(getattr(optimizer, name, None))


def _state_variables(optimizer: Any, skip: list[str]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every variable that an optimizer holds, with the way to it, but for some attributes.

    The rate is left out, which `compile` sets, and so are the model's own variables.
    """
    seen = {id(one) for one in getattr(optimizer, "_trainable_variables", ())}
    seen.add(id(getattr(optimizer, "_learning_rate", None)))
    for name in skip:
        seen.update(id(one) for one in getattr(optimizer, name))
    for name, value in vars(optimizer).items():
        if name not in (*_NOT_STATE, *skip) and not name.startswith("_self_"):
            yield from _variables_in(value, (name,), seen)
    yield from _variables_in(optimizer._variables, ("variables",), seen)


def _variables_in(value: Any, path: tuple[Any, ...], seen: set[int]) -> Iterator[Any]:
    if isinstance(value, keras.Variable):
        if id(value) not in seen:
            seen.add(id(value))
            yield path, value
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _variables_in(one, (*path, place), seen)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _variables_in(one, (*path, key), seen)


def _slot_of(optimizer: Any, name: str, variable: Any) -> Array | None:
    """Return a copy of a slot's value, None where the optimizer has none for the variable."""
    place = optimizer._trainable_variables_indices.get(optimizer._var_key(variable))
    slot = None if place is None else getattr(optimizer, name)[place]
    return None if slot is None else _array(slot)


def _array(variable: Any) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


def _outer(rows: Array | None, columns: Array | None) -> Array:
    """Return the matrix that Adafactor's means of its rows and columns stand for."""
    if rows is None or columns is None:
        raise AssertionError("rows and columns are made together")
    mean = np.maximum(rows.mean(axis=-1, keepdims=True), np.finfo(rows.dtype).tiny)
    return np.asarray((rows / mean)[..., None] * columns[..., None, :])
