"""Training recipes of trials, and their early stopping."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from keras_qan.utils.validation import check, check_choice, check_integer, check_number


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Training of one model.

    Args:
      stages: (learning rate, epochs), one after the other. Defaults to ((3e-3, 5), (6e-4, 3)).
      optimizer: "adam", or "sgd" with Nesterov's momentum 0.9. Defaults to "adam".
      batch_size: examples in a batch. Defaults to 32.
      weight_decay: λ of a penalty λ/2 · Σ w² on kernels. Defaults to 5e-4.
      dropout: whether every second layer and every fully connected one is followed by dropout, the
        i-th of n with probability i / (2n). Defaults to True.
      mirror: whether images are mirrored at random. Defaults to False.
      shift: the most pixels by which images are shifted at random. Defaults to 0.
      restart_after: epochs after which a model no better than chance is restarted at a lower rate;
        0 for never. Defaults to 3.
      restarts: rates that are tried, each `restart_factor` times the one before. Defaults to 5.
      restart_factor: in (0, 1). Defaults to 0.4.
      max_seconds: time budget of a trial. Defaults to none.

    Raises:
      ValueError: a number is out of range.
    """

    stages: tuple[tuple[float, int], ...] = ((3e-3, 5), (6e-4, 3))
    optimizer: Literal["adam", "sgd"] = "adam"
    batch_size: int = 32
    weight_decay: float = 5e-4
    dropout: bool = True
    mirror: bool = False
    shift: int = 0
    restart_after: int = 3
    restarts: int = 5
    restart_factor: float = 0.4
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        stages = tuple((float(rate), int(epochs)) for rate, epochs in self.stages)
        object.__setattr__(self, "stages", stages)
        valid = bool(stages) and all(rate > 0.0 and epochs >= 1 for rate, epochs in stages)
        expected = "pairs of a rate above 0 and at least one epoch, as in ((1e-3, 5), (2e-4, 5))"
        check(valid, "stages", self.stages, expected)
        check_choice("optimizer", self.optimizer, ("adam", "sgd"))
        check_integer("batch_size", self.batch_size, 1)
        check_number("weight_decay", self.weight_decay, 0)
        check_integer("shift", self.shift, 0)
        check_integer("restart_after", self.restart_after, 0)
        check_integer("restarts", self.restarts, 1)
        check_number("restart_factor", self.restart_factor, above=0, below=1)
        if self.max_seconds is not None:
            check_number("max_seconds", self.max_seconds, above=0, hint="None sets no budget.")

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(epochs for _, epochs in self.stages)

    def scale_rates(self, factor: float) -> Recipe:
        """Return the recipe with its learning rates times a factor.

        Args:
          factor: of the rates.
        """
        stages = tuple((factor * rate, epochs) for rate, epochs in self.stages)
        return dataclasses.replace(self, stages=stages)

    @classmethod
    def falling(
        cls, rate: float, epochs: int, factor: float = 0.2, every: int = 5, **more: object
    ) -> Recipe:
        """Return a recipe whose rate falls by a factor every few epochs.

        Args:
          rate: the first learning rate.
          epochs: of the training.
          factor: of each fall. Defaults to 0.2.
          every: epochs between two falls. Defaults to 5.
          **more: further fields of the recipe.

        Example:
          >>> Recipe.falling(1e-3, 7).stages
          ((0.001, 5), (0.0002, 2))
        """
        count = math.ceil(epochs / every)
        stages = tuple(
            (float(f"{rate * factor**stage:.6g}"), min(every, epochs - stage * every))
            for stage in range(count)
        )
        return cls(stages=stages, **more)  # type: ignore[arg-type]

    @classmethod
    def paper(cls, mirror: bool = True) -> Recipe:
        """Return section 5 of arXiv:1611.02167: 20 epochs of Adam, 0.001 falling by 0.2 every five.

        Args:
          mirror: whether images are mirrored. Defaults to True.
        """
        return cls.falling(1e-3, 20, batch_size=128, mirror=mirror, restart_after=1)

    @classmethod
    def paper_final(cls) -> Recipe:
        """Return the paper's retraining for CIFAR-10: SGD, 300 epochs, shifted, mirrored."""
        stages = ((0.025, 40), (0.0125, 40), (1e-4, 160), (1e-5, 60))
        return cls(
            stages=stages, optimizer="sgd", batch_size=128, mirror=True, shift=5, restart_after=1
        )


@dataclasses.dataclass(frozen=True)
class Stopping:
    """Early stopping of trials that are predicted to end behind; see `CurveStopping`.

    Args:
      confidence: Δ of the rule. Defaults to 0.9.
      keep_best: n of the rule. Defaults to 3.
      margin: δ of the rule. Defaults to 0.
      reward: of a stopped trial: "predicted", its predicted end, or "observed", the best that it
        reached. Defaults to "predicted".

    Raises:
      ValueError: `reward` is neither.
    """

    confidence: float = 0.9
    keep_best: int = 3
    margin: float = 0.0
    reward: Literal["predicted", "observed"] = "predicted"

    def __post_init__(self) -> None:
        check_choice("reward", self.reward, ("predicted", "observed"))
