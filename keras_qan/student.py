"""What has to be found in the user's compiled model before a training can be steered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_qan.controller import Student
from keras_qan.observations import Observation, watched_kernels


def require_keras_3(model: Any) -> None:
    """Raises TypeError for a model of Keras 2, and ValueError for one that is not compiled."""
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


def rate_variables(model: keras.Model) -> list[tf.Variable]:
    """The learning-rate variables of the model's optimizer, or of each part of a MultiOptimizer.

    Raises:
      ValueError: a learning rate is a schedule or a callable, which cannot be assigned to.
    """
    optimizer = model.optimizer
    while hasattr(optimizer, "inner_optimizer"):  # LossScaleOptimizer
        optimizer = optimizer.inner_optimizer
    found = []
    for part in getattr(optimizer, "optimizers", None) or [optimizer]:
        while hasattr(part, "inner_optimizer"):
            part = part.inner_optimizer
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


class LossSums:
    """The running sums of the training loss: Keras's own, or what `logs` show where it keeps none.

    Args:
      model: the compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        tracker = next((m for m in model.metrics if m.name == "loss"), None)
        self._is_kept_by_keras = tracker is not None and hasattr(tracker, "total")
        if tracker is not None and self._is_kept_by_keras:
            self.total, self.count = tracker.total.value, tracker.count.value
        else:
            self.total = tf.Variable(0.0, trainable=False)
            self.count = tf.Variable(0.0, trainable=False)

    def add(self, loss: float) -> None:
        """Takes in the loss that a custom training step reports, where Keras keeps no sum."""
        if not self._is_kept_by_keras:
            self.total.assign_add(loss)
            self.count.assign_add(1.0)


def find_student(
    model: keras.Model, observations: Sequence[Observation], sums: LossSums
) -> Student:
    """Gathers the variables that the controller works on.

    Raises:
      ValueError: a layer to watch is missing, or the learning rate cannot be assigned.
    """
    kernels = [
        kernel
        for part in observations
        if part.layers != ()
        for kernel in watched_kernels(model, part.layers)
    ]
    values = [kernel.value for kernel in kernels]
    return Student(values, rate_variables(model), sums.total, sums.count)
