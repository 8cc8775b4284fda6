"""Variables of a model in training: found, read and assigned on any backend.

Only numbers come to the host. JAX keeps a training's state outside of the variables and donates
its buffers, PyTorch records gradients, and a `tf.distribute` strategy has a variable on each
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_qan.utils.backend import backend_name


def synchronize(model: keras.Model) -> None:
    """Bring a training's state into the model's variables, where the backend keeps it apart."""
    if backend_name() == "jax":
        model.jax_state_sync()


def num_replicas(model: keras.Model) -> int:
    """Return on how many devices of a `tf.distribute` strategy the model is trained."""
    if backend_name() != "tensorflow":
        return 1
    return int(model.distribute_strategy.num_replicas_in_sync)


def workers_of(model: keras.Model) -> Any:
    """Return the workers that train the model in step, or None where one process does it all."""
    if backend_name() != "tensorflow":
        return None
    from keras_qan.distribute import worker_group_of

    return worker_group_of(model.distribute_strategy)


def optimizer_parts(model: keras.Model) -> list[Any]:
    """Return the optimizers of a LossScaleOptimizer or a MultiOptimizer, or the model's own."""
    optimizer = _innermost(model.optimizer)
    return [_innermost(part) for part in getattr(optimizer, "optimizers", None) or [optimizer]]


def _innermost(optimizer: Any) -> Any:
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def rate_variables(model: keras.Model) -> list[keras.Variable]:
    """Return the learning-rate variable of the optimizer, or of each part of a MultiOptimizer.

    Raises:
      ValueError: a learning rate is a schedule or a callable, which cannot be assigned to.
    """
    found = []
    for part in optimizer_parts(model):
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
        found.append(rate)
    return found


def assign_rates(variables: Sequence[Any], rates: np.ndarray) -> None:
    """Assign the learning rates, `[K]`, on every device."""
    for variable, value in zip(variables, rates, strict=True):
        for replica in replicas_of(variable):
            assign_replica(variable, replica, float(value))


def read_number(variable: Any) -> float:
    """Return a scalar variable as a Python float."""
    return float(ops.convert_to_numpy(value_of(variable)))


def value_of(variable: Any) -> Any:
    """Return a variable's tensor on the first device, without gradients."""
    value = replicas_of(variable)[0]
    return value.detach() if backend_name() == "torch" else value


def replicas_of(variable: Any) -> list[Any]:
    """Return a variable on each device of this process, as its backend knows it."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    replicas = getattr(value, "values", None)  # PyTorch's tensors have a method of that name
    return list(replicas) if isinstance(replicas, tuple | list) else [value]


def assign_replica(variable: Any, replica: Any, value: Any) -> None:
    """Assign to one device's copy of a variable; to the Keras variable itself where it is one."""
    if isinstance(variable, keras.Variable) and replica is variable.value:
        variable.assign(value)
    else:
        replica.assign(value)


def copy_of(value: Any, dtype: str | None = None) -> Any:
    """Return a tensor of its own with a variable's values; it stays when the variable changes."""
    # TensorFlow shares memory until the variable changes; JAX donates, PyTorch overwrites it.
    tensor = ops.copy(value)
    return tensor if dtype is None else ops.cast(tensor, dtype)
