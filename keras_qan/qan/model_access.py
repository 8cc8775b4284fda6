"""What the controller reads and writes of a model in training, and what is kept of it.

What has to be found in the user's compiled model before a training can be steered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_qan.distribute import worker_group_of
from keras_qan.observations import (
    NUM_MOTIONS,
    Observation,
    TrainingDynamics,
    motion,
    watched_kernels,
)


class MirroredVariable(NamedTuple):
    """The same variables on further devices, and further workers; nothing where there is one.

    A distribution strategy's own variables are no arguments for a compiled function, which would
    go on with those of the first model that it was called with: theirs are told apart by shape
    alone. So the controller is given each device's.

    Attributes:
      rates: for each learning rate, the same on the other devices.
      loss_totals: the other devices' sums of losses, each `[]`.
      loss_counts: and numbers of examples.
      team: the workers, where there are several.
    """

    rates: Sequence[Sequence[tf.Variable]] = ()
    loss_totals: Sequence[tf.Variable] = ()
    loss_counts: Sequence[tf.Variable] = ()
    team: Any = None


class ModelAccess(NamedTuple):
    """What the controller reads and writes of the model in training: TensorFlow variables.

    Attributes:
      kernels: the watched kernels, each `[..., I, J]`.
      rates: the optimizers' learning rates, each `[]`.
      loss_total: the sum of the losses of the epoch's examples so far, `[]`.
      loss_count: their number, `[]`.
      motion: room for each watched kernel's values at the last decision, how they moved before it,
        and their values when the training began: three variables for each, of its shape. Empty
        where no observation asks for it.
      saved: all that a step back restores: weights and optimizer slots. Empty where no action is
        a `StepBack`.
      copies: room for a copy of each of them.
      initial: room for the weights that the training began with: a copy of the first ones of
        `saved`.
      velocities: slots that a step back sets to zero instead: steps, which carry the learning rate
        that led astray.
      optimizer: whether it scales its gradients (1 or 0), and log(1 / (1 - momentum)), `[2]`.
      mirrors: the rates and sums of further devices; `saved` and `copies` hold those of all.
    """

    kernels: list[tf.Variable]
    rates: list[tf.Variable]
    loss_total: tf.Variable
    loss_count: tf.Variable
    motion: Sequence[tf.Variable] = ()
    saved: Sequence[tf.Variable] = ()
    copies: Sequence[tf.Variable] = ()
    initial: Sequence[tf.Variable] = ()
    velocities: Sequence[tf.Variable] = ()
    optimizer: Any = (1.0, 0.0)
    mirrors: MirroredVariable = MirroredVariable()


class FitProgress(NamedTuple):
    """Where in a training a decision is taken.

    Attributes:
      progress: the share of the training's steps that are done, in [0, 1].
      num_decisions: how many decisions the episode holds, as far as is known.
      num_steps: how many steps, as far as is known.
      interval: steps to the next decision.
      taken: steps since the last decision.
    """

    progress: float
    num_decisions: int
    num_steps: int
    interval: int
    taken: int


def assign(variables: Sequence[tf.Variable], values: Sequence[Any]) -> None:
    """Assigns value by value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(tf.convert_to_tensor(value))


def assign_rates(student: ModelAccess, rates: tf.Tensor) -> None:
    """Assigns the learning rates, `[K]`, on every device."""
    mirrors = student.mirrors.rates or [()] * len(student.rates)
    for number, (rate, others) in enumerate(zip(student.rates, mirrors, strict=True)):
        for variable in (rate, *others):
            variable.assign(tf.cast(rates[number], variable.dtype))


def loss_sums(student: ModelAccess) -> tf.Tensor:
    """Total and count of the epoch's losses on all devices of all workers, float32 `[2]`."""
    mirrors = student.mirrors
    parts = [
        tf.stack([tf.cast(total, tf.float32), tf.cast(count, tf.float32)])
        for total, count in zip(
            (student.loss_total, *mirrors.loss_totals),
            (student.loss_count, *mirrors.loss_counts),
            strict=True,
        )
    ]
    own = tf.add_n(parts) if len(parts) > 1 else parts[0]
    return own if mirrors.team is None else tf.reduce_sum(mirrors.team.gather(own), axis=0)


def clear_loss_sums(student: ModelAccess, condition: tf.Tensor) -> None:
    """Sets the epoch's sums back to zero on every device where the condition holds."""
    mirrors = student.mirrors
    own = (student.loss_total, student.loss_count)
    for variable in (*own, *mirrors.loss_totals, *mirrors.loss_counts):
        variable.assign(tf.where(condition, tf.zeros_like(variable), variable))


