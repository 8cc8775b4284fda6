"""The outer descent: its rule, its steps on the unconstrained scale, and the state of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_qan.drmad.functional_model import FunctionalModel
from keras_qan.drmad.inner_loop import DivergedError
from keras_qan.drmad.loops import InnerState
from keras_qan.utils.validation import check_choice, check_number

_RULES = ("adam", "sign", "plain")

# So many halvings leave a thousandth of a step: the way is blocked.
_MOST_HALVINGS = 10

# A validation loss this many times that of the untrained model counts as divergence.
_DIVERGED_RATIO = 10.0


@dataclass(frozen=True)
class OuterOptimizer:
    """The rule by which hyperparameters follow their hypergradients.

    Args:
      rule: "adam" (Kingma & Ba 2015, on each number), "sign" (θ ← θ − η sign(d), the rule that
        DrMAD was published with) or "plain" (θ ← θ − η d). Defaults to "adam".
      step_size: η, on the unconstrained scale: with the transform log and Adam or sign, 0.1 changes
        a value by a tenth at each step. Defaults to 0.1.
      beta_1: decay of Adam's mean. Defaults to 0.9.
      beta_2: decay of Adam's mean square. Defaults to 0.99.

    Raises:
      ValueError: an argument is out of range.
    """

    rule: str = "adam"
    step_size: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, _RULES)
        check_number("step_size", self.step_size, above=0, hint="Try 0.1.")
        check_number("beta_1", self.beta_1, 0, below=1)
        check_number("beta_2", self.beta_2, 0, below=1)


class OuterState:
    """State of an outer descent.

    Args:
      optimizer: its rule.
      unconstrained: the numbers to start from, one array for each hyperparameter.
    """

    def __init__(self, optimizer: OuterOptimizer, unconstrained: list[np.ndarray]) -> None:
        self.optimizer = optimizer
        self.count = 0
        self.means = [np.zeros_like(numbers) for numbers in unconstrained]
        self.squares = [np.zeros_like(numbers) for numbers in unconstrained]

    def step(
        self, unconstrained: list[np.ndarray], gradients: list[np.ndarray], scale: float
    ) -> list[np.ndarray]:
        """Return the unconstrained numbers after a step.

        Args:
          unconstrained: the numbers before it.
          gradients: hypergradients there.
          scale: factor on the step size.
        """
        self.count += 1
        rate = scale * self.optimizer.step_size
        return [
            numbers - rate * self._direction(place, gradient)
            for place, (numbers, gradient) in enumerate(zip(unconstrained, gradients, strict=True))
        ]

    def _direction(self, place: int, gradient: np.ndarray) -> np.ndarray:
        if self.optimizer.rule == "plain":
            return gradient
        if self.optimizer.rule == "sign":
            return np.sign(gradient)
        one, two = self.optimizer.beta_1, self.optimizer.beta_2
        self.means[place] = one * self.means[place] + (1.0 - one) * gradient
        self.squares[place] = two * self.squares[place] + (1.0 - two) * np.square(gradient)
        mean = self.means[place] / (1.0 - one**self.count)
        root = np.sqrt(self.squares[place] / (1.0 - two**self.count))
        # Relative, as hypergradients of different problems differ by many powers of ten.
        tiny = 1e-8 * max(float(root.max(initial=0.0)), 1e-30)
        return np.asarray(mean / (root + tiny))

    def get_state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays by name."""
        found = {"descent/count": np.asarray(self.count)}
        for place, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            found |= {f"descent/mean/{place}": mean, f"descent/square/{place}": square}
        return found

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore the state from the arrays of `get_state`."""
        self.count = int(arrays["descent/count"])
        self.means = [arrays[f"descent/mean/{n}"] for n in range(len(self.means))]
        self.squares = [arrays[f"descent/square/{n}"] for n in range(len(self.squares))]


class TunerState:
    """State of a search: what a checkpoint holds.

    Args:
      unconstrained: the unconstrained numbers that the search begins with.
      descent: the outer descent.

    Attributes:
      before: the unconstrained numbers of the last training that did not diverge.
      history: a record of each outer step.
      divergences: number of steps that were halved.
      scale: factor on the step size that halvings left.
      best: `val_loss`, `raws` (the unconstrained numbers), `weights` and `state` of the lowest
        validation loss.
    """

    def __init__(self, unconstrained: list[np.ndarray], descent: OuterState) -> None:
        self.unconstrained = unconstrained
        self.descent = descent
        self.before: list[np.ndarray] | None = None
        self.history: list[dict[str, Any]] = []
        self.divergences = 0
        self.scale = 1.0
        self.best: dict[str, Any] = {}

    @property
    def val_loss(self) -> float:
        """Lowest validation loss so far, or infinity."""
        return float(self.best.get("val_loss", np.inf))

    def start_from(self, unconstrained: list[np.ndarray]) -> None:
        """Set the numbers that the first outer step is taken from."""
        self.unconstrained = unconstrained

    def record_best(
        self, val_loss: float, unconstrained: list[np.ndarray], end: InnerState
    ) -> None:
        """Keep a training if it is the best so far."""
        if val_loss < self.val_loss:
            self.best = {
                "val_loss": val_loss,
                "raws": [numbers.copy() for numbers in unconstrained],
                "weights": [w.numpy() for w in end.weights],
                "state": [s.numpy() for s in end.state],
            }

    def step(self, gradients: list[np.ndarray], bounds: list[tuple[float, float]]) -> None:
        """Move the unconstrained numbers down their hypergradients, within their bounds."""
        self.before = self.unconstrained
        moved = self.descent.step(self.unconstrained, gradients, self.scale)
        self.unconstrained = [
            np.clip(numbers, *ends) for numbers, ends in zip(moved, bounds, strict=True)
        ]
        # A step size that was halved comes back slowly.
        self.scale = min(1.0, 1.2 * self.scale)

    def require_no_worse(self, val_loss: float, untrained: float) -> None:
        """Raise DivergedError for a loss far above that of the untrained model.

        Such a training diverged too, though its loss is finite.
        """
        usual = max([untrained, *(float(record["val_loss"]) for record in self.history[:1])])
        if val_loss > _DIVERGED_RATIO * max(usual, 1e-6):
            raise DivergedError(
                f"The training ended with a validation loss of {val_loss:.3g}, more than "
                f"{_DIVERGED_RATIO:g} times the {usual:.3g} of before."
            )

    def halve(self, error: DivergedError) -> None:
        """Go half the way back to the last numbers that trained, and count it.

        Raises:
          DivergedError: there is no way back, or it was taken too often.
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
                "expected a part of it to be possible. Lower OuterOptimizer(step_size=...), the "
                "upper bounds of the learning rate, or choose method='exact'."
            ) from error
        self.unconstrained = [
            0.5 * (a + b) for a, b in zip(self.unconstrained, self.before, strict=True)
        ]

    def get_state(self, model: FunctionalModel) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return arrays and data; the initial weights too, which may have had no seed."""
        arrays = self.descent.get_state()
        lists = {
            "raw": self.unconstrained,
            "before": self.before or [],
            "start/weights": model.initial_weights,
            "start/state": model.initial_state,
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

    def set_state(
        self, arrays: dict[str, np.ndarray], data: dict[str, Any], model: FunctionalModel
    ) -> None:
        """Restore the arrays and data of `get_state`, the model's initial weights included."""

        def items(name: str) -> list[np.ndarray]:
            count = sum(key.rpartition("/")[0] == name for key in arrays)
            return [arrays[f"{name}/{number}"] for number in range(count)]

        self.history = data["history"]
        self.divergences = data["divergences"]
        self.scale = data["scale"]
        self.unconstrained = items("raw")
        self.before = items("before") or None
        self.descent.set_state(arrays)
        model.restart_from(items("start/weights"), items("start/state"))
        if data["best"] is not None:
            self.best = {"val_loss": data["best"]} | {
                kind: items(f"best/{kind}") for kind in ("raws", "weights", "state")
            }
