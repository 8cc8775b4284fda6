"""Variables of a model in training: found, read and assigned on any backend.

Of large models only numbers come to the host. JAX keeps a training's state outside of the
variables and donates its buffers, PyTorch records gradients, and a `tf.distribute` strategy has a
variable on each device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_qan.utils.backend import backend_name

#: Numbers up to which NumPy computes faster on the host than a backend dispatches its operations.
FEW_NUMBERS = 100_000


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


def has_momentum(optimizer: Any) -> bool:
    """Return whether the updates of one of Keras's optimizers follow an average of gradients."""
    kept = getattr(optimizer, "momentum", None) or getattr(optimizer, "beta_1", None)
    return bool(kept)


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


def read_rates(variables: Sequence[Any]) -> np.ndarray:
    """Return the learning rates, float64 `[K]`."""
    return np.array([read_number(variable) for variable in variables])


def are_same_rates(some: np.ndarray, others: np.ndarray) -> bool:
    """Return whether learning rates, `[K]`, are the same but for rounding."""
    return np.allclose(some, others, rtol=1e-5, atol=0.0)


def assign_rates(variables: Sequence[Any], rates: np.ndarray) -> None:
    """Assign the learning rates, `[K]`, on every device."""
    for variable, value in zip(variables, rates, strict=True):
        for replica in replicas_of(variable):
            assign_replica(variable, replica, float(value))


def read_number(variable: Any) -> float:
    """Return a scalar variable as a Python float."""
    return float(value_of(variable))


def value_of(variable: Any) -> Any:
    """Return a variable's tensor on the first device, without gradients."""
    return tensor_of(replicas_of(variable)[0])


def tensor_of(replica: Any) -> Any:
    """Return the tensor of a variable on one device, without gradients."""
    if hasattr(replica, "handle"):
        import tensorflow as tf

        # The operation itself: TensorFlow's other ways to read a variable take longer.
        return tf.raw_ops.ReadVariableOp(resource=replica.handle, dtype=replica.dtype)
    return replica.detach() if backend_name() == "torch" else replica


def array_of(variable: Any) -> np.ndarray:
    """Return a copy of a variable's values, float32; the variable is in the host's memory."""
    value = value_of(variable)
    # PyTorch has numbers of 16 bits that NumPy cannot read.
    return np.array(value.float() if backend_name() == "torch" else value, np.float32)


def arithmetic_for(variables: Sequence[Any]) -> Any:
    """Return what computes with variables faster: NumPy for few of the host's, else keras.ops.

    Args:
      variables: Keras variables.

    Returns:
      A module with NumPy's functions.
    """
    if sum(int(np.prod(variable.shape)) for variable in variables) > FEW_NUMBERS:
        return ops
    devices = {str(getattr(replicas_of(variable)[0], "device", "")) for variable in variables}
    return np if all("cpu" in device.lower() for device in devices) else ops


def replicas_of(variable: Any) -> list[Any]:
    """Return a variable on each device of this process, as its backend knows it."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    replicas = getattr(value, "values", None)  # PyTorch's tensors have a method of that name
    return list(replicas) if isinstance(replicas, tuple | list) else [value]


def assign_replica(variable: Any, replica: Any, value: Any) -> None:
    """Assign to one device's copy of a variable; to the variable where the copy is a tensor."""
    if hasattr(replica, "assign"):
        replica.assign(value, read_value=False)
    else:
        variable.assign(value)


def copy_of(value: Any, dtype: str | None = None) -> Any:
    """Return a tensor of its own with a variable's values; it stays when the variable changes."""
    # TensorFlow shares memory until the variable changes; JAX donates, PyTorch overwrites it.
    tensor = tensor_of(value) if backend_name() == "tensorflow" else ops.copy(value)
    return tensor if dtype is None else ops.cast(tensor, dtype)
