"""Running statistics of the state, by which acting and learning see the same numbers."""

from __future__ import annotations

import numpy as np

#: Larger features count as this large: their squares stay finite in float32.
LARGEST = np.float32(1e15)

#: Deviations from the mean beyond which a feature counts as one so far away, once so many states
#: are known: the state of a training that exploded would hide the differences of all others.
FARTHEST, FEWEST_STATES = np.float32(100.0), 10


class Normalizer:
    """Standardise features by their running mean and deviation (Welford 1962), in float32.

    Args:
      num_features: F.
      limit: the largest absolute value that comes out, in standard deviations. Defaults to 5.
    """

    def __init__(self, num_features: int, limit: float = 5.0) -> None:
        self.limit = limit
        self._count: np.float32 = np.float32(0.0)
        self._mean: np.ndarray = np.zeros(num_features, np.float32)
        self._squares: np.ndarray = np.zeros(num_features, np.float32)

    def update(self, features: np.ndarray) -> None:
        """Take in one state, float32 `[F]`."""
        deviation = np.clip(features, -LARGEST, LARGEST) - self._mean
        if self._count >= FEWEST_STATES:
            farthest = FARTHEST * self.scale
            deviation = np.clip(deviation, -farthest, farthest)
        before = self._mean
        self._count = np.float32(self._count + 1.0)
        self._mean = before + deviation / self._count
        self._squares = self._squares + deviation * (before + deviation - self._mean)

    def fit(self, states: np.ndarray) -> None:
        """Replace the statistics so far by those of these states, float32 `[N, F]`."""
        self._count = np.float32(len(states))
        states = np.clip(states, -LARGEST, LARGEST)
        self._mean = states.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._squares = (states.var(axis=0, dtype=np.float64) * len(states)).astype(np.float32)

    @property
    def scale(self) -> np.ndarray:
        """The deviation of each feature, float32 `[F]`; infinite where it has not varied yet."""
        deviation = np.sqrt(self._squares / np.maximum(self._count, np.float32(1.0)))
        # A spread within rounding of the mean is no information.
        varies = deviation > np.float32(1e-6) * np.abs(self._mean)
        return np.where(varies, deviation, np.float32(np.inf))

    @property
    def mean(self) -> np.ndarray:
        """The mean of each feature, float32 `[F]`."""
        return self._mean

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (x - mean) / deviation, within ±limit; zero where a feature has not varied yet.

        Args:
          features: float32 `[..., F]`.

        Returns:
          float32 `[..., F]`.
        """
        standard = (features - self._mean) / self.scale
        return np.clip(standard, -self.limit, self.limit).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the statistics by name, as copies."""
        return {
            "count": np.array(self._count),
            "mean": self._mean.copy(),
            "squares": self._squares.copy(),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave."""
        self._count = np.float32(arrays["count"])
        self._mean = np.array(arrays["mean"], np.float32)
        self._squares = np.array(arrays["squares"], np.float32)
