"""How a bounded hyperparameter is seen by the outer descent: on a scale without bounds."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import tensorflow as tf


class Transform(Protocol):
    """A monotone map from the raw scale, on which steps are taken, to the hyperparameter's own."""

    name: str

    def value(self, raw: tf.Tensor) -> tf.Tensor:
        """The hyperparameter of a raw number; differentiable."""
        ...

    def raw(self, value: Any) -> np.ndarray:
        """The raw number of a hyperparameter, float64."""
        ...

    def check(self, low: float, high: float) -> str | None:
        """What is wrong with these bounds, or None."""
        ...


class Log:
    """raw = ln(value): steps multiply, and a value cannot become negative."""

    name = "log"

    def value(self, raw: tf.Tensor) -> tf.Tensor:
        """exp(raw)."""
        return tf.exp(raw)

    def raw(self, value: Any) -> np.ndarray:
        """ln(value)."""
        return np.log(np.asarray(value, np.float64))

    def check(self, low: float, high: float) -> str | None:
        """Bounds are positive."""
        return None if 0.0 < low < high < math.inf else "0 < low < high"


class Logit:
    """raw = ln(value / (1 − value)): for shares, between 0 and 1."""

    name = "logit"

    def value(self, raw: tf.Tensor) -> tf.Tensor:
        """1 / (1 + exp(−raw))."""
        return tf.sigmoid(raw)

    def raw(self, value: Any) -> np.ndarray:
        """ln(value / (1 − value))."""
        share = np.asarray(value, np.float64)
        return np.log(share) - np.log1p(-share)

    def check(self, low: float, high: float) -> str | None:
        """Bounds are within (0, 1)."""
        return None if 0.0 < low < high < 1.0 else "0 < low < high < 1"
