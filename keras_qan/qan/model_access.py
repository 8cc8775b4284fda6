"""All that is read and written of a model in training, on any backend.

A rate is assigned, a loss is read, a snapshot is taken and restored: by Keras variables and
`keras.ops`, where the weights are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_qan.observations import Observation, watched_kernels
from keras_qan.qan.first_steps import FirstSteps
from keras_qan.qan.kernel_motion import KernelMotion
from keras_qan.qan.loss_sums import LossSums
from keras_qan.qan.raise_gate import RaiseGate
from keras_qan.qan.slope_ratio import SlopeMeter
from keras_qan.qan.slope_window import SlopeWindow
from keras_qan.qan.snapshot import Snapshot
from keras_qan.qan.training_memory import forget_rates, note_rates
from keras_qan.qan.variables import (
    assign_rates,
    copy_of,
    has_momentum,
    num_replicas,
    optimizer_parts,
    rate_variables,
    read_number,
    read_rates,
    synchronize,
    value_of,
)


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
    the kernels. Of biases that a layer draws, or is given one by one, nothing is said.
    """
    if any(read_number(part.iterations) > 0 for part in optimizer_parts(model)):
        return True
    varied = {
        id(variable)
        for layer in model._flatten_layers()
        if _begins_varied(getattr(layer, "bias_initializer", None))
        for variable in layer.variables
    }
    for variable in model.variables:
        if id(variable) in varied:
            continue
        if variable.name in ("bias", "moving_mean") and int(np.prod(variable.shape)) > 2:
            values = ops.convert_to_numpy(value_of(variable))
            if len(np.unique(values)) > 2:
                return True
    return False


def _begins_varied(initializer: Any) -> bool:
    """Return whether the numbers that an initializer gives differ, as far as is known."""
    if isinstance(initializer, keras.initializers.Constant):
        return bool(np.ndim(initializer.value))
    constants = keras.initializers.Zeros | keras.initializers.Ones
    return initializer is not None and not isinstance(initializer, constants)


def _optimizer_traits(model: keras.Model) -> np.ndarray:
    """Return the (first) optimizer's traits, `[3]`; see `ObservationContext`."""
    optimizer = optimizer_parts(model)[0]
    if not isinstance(optimizer, keras.optimizers.SGD):
        return np.array([1.0, 0.0, float(has_momentum(optimizer))])
    gain = -math.log(1.0 - min(float(optimizer.momentum), 0.999))
    return np.array([0.0, gain, float(has_momentum(optimizer))])


class ModelAccess:
    """Everything that a controller reads and writes of one model in training.

    Args:
      model: the compiled model.
      observations: the observations, which name the layers to watch.
      can_step_back: whether a snapshot is wanted. Defaults to False.
      estimated_losses: sums that a selector keeps in place of Keras's. Defaults to none.
      limits_raises: whether raises above the compiled rate are limited. Defaults to False.
      judges_first_steps: whether first steps that were far too long or short are told. Defaults
        to False.

    Attributes:
      losses: the running sums of the training loss.
      motion: the motion of the watched kernels; of no kernels if no observation asks for it.
      snapshot: the copy that a step back restores, or None if no action is a step back.
      slope: the meter of the slope ratio, or None if no observation asks for it.
      window: the slope ratio over the last steps before a decision, or None if nothing asks for it.
      gate: the limit of raises, or None where there is none.
      first_steps: the judge of a training's first steps, or None where they stay as they are.
      optimizer: its traits, float `[3]`; see `ObservationContext`.

    Raises:
      ValueError: a layer to watch is missing, or the learning rate cannot be assigned.
    """

    def __init__(
        self,
        model: keras.Model,
        observations: Sequence[Observation],
        can_step_back: bool = False,
        estimated_losses: tuple[Any, Any] | None = None,
        limits_raises: bool = False,
        judges_first_steps: bool = False,
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
        self.slope = SlopeMeter(model) if any(p.needs_slope for p in observations) else None
        self._needs_window = any(p.needs_slope_window for p in observations)
        self.window = SlopeWindow(model) if limits_raises or self._needs_window else None
        self.gate = RaiseGate(model) if limits_raises else None
        self.first_steps = FirstSteps(model) if judges_first_steps else None
        self._steps_before = self._steps_measured = self._optimizer_steps()

    def _optimizer_steps(self) -> float:
        # The counter beneath `iterations`, which also counts where gradients are accumulated.
        return sum(read_number(part._iterations) for part in optimizer_parts(self._model))

    def is_of(self, model: keras.Model) -> bool:
        """Return whether this is access to that model."""
        return self._model is model

    def leave_out_gate(self) -> None:
        """Limit no raises in this training, where none can follow or be told apart."""
        self.gate = self.first_steps = None
        if not self._needs_window:
            self.window = None

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
        took_step = self._took_step()
        for meter in (self.slope, None if self.window is None else self.window.meter):
            if meter is not None and meter.wants_step() and took_step:
                self.synchronize()
                meter.add_step()

    def _took_step(self) -> bool:
        """Return whether the last batch brought a step; one's own train step may add some up."""
        if not has_own_train_step(self._model):
            return True
        before, self._steps_measured = self._steps_measured, self._optimizer_steps()
        return self._steps_measured > before

    def read_kernels(self) -> list[Any]:
        """Return the watched kernels as tensors, each `[..., I, J]`."""
        return [copy_of(value_of(kernel)) for kernel in self._kernels]

    def read_rates(self) -> np.ndarray:
        """Return the learning rates, float64 `[K]`."""
        return read_rates(self._rates)

    def assign_rates(self, rates: np.ndarray) -> None:
        """Assign the learning rates, `[K]`, on every device."""
        assign_rates(self._rates, rates)
        note_rates(self._model, rates)

    def put_rates_back(self, rates: np.ndarray) -> None:
        """Assign the learning rates, `[K]`, that a `fit` began with, at its end."""
        assign_rates(self._rates, rates)
        forget_rates(self._model)

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