def restore(student: ModelAccess, condition: tf.Tensor) -> None:
    """Sets weights and slots back to their copies, without speed, where the condition holds."""

    def restore() -> tf.Tensor:
        assign(student.saved, student.copies)
        assign(student.velocities, [tf.zeros_like(each) for each in student.velocities])
        return tf.constant(True)

    tf.cond(condition, restore, lambda: tf.constant(False))


def discredit(student: ModelAccess, condition: tf.Tensor) -> None:
    """Takes the first weights for the copied ones where the condition holds."""

    def replace() -> tf.Tensor:
        assign(student.copies[: len(student.initial)], student.initial)
        return tf.constant(True)

    tf.cond(condition, replace, lambda: tf.constant(False))


def mean_motion(student: ModelAccess, taken: tf.Tensor) -> tf.Tensor:
    """The mean motion of the watched kernels, float32 `[3]`; zeros where nobody asks for it."""
    if not student.motion:
        return tf.zeros([NUM_MOTIONS])
    rooms = [tf.reshape(tf.cast(room, tf.float32), [-1]) for room in student.motion]
    kernels = [tf.reshape(tf.cast(kernel, tf.float32), [-1]) for kernel in student.kernels]
    parts = [
        motion(
            kernel,
            before=rooms[3 * number],
            last=rooms[3 * number + 1],
            start=rooms[3 * number + 2],
            steps=tf.maximum(taken, 1.0),
        )
        for number, kernel in enumerate(kernels)
    ]
    return tf.add_n(parts) / len(parts)


def note_motion(student: ModelAccess) -> None:
    """Notes how the watched kernels came where they are, before they may be set back."""
    for number, kernel in enumerate(student.kernels if student.motion else ()):
        before, moved = student.motion[3 * number : 3 * number + 2]
        moved.assign(tf.convert_to_tensor(kernel) - before)


