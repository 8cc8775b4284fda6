"""Steps of the outer descent, on the raw scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_RULES = ("adam", "sign", "plain")


@dataclass(frozen=True)
class Outer:
    """How hyperparameters follow their hypergradients.

    Args:
      rule: "adam" (Kingma & Ba 2015, on each number), "sign" (θ ← θ − η sign(d), the rule that
        DrMAD was published with) or "plain" (θ ← θ − η d).
      step_size: η, on the raw scale: with the transform log and Adam or sign, 0.1 changes a value
        by a tenth at each step.
      beta_1: of Adam's mean.
      beta_2: of Adam's mean square.
    """

    rule: str = "adam"
    step_size: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.rule not in _RULES:
            raise ValueError(
                f"Outer got rule={self.rule!r}; expected one of {', '.join(map(repr, _RULES))}."
            )
        if not (0.0 < self.step_size < float("inf")):
            raise ValueError(
                f"Outer got step_size={self.step_size}; expected a positive number. Try 0.1."
            )
        if not (0.0 <= self.beta_1 < 1.0 and 0.0 <= self.beta_2 < 1.0):
            raise ValueError(
                f"Outer got beta_1={self.beta_1} and beta_2={self.beta_2}; expected numbers in "
                "[0, 1)."
            )

    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        return asdict(self)


class Descent:
    """The state of an outer descent.

    Args:
      outer: its rule.
      raws: the numbers to start from, one array for each hyperparameter.
    """

    def __init__(self, outer: Outer, raws: list[np.ndarray]) -> None:
        self.outer = outer
        self.count = 0
        self.means = [np.zeros_like(raw) for raw in raws]
        self.squares = [np.zeros_like(raw) for raw in raws]

    def step(
        self, raws: list[np.ndarray], gradients: list[np.ndarray], scale: float
    ) -> list[np.ndarray]:
        """The raw numbers after a step.

        Args:
          raws: before it.
          gradients: hypergradients there.
          scale: factor on the step size.
        """
        self.count += 1
        rate = scale * self.outer.step_size
        moved = []
        for place, (raw, gradient) in enumerate(zip(raws, gradients, strict=True)):
            moved.append(raw - rate * self._direction(place, gradient))
        return moved

    def _direction(self, place: int, gradient: np.ndarray) -> np.ndarray:
        if self.outer.rule == "plain":
            return gradient
        if self.outer.rule == "sign":
            return np.sign(gradient)
        one, two = self.outer.beta_1, self.outer.beta_2
        self.means[place] = one * self.means[place] + (1.0 - one) * gradient
        self.squares[place] = two * self.squares[place] + (1.0 - two) * np.square(gradient)
        mean = self.means[place] / (1.0 - one**self.count)
        root = np.sqrt(self.squares[place] / (1.0 - two**self.count))
        # Relative, as hypergradients of different problems differ by many powers of ten.
        tiny = 1e-8 * max(float(root.max(initial=0.0)), 1e-30)
        return np.asarray(mean / (root + tiny))

    def arrays(self) -> dict[str, np.ndarray]:
        """The state as arrays."""
        found = {"descent/count": np.asarray(self.count)}
        for place, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            found |= {f"descent/mean/{place}": mean, f"descent/square/{place}": square}
        return found

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes up the state from `arrays`."""
        self.count = int(arrays["descent/count"])
        self.means = [arrays[f"descent/mean/{n}"] for n in range(len(self.means))]
        self.squares = [arrays[f"descent/square/{n}"] for n in range(len(self.squares))]
