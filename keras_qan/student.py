"""What has to be found in the user's compiled model before a training can be steered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_qan.distribute import team_of
from keras_qan.observations import Observation, TrainingDynamics, watched_kernels
from keras_qan.steered import Mirrors, Student


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
) -> Student:
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
    return Student(
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
        mirrors=Mirrors(
            rates=[rate[1:] for rate in rates],
            loss_totals=totals[1:],
            loss_counts=counts[1:],
            team=team_of(model.distribute_strategy),
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
