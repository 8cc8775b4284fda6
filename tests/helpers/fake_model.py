"""A model in training of plain NumPy, for tests of what decides about one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_qan.observations import NUM_MOTIONS


class FakeLosses:
    """The running sums of a training loss that a test makes up."""

    def __init__(self) -> None:
        self.sums = np.zeros(2)

    def read(self) -> np.ndarray:
        """Return total and count."""
        return self.sums.copy()

    def assign(self, total: float, count: float) -> None:
        """Set total and count."""
        self.sums = np.array([total, count], float)

    def add(self, loss: float, examples: float) -> None:
        """Count a step of that mean loss."""
        self.sums += [loss * examples, examples]


class FakeMotion:
    """The motion of no kernels."""

    def begin(self) -> None:
        """Remember nothing."""

    def remember(self, restored: bool = True) -> None:
        """Remember nothing."""

    def read(self, steps: int) -> np.ndarray:
        """Return zeros."""
        assert steps >= 1
        return np.zeros(NUM_MOTIONS)


class FakeModel:
    """What a controller reads and writes of a model, in the place of `ModelAccess`.

    Args:
      rates: the learning rates that it begins with.
      kernels: what is watched. Defaults to nothing.
    """

    snapshot = None
    slope = None
    window = None
    gate = None
    first_steps = None

    def __init__(self, rates: Sequence[float] = (1.0,), kernels: Sequence[np.ndarray] = ()) -> None:
        self.rates = np.array(rates, float)
        self.kernels = list(kernels)
        self.losses = FakeLosses()
        self.motion = FakeMotion()
        self.optimizer = np.array([0.0, 0.0, 0.0])

    def read_rates(self) -> np.ndarray:
        """Return the learning rates."""
        return self.rates.copy()

    def assign_rates(self, rates: np.ndarray) -> None:
        """Take the learning rates."""
        self.rates = np.array(rates, float)

    def leave_out_gate(self) -> None:
        """Limit no raises."""
        self.window = self.gate = self.first_steps = None

    def read_kernels(self) -> list[np.ndarray]:
        """Return the watched kernels."""
        return list(self.kernels)
