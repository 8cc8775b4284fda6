"""Steps of the outer descent, on the raw scale.

Where a search stands: present and best hyperparameters, the descent's memory, the history.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_qan.drmad.functional_model import FunctionalModel
from keras_qan.drmad.inner_loop import DivergedError, InnerState

_RULES = ("adam", "sign", "plain")


@dataclass(frozen=True)
class OuterOptimizer:
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


class OuterState:
    """The state of an outer descent.

    Args:
      outer: its rule.
      raws: the numbers to start from, one array for each hyperparameter.
    """

    def __init__(self, outer: OuterOptimizer, raws: list[np.ndarray]) -> None:
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


# So many halvings leave a thousandth of a step: the way is blocked.
_MOST_HALVINGS = 10


_TOO_MANY_TIMES = 10.0


class TunerState:
    """What outlives an outer step, and a kill.

    Args:
      raws: the raw numbers that the search begins with.
      descent: takes the steps.

    Attributes:
      before: the raw numbers of the last training that did not diverge.
      history: a record of each outer step.
      divergences: how many steps were halved.
      scale: the factor on the step size that halvings left.
      best: `val_loss`, `raws`, `weights` and `state` of the lowest validation loss.
    """

    def __init__(self, raws: list[np.ndarray], descent: OuterState) -> None:
        self.raws = raws
        self.descent = descent
        self.before: list[np.ndarray] | None = None
        self.history: list[dict[str, Any]] = []
        self.divergences = 0
        self.scale = 1.0
        self.best: dict[str, Any] = {}

    @property
    def val_loss(self) -> float:
        """The lowest validation loss so far, or infinity."""
        return float(self.best.get("val_loss", np.inf))

    def remember(self, val_loss: float, raws: list[np.ndarray], end: InnerState) -> None:
        """Keeps a training that is the best so far."""
        if val_loss < self.val_loss:
            self.best = {
                "val_loss": val_loss,
                "raws": [raw.copy() for raw in raws],
                "weights": [w.numpy() for w in end.weights],
                "state": [s.numpy() for s in end.state],
            }

    def step(self, gradients: list[np.ndarray], bounds: list[tuple[float, float]]) -> None:
        """Moves the raw numbers down their hypergradients, within their bounds."""
        self.before = self.raws
        moved = self.descent.step(self.raws, gradients, self.scale)
        self.raws = [np.clip(raw, *ends) for raw, ends in zip(moved, bounds, strict=True)]
        # A step size that was halved comes back slowly.
        self.scale = min(1.0, 1.2 * self.scale)

    def require_no_worse(self, val_loss: float, untrained: float) -> None:
        """A loss far above that of the untrained model is divergence too, though it is a number.

        Raises:
          DivergedError: it is.
        """
        usual = max([untrained, *(float(record["val_loss"]) for record in self.history[:1])])
        if val_loss > _TOO_MANY_TIMES * max(usual, 1e-6):
            raise DivergedError(
                f"The training ended with a validation loss of {val_loss:.3g}, more than "
                f"{_TOO_MANY_TIMES:g} times the {usual:.3g} of before."
            )

    def halve(self, error: DivergedError) -> None:
        """Goes half the way back to the last raw numbers that trained, and counts it.

        Raises:
          DivergedError: there is no way back, or it was gone too often.
        """
        if self.before is None:
            raise DivergedError(
                f"{error} It did so with the hyperparameters that the search began with; expected "
                "a training that converges. Lower the learning rate: "
                "Training(learning_rate=0.01), or LearningRate(initial=0.01)."
            ) from error
        self.divergences += 1
        self.scale *= 0.5
        if self.scale < 0.5**_MOST_HALVINGS:
            raise DivergedError(
                f"{error} It still does after {_MOST_HALVINGS} halvings of the outer step; "
                "expected a part of it to be possible. Lower Outer(step_size=...), the upper "
                "bounds of the learning rate, or choose method='exact'."
            ) from error
        self.raws = [0.5 * (a + b) for a, b in zip(self.raws, self.before, strict=True)]

    def packed(self, student: FunctionalModel) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All of it as arrays and data; the initial weights too, which may have had no seed."""
        arrays = self.descent.arrays()
        lists = {
            "raw": self.raws,
            "before": self.before or [],
            "start/weights": student.initial_weights,
            "start/state": student.initial_state,
        } | {f"best/{kind}": self.best.get(kind, []) for kind in ("raws", "weights", "state")}
        for name, items in lists.items():
            arrays |= {f"{name}/{number}": array for number, array in enumerate(items)}
        data = {
            "history": self.history,
            "divergences": self.divergences,
            "scale": self.scale,
            "best": self.best.get("val_loss"),
        }
        return arrays, data

    def unpack(
        self, arrays: dict[str, np.ndarray], data: dict[str, Any], student: FunctionalModel
    ) -> None:
        """Takes up what `packed` gave."""

        def items(name: str) -> list[np.ndarray]:
            count = sum(key.rpartition("/")[0] == name for key in arrays)
            return [arrays[f"{name}/{number}"] for number in range(count)]

        self.history = data["history"]
        self.divergences = data["divergences"]
        self.scale = data["scale"]
        self.raws = items("raw")
        self.before = items("before") or None
        self.descent.restore(arrays)
        student.initial_weights = items("start/weights")
        student.initial_state = items("start/state")
        if data["best"] is not None:
            self.best = {"val_loss": data["best"]} | {
                kind: items(f"best/{kind}") for kind in ("raws", "weights", "state")
            }
