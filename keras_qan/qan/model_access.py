"""The one module through which the model in training is read and written, on any backend.

A rate is assigned, a loss is read, a snapshot is taken and restored: by Keras variables and
`keras.ops`, where the weights are. Only numbers come to the host. The backends' particulars live
here: JAX keeps a training's state outside of the variables and donates its buffers, PyTorch
records gradients, and a `tf.distribute` strategy has a variable on each device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_qan.observations import NUM_MOTIONS, Observation, motion_numbers, watched_kernels
from keras_qan.utils.backend import backend_name, without_gradients


def require_trainable(model: Any) -> None:
    """Check that a model can be steered.

    Raises:
      TypeError: it is no Keras 3 model.
      ValueError: it is not compiled, or Keras's `fit` would fail with it.
    """
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
    replicas, steps = num_replicas(model), model.steps_per_execution
    if replicas > 1 and steps > 1:
        raise ValueError(
            f"Model {model.name!r} is compiled with steps_per_execution={steps} under a strategy "
            f"of {replicas} replicas; expected 1, as Keras's fit fails with more. Compile it "
            "without steps_per_execution."
        )


def has_own_train_step(model: keras.Model) -> bool:
    """Return whether the model's train step is its own, so that only running it shows a loss."""
    return not type(model).train_step.__module__.startswith("keras.")


def has_trained_weights(model: keras.Model) -> bool:
    """Return whether a model was trained before: its optimizer has taken steps, or biases vary.

    Biases and moving statistics begin as constants (an LSTM's as two), whatever the initializer of
    the kernels.
    """
    if any(read_number(part.iterations) > 0 for part in optimizer_parts(model)):
        return True
    for variable in model.variables:
        if variable.name in ("bias", "moving_mean") and int(np.prod(variable.shape)) > 2:
            values = ops.convert_to_numpy(value_of(variable))
            if len(np.unique(values)) > 2:
                return True
    return False


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


def read_number(variable: Any) -> float:
    """Return a scalar variable as a Python float."""
    return float(ops.convert_to_numpy(value_of(variable)))


def value_of(variable: Any) -> Any:
    """Return a variable's tensor on the first device, without gradients."""
    value = _replicas(variable)[0]
    return value.detach() if backend_name() == "torch" else value


def _replicas(variable: Any) -> list[Any]:
    """Return a variable on each device of this process, as its backend knows it."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    replicas = getattr(value, "values", None)  # PyTorch's tensors have a method of that name
    return list(replicas) if isinstance(replicas, tuple | list) else [value]


class LossSums:
    """The running sums of the training loss: Keras's own, or of `logs` where it keeps none.

    Args:
      model: the compiled model.
      estimated: total and count that a selector keeps, in the place of Keras's. Defaults to none.
    """

    def __init__(self, model: keras.Model, estimated: tuple[Any, Any] | None = None) -> None:
        self._variables: tuple[Any, Any] | None = estimated
        self._is_keras = False
        self._total = self._count = self._first_count = 0.0
        if estimated is None:
            tracker = next((m for m in model.metrics if m.name == "loss"), None)
            if tracker is not None and hasattr(tracker, "total"):
                self._variables, self._is_keras = (tracker.total, tracker.count), True
        self._workers = workers_of(model)

    def follow(self, loss: float | None) -> bool:
        """Choose the source of losses after a first step; return whether there is one.

        Keras's tracker where it has counted, or else what `logs` report.

        Args:
          loss: the loss in `logs`, or None.
        """
        if self._variables is not None:
            self._first_count = self.read()[1]
            if not self._is_keras or self._first_count > 0.0:
                return True
        if loss is None:
            return False
        self._variables, self._is_keras = None, False
        return True

    def confirm(self) -> None:
        """Check after a second step that Keras's sums grow; go on by `logs` where they do not.

        `train_on_batch` sets them back at each call, so that `logs` report each batch alone.
        """
        if self._is_keras and self.read()[1] <= self._first_count:
            self._variables, self._is_keras = None, False

    @property
    def is_running_mean(self) -> bool:
        """True where `logs` report the epoch's running mean, as Keras's own train step does."""
        return self._is_keras

    def add(self, loss: float) -> None:
        """Add the loss that a custom training step reports, where nobody keeps a sum."""
        if self._variables is None:
            self._total += loss
            self._count += 1.0

    def end_epoch(self) -> None:
        """Set the sums back to zero, as Keras does with its own."""
        if not self._is_keras:
            self.assign(0.0, 0.0)

    def read_own(self) -> np.ndarray:
        """Return total and count of the losses on all devices of this worker, float64 `[2]`."""
        if self._variables is None:
            return np.array([self._total, self._count])
        return np.array([_sum_of(variable) for variable in self._variables])

    def read(self) -> np.ndarray:
        """Return total and count of the losses on all devices of all workers, float64 `[2]`."""
        sums = self.read_own()
        return sums if self._workers is None else self._workers.gather_numbers(sums).sum(axis=0)

    def assign(self, total: float, count: float) -> None:
        """Set the sums on every device."""
        self._total, self._count = total, count
        for variable, value in zip(self._variables or (), (total, count), strict=False):
            for number, replica in enumerate(_replicas(variable)):
                _assign(variable, replica, value if number == 0 else 0.0)


def _sum_of(variable: Any) -> float:
    return sum(float(ops.convert_to_numpy(replica)) for replica in _replicas(variable))


def _assign(variable: Any, replica: Any, value: Any) -> None:
    """Assign to one device's copy of a variable; to the Keras variable itself where it is one."""
    if isinstance(variable, keras.Variable) and replica is variable.value:
        variable.assign(value)
    else:
        replica.assign(value)


