"""Maps between a hyperparameter's values and the unconstrained scale of the outer descent."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import tensorflow as tf


class Transform(Protocol):
    """A monotone map from the unconstrained scale, on which steps are taken, to the values."""

    name: str

    def value(self, unconstrained: tf.Tensor) -> tf.Tensor:
        """Value of an unconstrained number; differentiable."""
        ...

    def unconstrained(self, value: Any) -> np.ndarray:
        """Unconstrained number of a value, float64."""
        ...

    def fault(self, low: float, high: float) -> str | None:
        """Return the condition that these bounds break, or None."""
        ...


class Log:
    """θ = ln(value): steps multiply, and a value cannot become negative."""

    name = "log"

    def value(self, unconstrained: tf.Tensor) -> tf.Tensor:
        """exp(θ)."""
        return tf.exp(unconstrained)

    def unconstrained(self, value: Any) -> np.ndarray:
        """ln(value)."""
        return np.log(np.asarray(value, np.float64))

    def fault(self, low: float, high: float) -> str | None:
        """Bounds have to be positive."""
        return None if 0.0 < low < high < math.inf else "0 < low < high"


class Logit:
    """θ = ln(value / (1 − value)): for shares, between 0 and 1."""

    name = "logit"

    def value(self, unconstrained: tf.Tensor) -> tf.Tensor:
        """1 / (1 + exp(−θ))."""
        return tf.sigmoid(unconstrained)

    def unconstrained(self, value: Any) -> np.ndarray:
        """ln(value / (1 − value))."""
        share = np.asarray(value, np.float64)
        return np.log(share) - np.log1p(-share)

    def fault(self, low: float, high: float) -> str | None:
        """Bounds have to be within (0, 1)."""
        return None if 0.0 < low < high < 1.0 else "0 < low < high < 1"