def require_keras_3(model: Any) -> None:
    """Raises TypeError for a model of Keras 2, and ValueError for one that cannot be trained."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"QANCallback got a model of class {type(model).__module__}.{type(model).__name__}; "
            f"expected a Keras 3 model (keras {keras.__version__}). If TF_USE_LEGACY_KERAS is set, "
            "tf.keras is Keras 2: build the model with `import keras` instead."
        )
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"Model {model.name!r} is not compiled: it has no optimizer whose learning rate could "
            "be adjusted. Call model.compile(optimizer, loss) before fit."
        )
    replicas, steps = model.distribute_strategy.num_replicas_in_sync, model.steps_per_execution
    if replicas > 1 and steps > 1:
        raise ValueError(
            f"Model {model.name!r} is compiled with steps_per_execution={steps} under a strategy "
            f"of {replicas} replicas; expected 1, as Keras's fit fails with more. Compile it "
            "without steps_per_execution."
        )


def rate_variables(model: keras.Model) -> list[tf.Variable]:
    """The learning-rate variables of the model's optimizer, or of each part of a MultiOptimizer.

    Raises:
      ValueError: a learning rate is a schedule or a callable, which cannot be assigned to.
    """
    found = []
    for part in _parts(model.optimizer):
        rate = getattr(part, "_learning_rate", None)
        if not isinstance(rate, keras.Variable):
            kind = (
                "a LearningRateSchedule"
                if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
                else f"{type(rate).__name__} {rate!r}"
            )
            raise ValueError(
                f"The optimizer {part.name!r} takes its learning rate from {kind}; expected a "
                "number, because QAN itself decides how the rate changes. Compile with, for "
                f"example, {type(part).__name__}(learning_rate=0.01)."
            )
        found.append(rate.value)
    return found


def _parts(optimizer: Any) -> list[Any]:
    """The optimizers that a LossScaleOptimizer or a MultiOptimizer is made of, or itself."""
    optimizer = _innermost(optimizer)
    return [_innermost(part) for part in getattr(optimizer, "optimizers", None) or [optimizer]]


def _innermost(optimizer: Any) -> Any:
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


class LossSums:
    """The running sums of the training loss: Keras's own, or what `logs` show where it keeps none.

    Args:
      model: the compiled model.
      estimated: total and count that somebody else keeps, in the place of Keras's.
    """

    def __init__(
        self, model: keras.Model, estimated: tuple[tf.Variable, tf.Variable] | None = None
    ) -> None:
        self._is_estimated = estimated is not None
        self._is_kept_by_keras = False
        if estimated is not None:
            self.total, self.count = estimated
            return
        tracker = next((m for m in model.metrics if m.name == "loss"), None)
        self._is_kept_by_keras = tracker is not None and hasattr(tracker, "total")
        if tracker is not None and self._is_kept_by_keras:
            self.total, self.count = tracker.total.value, tracker.count.value
        else:
            self.total = tf.Variable(0.0, trainable=False)
            self.count = tf.Variable(0.0, trainable=False)

    def add(self, loss: float) -> None:
        """Takes in the loss that a custom training step reports, where Keras keeps no sum."""
        if not self._is_kept_by_keras and not self._is_estimated:
            self.total.assign_add(loss)
            self.count.assign_add(1.0)

    def end_epoch(self) -> None:
        """Sets the sums back to zero, as Keras does with its own."""
        if not self._is_kept_by_keras:
            self.total.assign(0.0)
            self.count.assign(0.0)


def find_student(
    model: keras.Model,
    observations: Sequence[Observation],
    sums: LossSums,
    can_step_back: bool = False,
) -> ModelAccess:
    """Gathers the variables that the controller works on.

    Args:
      model: the compiled model.
      observations: what is to be seen of it.
      sums: where its losses are summed up.
      can_step_back: whether room for a copy of weights and optimizer slots is wanted.

    Raises:
      ValueError: a layer to watch is missing, or the learning rate cannot be assigned.
    """
    kernels = [
        _replicas(kernel.value)[0]
        for part in observations
        if part.layers != ()
        for kernel in watched_kernels(model, part.layers)
    ]
    wants_motion = any(isinstance(part, TrainingDynamics) for part in observations)
    watched = kernels if wants_motion else []
    rates = [_replicas(rate) for rate in rate_variables(model)]
    totals, counts = _replicas(sums.total), _replicas(sums.count)
    velocities = _velocities(model) if can_step_back else []
    weights, slots = _what_a_step_back_restores(model, velocities) if can_step_back else ([], [])
    saved = [*weights, *slots]
    return ModelAccess(
        kernels=kernels,
        rates=[rate[0] for rate in rates],
        loss_total=totals[0],
        loss_count=counts[0],
        motion=[_room_for(kernel) for kernel in watched for _ in range(3)],
        saved=saved,
        copies=[_room_for(variable) for variable in saved],
        initial=[_room_for(variable) for variable in weights],
        velocities=[replica for slot in velocities for replica in _replicas(slot)],
        optimizer=tf.constant(_optimizer_traits(model), tf.float32),
        mirrors=MirroredVariable(
            rates=[rate[1:] for rate in rates],
            loss_totals=totals[1:],
            loss_counts=counts[1:],
            team=worker_group_of(model.distribute_strategy),
        ),
    )


def _replicas(variable: tf.Variable) -> list[tf.Variable]:
    """A variable on each device of this process; itself where no strategy mirrors it."""
    return list(getattr(variable, "values", [variable]))


def _room_for(variable: tf.Variable) -> tf.Variable:
    with tf.device(variable.device):
        return tf.Variable(tf.zeros_like(variable), trainable=False)


def _velocities(model: keras.Model) -> list[tf.Variable]:
    """The slots of SGD and RMSprop that are sums of steps, and so hold the learning rate."""
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    slots: list[Any] = []
    for part in _parts(model.optimizer):
        if isinstance(part, keras.optimizers.SGD) and part.momentum:
            slots += part.momentums
        elif isinstance(part, keras.optimizers.RMSprop) and part.momentum:
            slots += part._momentums
    return [slot.value for slot in slots]


def _what_a_step_back_restores(
    model: keras.Model, velocities: Sequence[tf.Variable]
) -> tuple[list[tf.Variable], list[tf.Variable]]:
    """Weights with statistics, and optimizer slots; no rates, no counts, no random states."""
    left_out = {id(variable) for variable in [*rate_variables(model), *velocities]}

    def usable(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
        return [
            replica
            for variable in variables
            for replica in _replicas(variable.value)
            if variable.dtype.startswith(("float", "bfloat")) and id(variable.value) not in left_out
        ]

    return usable(model.variables), usable(model.optimizer.variables)


def _optimizer_traits(model: keras.Model) -> tuple[float, float]:
    """Whether the (first) optimizer scales its gradients, and log(1 / (1 - momentum)) if not."""
    optimizer = _parts(model.optimizer)[0]
    if not isinstance(optimizer, keras.optimizers.SGD):
        return 1.0, 0.0
    return 0.0, -math.log(1.0 - min(float(optimizer.momentum), 0.999))