class KernelMotion:
    """The motion of the watched kernels from one decision to the next.

    Args:
      kernels: Keras variables.
    """

    def __init__(self, kernels: Sequence[Any]) -> None:
        self._kernels = list(kernels)
        self._start: list[Any] = []
        self._before: list[Any] = []
        self._moved: list[Any] = []
        self._now: list[Any] = []
        self._squares: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        """Remember the kernels at the start of a training."""
        self._start = self._before = self._present()
        self._moved = [ops.zeros_like(kernel) for kernel in self._start]
        self._keep_squares()

    def _keep_squares(self) -> None:
        """Keep ‖Δw'‖² and ‖w₀‖², which the next reading needs."""
        with without_gradients():
            pairs = zip(self._moved, self._start, strict=True)
            self._squares = [(ops.sum(m * m), ops.sum(start * start)) for m, start in pairs]

    def _present(self) -> list[Any]:
        with without_gradients():
            return [copy_of(value_of(kernel), "float32") for kernel in self._kernels]

    def read(self, steps: int) -> np.ndarray:
        """Return the mean motion of the kernels, float `[3]`; see `motion_numbers`.

        Args:
          steps: since the last decision, at least 1.
        """
        if not self._kernels:
            return np.zeros(NUM_MOTIONS)
        self._now = self._present()
        rows, moved, squares = [], [], []
        with without_gradients():
            for kernel, before, last, start, (last_square, start_square) in zip(
                self._now, self._before, self._moved, self._start, self._squares, strict=True
            ):
                change, distance = kernel - before, kernel - start
                square = ops.sum(change * change)
                row = [square, ops.sum(change * last), last_square, ops.sum(kernel * kernel)]
                rows.append(ops.stack([*row, ops.sum(distance * distance), start_square]))
                moved.append(change)
                squares.append((square, start_square))
            sums = ops.convert_to_numpy(ops.stack(rows))
        self._moved, self._squares = moved, squares
        return np.mean(motion_numbers(sums, max(steps, 1)), axis=0)

    def remember(self, restored: bool = True) -> None:
        """Remember the kernels that a decision leaves: the next motion counts from here.

        Args:
          restored: whether they have changed since they were read. Defaults to True.
        """
        self._before = self._present() if restored else self._now

    def arrays(self) -> list[np.ndarray]:
        """Return its state, three arrays for each kernel."""
        rows = zip(self._before, self._moved, self._start, strict=True)
        return [np.array(ops.convert_to_numpy(part)) for row in rows for part in row]

    def restore(self, arrays: Sequence[np.ndarray]) -> None:
        """Take over what `arrays` gave."""
        parts = [ops.convert_to_tensor(array) for array in arrays]
        self._before, self._moved, self._start = parts[0::3], parts[1::3], parts[2::3]
        self._keep_squares()


def copy_of(value: Any, dtype: str | None = None) -> Any:
    """Return a tensor of its own with a variable's values; it stays when the variable changes."""
    # TensorFlow shares memory until the variable changes; JAX donates, PyTorch overwrites it.
    tensor = ops.copy(value)
    return tensor if dtype is None else ops.cast(tensor, dtype)


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
                for number in range(len(_replicas(variable)))
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
            self._copies = [copy_of(_replicas(v)[number]) for v, number in self._variables]

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
            _assign(variable, _replicas(variable)[number], copy_of(value))
        for variable in self._velocities:
            for replica in _replicas(variable):
                _assign(variable, replica, ops.zeros(variable.shape, variable.dtype))

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


