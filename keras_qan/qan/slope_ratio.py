"""The slope ratio: how a step compares with the loss that it meets, a number without units.

The gradient of each step is taken back out of the optimizer's slots, so that no pass, no batch
and no train step is added. With d(t) the change of the weights by update t and g(t) its gradient,

    q = mean ⟨g(t+1), d(t)⟩ / mean ⟨g(t), d(t)⟩

is the slope of the loss along an update at its end, on the next batch, over the one at its start.
It is near the share of the gradient that is no noise where the rate is far too low, and falls
through zero where the loss no longer falls at the end of a step.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_qan.qan.variables import (
    arithmetic_for,
    array_of,
    optimizer_parts,
    read_number,
    value_of,
)
from keras_qan.utils.backend import compile_function, without_gradients

#: Steps that an estimate is made of at most: later ones replace the first.
LONGEST_WINDOW = 32

#: Steps between two decisions that rest on the slope ratio: four pairs.
FEWEST_STEPS = 5

#: Pairs of steps from which on an estimate has a standard error.
FEWEST_PAIRS = 3

#: Optimizers that give the gradient as (slot - kept · slot before) / (1 - kept): the names of the
#: slots and of the share that is kept.
_AVERAGES: dict[str, tuple[str, str]] = {
    "Adam": ("_momentums", "beta_1"),
    "AdamW": ("_momentums", "beta_1"),
    "Nadam": ("_momentums", "beta_1"),
    "Lamb": ("_momentums", "beta_1"),
    "Adamax": ("_m", "beta_1"),
    "Lion": ("_momentums", "beta_2"),
}


class NoGradientError(ValueError):
    """An optimizer does not give its gradients back."""


class SlopeEstimate(NamedTuple):
    """An estimate of the slope ratio over the last steps.

    Attributes:
      ratio: q; not-a-number where there is none.
      error: its standard error; not-a-number for fewer than three pairs of steps.
      slope: the mean of ⟨g(t), d(t)⟩, the slope of the loss along an update at its start.
      num_pairs: pairs of steps that it is made of.
      num_steps: steps that were seen, those that changed nothing included.
      relative_step: the length of an update relative to that of the weights.
      highest: the highest lower bound of the ratio (by its error) so far in this training, or 0.
      is_measurable: whether the optimizer gives its gradients back.
      batches_a_step: batches whose gradients the optimizer adds up for one step.
    """

    ratio: float = math.nan
    error: float = math.nan
    slope: float = math.nan
    num_pairs: int = 0
    num_steps: int = 0
    relative_step: float = math.nan
    highest: float = 0.0
    is_measurable: bool = True
    batches_a_step: int = 1

    @property
    def is_known(self) -> bool:
        """True where ratio and error are numbers, and the updates follow the gradient."""
        return math.isfinite(self.ratio) and math.isfinite(self.error) and self.slope < 0.0

    @property
    def is_broken(self) -> bool:
        """True where steps were seen, and one was no number."""
        return self.num_steps > 0 and not math.isfinite(self.relative_step)


class _Group(NamedTuple):
    """Variables whose gradients come back by one recipe.

    Attributes:
      part: their optimizer.
      recipe: how they come back.
      variables: the weights.
      slots: lists of slots, each as long as `variables`.
      keep: the share of a slot that is kept in a step.
      gain: the share of a gradient in a slot.
      decay: the weight decay times whether it applies, `[]` or `[W]`.
    """

    part: Any
    recipe: _Recipe
    variables: Sequence[Any]
    slots: Sequence[Sequence[Any]] = ()
    keep: float = 0.0
    gain: float = 1.0
    decay: Any = 0.0


def _flat(xp: Any, tensors: Sequence[Any]) -> Any:
    if xp is np:
        return np.concatenate(tensors, axis=None)
    return ops.concatenate([ops.reshape(ops.cast(part, "float32"), (-1,)) for part in tensors])


def _measure(
    xp: Any, gradient: Callable[..., Any], num_slots: int, *tensors: Any
) -> tuple[Any, ...]:
    """Return the flat state after a step, its update, and four sums.

    Args:
      xp: NumPy or `keras.ops`, whichever the tensors are of.
      gradient: (constants, rate, update, slots before, slots) → gradient, all flat.
      num_slots: slots of each variable.
      tensors: constants `[2]`, the rate `[]`, the decay, the last update, the flat weights and
        slots before the step, and then the present weights and slots one by one.

    Returns:
      The flat weights, the flat slots, the update, and ⟨g, d⟩, ⟨g, d before⟩, ⟨d, d⟩, ⟨w, w⟩.
    """
    constants, rate, decay, last_update = tensors[:4]
    before, present = tensors[4 : 5 + num_slots], tensors[5 + num_slots :]
    size = len(present) // (1 + num_slots)
    after = [_flat(xp, present[size * n : size * (n + 1)]) for n in range(1 + num_slots)]
    # The decay's share of the change is no step along the gradient.
    update = after[0] - before[0] * (1.0 - rate * decay)
    found = gradient(constants, rate, update, before[1:], after[1:])
    pairs = [(found, update), (found, last_update), (update, update), (after[0], after[0])]
    return (*after, update, xp.stack([xp.sum(a * b) for a, b in pairs]))


class _Recipe:
    """A way to take gradients back out of slots, and to measure them: see `_measure`.

    Args:
      num_slots: slots of each variable.
      gradient: (constants, rate, update, slots before, slots) → gradient, all flat.
    """

    def __init__(self, num_slots: int, gradient: Callable[..., Any]) -> None:
        self._on_host = functools.partial(_measure, np, gradient, num_slots)
        self._compiled = compile_function(functools.partial(_measure, ops, gradient, num_slots))

    def __call__(self, xp: Any, *tensors: Any) -> tuple[Any, ...]:
        if xp is ops:
            return self._compiled(*tensors)
        with np.errstate(all="ignore"):  # the squares of a training that diverges may be infinite
            return self._on_host(*tensors)


#: An average of gradients with a fixed gain: Adam and its kin, Lion, Muon.
_FROM_AVERAGE = _Recipe(
    1,
    lambda constants, rate, update, before, after: (  # noqa: ARG005
        (after[0] - constants[0] * before[0]) / constants[1]
    ),
)

#: A sum of steps of SGD.
_FROM_VELOCITY = _Recipe(
    1,
    lambda constants, rate, update, before, after: (  # noqa: ARG005
        (constants[0] * before[0] - after[0]) / rate
    ),
)

#: The update itself: SGD without momentum.
_FROM_UPDATE = _Recipe(
    0,
    lambda constants, rate, update, before, after: -update / rate,  # noqa: ARG005
)

#: The update times the root of the mean square: RMSprop, Adagrad.
_FROM_SCALED_UPDATE = _Recipe(
    1,
    lambda constants, rate, update, before, after: (  # noqa: ARG005
        -update * (after[0] + constants[1]) ** 0.5 / rate
    ),
)

#: A sum of scaled steps: RMSprop with momentum.
_FROM_SCALED_VELOCITY = _Recipe(
    2,
    lambda constants, rate, update, before, after: (  # noqa: ARG005
        (after[0] - constants[0] * before[0]) * (after[1] + constants[1]) ** 0.5 / rate
    ),
)


@compile_function
def _compiled_flat(*tensors: Any) -> Any:
    return _flat(ops, tensors)


def _groups_of(part: Any) -> list[_Group]:
    """Return the groups of one optimizer.

    Raises:
      NoGradientError: its gradients do not come back.
    """
    names = [each.__name__ for each in type(part).__mro__ if each.__module__.startswith("keras.")]
    kind = names[0]
    if not type(part).update_step.__module__.startswith("keras."):
        raise NoGradientError(f"{type(part).__name__} has an update step of its own")
    variables = list(part._trainable_variables)
    decay = part.weight_decay
    if kind in _AVERAGES:
        slot, keep = _AVERAGES[kind]
        kept = float(getattr(part, keep))
        return [_average(part, variables, getattr(part, slot), (kept, 1.0 - kept), decay)]
    if kind == "Muon":
        return _muon_groups(part, variables)
    if kind == "RMSprop" and part.centered:
        kept = float(part.rho)
        return [_average(part, variables, part._average_gradients, (kept, 1.0 - kept), decay)]
    if kind == "SGD" and part.momentum:
        kept = float(part.momentum)
        return [_group(part, _FROM_VELOCITY, variables, [part.momentums], (kept, 1.0), decay)]
    if kind == "RMSprop" and part.momentum:
        both, constants = [part._momentums, part._velocities], (float(part.momentum), part.epsilon)
        return [_group(part, _FROM_SCALED_VELOCITY, variables, both, constants, decay)]
    if any(variable.constraint is not None for variable in variables):
        raise NoGradientError(
            f"{kind} has no slot that gives the gradient, and weights a constraint"
        )
    if kind == "SGD":
        return [_group(part, _FROM_UPDATE, variables, [], (0.0, 1.0), decay)]
    squares = {"RMSprop": "_velocities", "Adagrad": "_accumulators"}.get(kind)
    if squares is None:
        raise NoGradientError(f"{kind} has no slot that gives the gradient")
    constants = (0.0, part.epsilon)
    return [
        _group(part, _FROM_SCALED_UPDATE, variables, [getattr(part, squares)], constants, decay)
    ]


def _muon_groups(part: Any, variables: Sequence[Any]) -> list[_Group]:
    rows = list(zip(variables, part.momentums, part.adam_velocities, strict=True))
    adam = [(v, m) for v, m, squares in rows if m is not None and squares is not None]
    muon = [(v, m) for v, m, squares in rows if m is not None and squares is None]
    beta, kept = float(part.adam_beta_1), float(part.momentum)
    groups = []
    for pairs, constants, decay in (
        (adam, (beta, 1.0 - beta), part.adam_weight_decay),
        (muon, (kept, 1.0), part.weight_decay),
    ):
        if pairs:
            weights, slots = zip(*pairs, strict=True)
            groups.append(_average(part, weights, slots, constants, decay))
    return groups


def _average(
    part: Any,
    variables: Sequence[Any],
    slots: Sequence[Any],
    constants: tuple[float, float],
    decay: float | None,
) -> _Group:
    return _group(part, _FROM_AVERAGE, variables, [slots], constants, decay)


def _group(
    part: Any,
    recipe: _Recipe,
    variables: Sequence[Any],
    slots: Sequence[Sequence[Any]],
    constants: tuple[float, float],
    decay: float | None,
) -> _Group:
    """Return a group of the variables that have a slot: those of a quantised scale have none."""
    places = [n for n in range(len(variables)) if all(each[n] is not None for each in slots)]
    kept = [variables[n] for n in places]
    vector: Any = 0.0
    if decay:
        shares = [np.full(int(np.prod(v.shape)), decay * part._use_weight_decay(v)) for v in kept]
        vector = np.concatenate(shares).astype("float32")
        vector = vector[0] if (vector == vector[0]).all() else vector
    chosen = [[each[n] for n in places] for each in slots]
    return _Group(part, recipe, kept, chosen, *constants, vector)


def slope_groups(model: keras.Model) -> list[_Group]:
    """Return how the gradients of a model's optimizer come back.

    Raises:
      NoGradientError: they do not, with the reason.
    """
    if int(getattr(model, "steps_per_execution", 1) or 1) > 1:
        raise NoGradientError(
            f"the model is compiled with steps_per_execution={model.steps_per_execution}, so that "
            "single steps are not seen"
        )
    parts = [part for part in optimizer_parts(model) if part.built]
    groups = [group for part in parts for group in _groups_of(part) if group.variables]
    if not groups:
        raise NoGradientError("the optimizer has no variables")
    return groups


@dataclass
class _Memory:
    """The flat weights and slots of a group after a step, and its update."""

    state: Sequence[Any]
    update: Any


class SlopeMeter:
    """Measures the slope ratio of a model in training, where it is.

    On the device; by NumPy for few weights in the host's memory.

    Call `add_step` after each step (on JAX, after the training's state was brought into the
    variables). It reads weights and slots, and changes nothing.

    Args:
      model: the compiled model.

    Attributes:
      reason: why nothing can be measured; None where it can, or while that is not known.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._groups: list[_Group] | None = None
        self._xp: Any = ops
        self._memory: list[_Memory] | None = None
        self._rows: list[Any] = []
        self._wait: float = 0
        self.reason: str | None = None

    def open(self, after: float = 0) -> None:
        """Forget what was measured, and begin after so many steps.

        Args:
          after: steps to let pass first, infinity for all. Defaults to 0.
        """
        self._rows, self._memory, self._wait = [], None, after

    def wants_step(self) -> bool:
        """Return whether the next `add_step` reads the model; count the steps that it lets pass."""
        if self.reason is not None:
            return False
        self._wait -= 1
        return self._wait < 0

    def begin(self) -> None:
        """Remember the present weights and slots, so that the next step counts already."""
        if self._wait > 0 or self.reason is not None or not self._find_groups():
            return
        with without_gradients():
            if self._rows:  # a gap: the steps beside it are no pair
                self._rows.append(self._xp.zeros(4))
            self._memory = [
                _Memory(
                    [self._flat_state(group.variables), *map(self._flat_state, group.slots)],
                    self._xp.zeros(_size(group.variables), "float32"),
                )
                for group in self._groups or ()
            ]

    def add_step(self) -> None:
        """Take in one step."""
        if self.reason is not None or not self._find_groups() or not self._is_update():
            return
        if self._memory is None:
            self.begin()
            return
        with without_gradients():
            sums = [self._add(number) for number in range(len(self._groups or ()))]
            xp = self._xp
            self._rows.append(sums[0] if len(sums) == 1 else xp.sum(xp.stack(sums), axis=0))
        self._rows = self._rows[-LONGEST_WINDOW:]

    def _add(self, number: int) -> Any:
        group, memory = (self._groups or [])[number], (self._memory or [])[number]
        numbers = [group.keep, group.gain], _rate_of_last_step(group.part), group.decay
        *state, update, sums = group.recipe(
            self._xp,
            *(self._xp.array(number, "float32") for number in numbers),
            memory.update,
            *memory.state,
            *self._tensors([v for each in (group.variables, *group.slots) for v in each]),
        )
        memory.state, memory.update = state, update
        return sums

    def _find_groups(self) -> bool:
        if self._groups is None:
            try:
                self._groups = slope_groups(self._model)
                self._xp = arithmetic_for([v for group in self._groups for v in group.variables])
            except NoGradientError as error:
                self.reason = str(error)
        return self._groups is not None

    def _tensors(self, variables: Sequence[Any]) -> list[Any]:
        read = array_of if self._xp is np else value_of
        return [read(variable) for variable in variables]

    def _flat_state(self, variables: Sequence[Any]) -> Any:
        tensors = self._tensors(variables)
        return _flat(np, tensors) if self._xp is np else _compiled_flat(*tensors)

    def _is_update(self) -> bool:
        """Return whether the last batch brought an update along the gradient, as far as is known.

        Where gradients are accumulated, some batches bring none; where an average overwrites the
        weights, the memory begins anew.
        """
        part = (self._groups or [])[0].part
        every = part.gradient_accumulation_steps
        if every and round(read_number(part._iterations)) % every:
            return False
        often = part.ema_overwrite_frequency if part.use_ema else None
        if often and round(read_number(part._iterations)) % often == 0:
            self._memory = None
        return True

    def estimate(self) -> SlopeEstimate:
        """Return the estimate of the steps since `open`, `LONGEST_WINDOW` at most."""
        if not self._rows:
            return SlopeEstimate(is_measurable=self.reason is None)
        rows = self._rows if self._xp is np else [ops.convert_to_numpy(row) for row in self._rows]
        every = (self._groups or [])[0].part.gradient_accumulation_steps
        return estimate_of(np.array(rows))._replace(batches_a_step=every or 1)


