"""The copy of weights and optimizer slots that a step back restores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_qan.qan.variables import (
    assign_replica,
    copy_of,
    optimizer_parts,
    rate_variables,
    replicas_of,
    value_of,
)
from keras_qan.utils.backend import backend_name, without_gradients


class Snapshot:
    """A copy of weights and optimizer slots to step back to, on the device where they are.

    Learning rates, counters and random states are left out. SGD's and RMSprop's velocities are
    set to zero instead: they are sums of steps, which carry the rate that led astray.

    Args:
      model: the compiled model; its optimizer is built where it is not.
    """

    def __init__(self, model: keras.Model) -> None:
        if not model.optimizer.built:
            if backend_name() == "tensorflow":
                with model.distribute_strategy.scope():
                    model.optimizer.build(model.trainable_variables)
            else:
                model.optimizer.build(model.trainable_variables)
        self._velocities = _velocities(model)
        left_out = {id(variable) for variable in [*rate_variables(model), *self._velocities]}

        def usable(variables: Sequence[Any]) -> list[tuple[Any, Any]]:
            return [
                (variable, number)
                for variable in variables
                for number in range(len(replicas_of(variable)))
                if variable.dtype.startswith(("float", "bfloat")) and id(variable) not in left_out
            ]

        self._weights = usable(model.variables)
        self._variables = [*self._weights, *usable(model.optimizer.variables)]
        self._initial: list[Any] = []
        self._copies: list[Any] = []

    @property
    def num_bytes(self) -> int:
        """The memory of one copy of weights and slots."""
        return sum(
            int(np.prod(variable.shape)) * _bytes_of(variable.dtype)
            for variable, _ in self._variables
        )

    def begin(self) -> None:
        """Take the first snapshot, and remember its weights as the initial ones."""
        self.take()
        self._initial = self._copies[: len(self._weights)]

    def take(self) -> None:
        """Copy the present weights and slots."""
        with without_gradients():
            self._copies = [copy_of(replicas_of(v)[number]) for v, number in self._variables]

    def distance(self) -> float:
        """Return ‖w - w₀‖ / ‖w₀‖ of all kernels together, with w₀ the snapshot's."""
        sums = []
        with without_gradients():
            for (variable, number), kept in zip(self._weights, self._copies, strict=False):
                if variable.trainable and len(variable.shape) > 1 and number == 0:
                    was = ops.cast(kept, "float32")
                    change = ops.cast(value_of(variable), "float32") - was
                    sums.append(ops.stack([ops.sum(change * change), ops.sum(was * was)]))
            if not sums:
                return 0.0
            moved, size = ops.convert_to_numpy(ops.sum(ops.stack(sums), axis=0))
        return math.sqrt(float(moved) / max(float(size), 1e-30))

    def forget(self) -> None:
        """Overwrite the snapshot's weights with the initial ones."""
        self._copies[: len(self._weights)] = self._initial

    def restore(self) -> None:
        """Assign the snapshot to the model, and set velocities to zero."""
        for (variable, number), value in zip(self._variables, self._copies, strict=True):
            # A copy again: what JAX is given becomes the variable, and is donated to the next step.
            assign_replica(variable, replicas_of(variable)[number], copy_of(value))
        for variable in self._velocities:
            for replica in replicas_of(variable):
                assign_replica(variable, replica, ops.zeros(variable.shape, variable.dtype))

    def arrays(self) -> list[np.ndarray]:
        """Return snapshot and initial weights."""
        return [np.array(ops.convert_to_numpy(v)) for v in [*self._copies, *self._initial]]

    def restore_arrays(self, arrays: Sequence[np.ndarray]) -> None:
        """Take over what `arrays` gave."""
        size = len(self._variables)
        parts = [ops.convert_to_tensor(array) for array in arrays]
        self._copies, self._initial = parts[:size], parts[size:]


def _bytes_of(dtype: str) -> int:
    return {"float16": 2, "bfloat16": 2, "float64": 8}.get(dtype, 4)


def _velocities(model: keras.Model) -> list[Any]:
    """Return the slots of SGD and RMSprop that are sums of steps, and so hold the learning rate."""
    slots: list[Any] = []
    for part in optimizer_parts(model):
        if isinstance(part, keras.optimizers.SGD) and part.momentum:
            slots += part.momentums
        elif isinstance(part, keras.optimizers.RMSprop) and part.momentum:
            slots += part._momentums
    return slots