def _optimizer_traits(model: keras.Model) -> np.ndarray:
    """Return whether the (first) optimizer scales its gradients, and log(1 / (1 - momentum))."""
    optimizer = optimizer_parts(model)[0]
    if not isinstance(optimizer, keras.optimizers.SGD):
        return np.array([1.0, 0.0])
    return np.array([0.0, -math.log(1.0 - min(float(optimizer.momentum), 0.999))])


def _slope_meter(model: keras.Model) -> Any:
    # The meter reads a model through this module.
    from keras_qan.qan.slope_ratio import SlopeMeter

    return SlopeMeter(model)


class ModelAccess:
    """Everything that a controller reads and writes of one model in training.

    Args:
      model: the compiled model.
      observations: the observations, which name the layers to watch.
      can_step_back: whether a snapshot is wanted. Defaults to False.
      estimated_losses: sums that a selector keeps in place of Keras's. Defaults to none.

    Attributes:
      losses: the running sums of the training loss.
      motion: the motion of the watched kernels; of no kernels if no observation asks for it.
      snapshot: the copy that a step back restores, or None if no action is a step back.
      slope: the meter of the slope ratio, or None if no observation asks for it.
      optimizer: whether it scales its gradients, and log(1 / (1 - momentum)), float `[2]`.

    Raises:
      ValueError: a layer to watch is missing, or the learning rate cannot be assigned.
    """

    def __init__(
        self,
        model: keras.Model,
        observations: Sequence[Observation],
        can_step_back: bool = False,
        estimated_losses: tuple[Any, Any] | None = None,
    ) -> None:
        self._model = model
        self._rates = rate_variables(model)
        watching = [part for part in observations if part.layers != ()]
        self._kernels = [k for part in watching for k in watched_kernels(model, part.layers)]
        needs_motion = any(part.needs_motion for part in observations)
        self.losses = LossSums(model, estimated_losses)
        self.motion = KernelMotion(self._kernels if needs_motion else [])
        self.snapshot = Snapshot(model) if can_step_back else None
        self.optimizer = _optimizer_traits(model)
        self.slope = _slope_meter(model) if any(p.needs_slope for p in observations) else None
        self._steps_before = self._optimizer_steps()

    def _optimizer_steps(self) -> float:
        # The counter beneath `iterations`, which also counts where gradients are accumulated.
        return sum(read_number(part._iterations) for part in optimizer_parts(self._model))

    def has_moved(self) -> bool:
        """Return whether the optimizer has taken a step, as Keras's train step always does."""
        if not has_own_train_step(self._model):
            return True
        return self._optimizer_steps() > self._steps_before

    @property
    def num_kernels(self) -> int:
        """The number of watched kernels."""
        return len(self._kernels)

    def synchronize(self) -> None:
        """Bring the training's state into the model's variables, where the backend keeps it apart.

        Call it before anything is read or written between two steps; once for each step is enough.
        """
        synchronize(self._model)

    def measure_step(self) -> None:
        """Let the slope ratio take in a step, where it is measured and this step counts."""
        if self.slope is not None and self.slope.wants_step():
            self.synchronize()
            self.slope.add_step()

    def read_kernels(self) -> list[Any]:
        """Return the watched kernels as tensors, each `[..., I, J]`."""
        return [ops.copy(value_of(kernel)) for kernel in self._kernels]

    def read_rates(self) -> np.ndarray:
        """Return the learning rates, float64 `[K]`."""
        return np.array([read_number(rate) for rate in self._rates])

    def assign_rates(self, rates: np.ndarray) -> None:
        """Assign the learning rates, `[K]`, on every device."""
        for variable, value in zip(self._rates, rates, strict=True):
            for replica in _replicas(variable):
                _assign(variable, replica, float(value))

    def arrays(self) -> list[np.ndarray]:
        """Return all that is kept of the model between decisions."""
        snapshot = [] if self.snapshot is None else self.snapshot.arrays()
        return [*self.motion.arrays(), *snapshot]

    def restore(self, arrays: Sequence[np.ndarray]) -> None:
        """Take over what `arrays` gave."""
        size = len(self.motion.arrays())
        self.motion.restore(arrays[:size])
        if self.snapshot is not None:
            self.snapshot.restore_arrays(arrays[size:])