def estimate_of(rows: np.ndarray) -> SlopeEstimate:
    """Return the slope ratio of consecutive steps.

    Args:
      rows: float `[n, 4]`: ⟨g, d⟩, ⟨g, d of the step before⟩, ⟨d, d⟩ and ⟨w, w⟩ of each.
    """
    rows = np.asarray(rows, np.float64)
    size = len(rows)
    if not size:
        return SlopeEstimate()
    with np.errstate(all="ignore"):
        relative = math.sqrt(np.mean(rows[:, 2]) / max(np.mean(rows[:, 3]), 1e-30))
    if not np.isfinite(rows).all():
        return SlopeEstimate(num_steps=size)
    # A step that changed nothing (a gradient that was skipped) has no slope.
    pairs = [(a, b) for a, b in itertools.pairwise(rows) if a[2] > 0.0 and b[2] > 0.0]
    if not pairs:
        return SlopeEstimate(num_steps=size, relative_step=relative)
    starts = np.array([first[0] for first, _ in pairs])
    ends = np.array([second[1] for _, second in pairs])
    slope = float(np.mean(starts))
    if slope == 0.0:
        return SlopeEstimate(math.nan, math.nan, slope, len(pairs), size, relative)
    ratio = float(np.mean(ends)) / slope
    error = math.nan
    if len(pairs) >= FEWEST_PAIRS:
        # Of a ratio of means, by the delta method: both have the step's own scale.
        error = float(np.std(ends - ratio * starts, ddof=1)) / math.sqrt(len(pairs)) / abs(slope)
    return SlopeEstimate(ratio, error, slope, len(pairs), size, relative)


def _size(variables: Sequence[Any]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _rate_of_last_step(part: Any) -> Any:
    """Return the learning rate that an optimizer's last step had, as a tensor."""
    rate = part._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate(value_of(part._iterations) - 1)
    return rate() if callable(rate) and not isinstance(rate, keras.Variable) else value_of(rate)
