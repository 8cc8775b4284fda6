"""The motion of the watched kernels from one decision to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_qan.observations import NUM_MOTIONS, motion_numbers
from keras_qan.qan.variables import arithmetic_for, array_of, copy_of, value_of
from keras_qan.utils.backend import without_gradients


class KernelMotion:
    """The motion of the watched kernels from one decision to the next.

    It is computed where they are: by NumPy where they are small and in the host's memory.

    Args:
      kernels: Keras variables.
    """

    def __init__(self, kernels: Sequence[Any]) -> None:
        self._kernels = list(kernels)
        self._xp = arithmetic_for(self._kernels)
        self._start: list[Any] = []
        self._before: list[Any] = []
        self._moved: list[Any] = []
        self._now: list[Any] = []
        self._squares: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        """Remember the kernels at the start of a training."""
        self._start = self._before = self._present()
        self._moved = [self._xp.zeros_like(kernel) for kernel in self._start]
        self._keep_squares()

    def _keep_squares(self) -> None:
        """Keep ‖Δw'‖² and ‖w₀‖², which the next reading needs."""
        total = self._xp.sum
        with without_gradients(), np.errstate(all="ignore"):
            pairs = zip(self._moved, self._start, strict=True)
            self._squares = [(total(m * m), total(start * start)) for m, start in pairs]

    def _present(self) -> list[Any]:
        if self._xp is np:
            return [array_of(kernel) for kernel in self._kernels]
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
        rows, moved, squares, xp = [], [], [], self._xp
        with without_gradients(), np.errstate(all="ignore"):
            for kernel, before, last, start, (last_square, start_square) in zip(
                self._now, self._before, self._moved, self._start, self._squares, strict=True
            ):
                change, distance = kernel - before, kernel - start
                square = xp.sum(change * change)
                row = [square, xp.sum(change * last), last_square, xp.sum(kernel * kernel)]
                rows.append(xp.stack([*row, xp.sum(distance * distance), start_square]))
                moved.append(change)
                squares.append((square, start_square))
            sums = ops.convert_to_numpy(xp.stack(rows))
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
        parts = [self._xp.array(array) for array in arrays]
        self._before, self._moved, self._start = parts[0::3], parts[1::3], parts[2::3]
        self._keep_squares()
