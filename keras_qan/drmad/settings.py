"""How the student is trained in each outer step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Training:
    """The inner training: SGD with momentum, from the same initial weights each time.

    v ← γ v − (1 − γ) g;  w ← w + α v. At a constant rate it is
    `keras.optimizers.SGD(α (1 − γ), momentum=γ)`; a model compiled with Keras's SGD gives its rate
    and momentum in these terms.

    Args:
      epochs: passes over the training data; not used where `steps` is given.
      steps: updates; None for `epochs` passes.
      batch_size: of arrays; a `tf.data.Dataset` brings its own.
      learning_rate: α; None for the compiled SGD's, or 0.1.
      momentum: γ; None for the compiled SGD's, or 0.9.
      loss: None for the compiled one.
      seed: of the order of arrays, of random layers, and for `build_model(seed)`.
    """

    epochs: int = 5
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    momentum: float | None = None
    loss: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("epochs", "steps", "batch_size"):
            value = getattr(self, name)
            if value is None and name == "steps":
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"Training got {name}={value!r}; expected a whole number above 0.")
        if self.learning_rate is not None and not 0.0 < self.learning_rate < math.inf:
            raise ValueError(
                f"Training got learning_rate={self.learning_rate}; expected a positive number."
            )
        if self.momentum is not None and not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"Training got momentum={self.momentum}; expected a number in [0, 1).")
        if self.seed < 0:
            raise ValueError(f"Training got seed={self.seed}; expected at least 0.")

    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        loss = self.loss
        if loss is not None and not isinstance(loss, str):
            loss = getattr(loss, "__name__", type(loss).__name__)
        return asdict(self) | {"loss": loss}


def rate_and_momentum(model: keras.Model, training: Training) -> tuple[float, float]:
    """α and γ that a training starts from: given, or the compiled SGD's, or 0.1 and 0.9."""
    optimizer = getattr(model, "optimizer", None)
    rate, momentum = 0.1, 0.9
    if isinstance(optimizer, keras.optimizers.SGD):
        momentum = float(optimizer.momentum or 0.0)
        config = optimizer.get_config()["learning_rate"]
        if isinstance(config, int | float):
            rate = float(config) / (1.0 - momentum)
    if training.momentum is not None:
        momentum = training.momentum
    if training.learning_rate is not None:
        rate = training.learning_rate
    return rate, momentum
