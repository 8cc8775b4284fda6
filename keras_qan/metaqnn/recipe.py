"""How the network of a trial is trained, and when that is given up."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training.

    Args:
      stages: (learning rate, epochs), one after the other.
      optimizer: "adam", or "sgd" with Nesterov's momentum 0.9.
      batch_size: examples in a batch.
      weight_decay: λ of a penalty λ/2 · Σ w² on kernels.
      dropout: whether every second layer and every fully connected one is followed by dropout, the
        i-th of n with probability i / (2n).
      mirror: whether images are mirrored at random.
      shift: by how many pixels images are shifted at random, at the most.
      restart_after: after so many epochs a model no better than chance starts anew at a lower rate;
        0 for never.
      restarts: rates that are tried, each `restart_factor` times the one before.
      restart_factor: see there.
      max_seconds: time budget of a trial; None for none.

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
        if not stages or any(rate <= 0.0 or epochs < 1 for rate, epochs in stages):
            raise ValueError(
                f"Received stages={self.stages}; expected pairs of a learning rate above 0 and at "
                "least one epoch, as in ((1e-3, 5), (2e-4, 5))."
            )
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f'Received optimizer={self.optimizer!r}; expected "adam" or "sgd".')
        if self.batch_size < 1 or self.restarts < 1 or min(self.restart_after, self.shift) < 0:
            raise ValueError(
                f"Received batch_size={self.batch_size}, restarts={self.restarts}, "
                f"restart_after={self.restart_after} and shift={self.shift}; expected the first "
                "two at least 1 and the others at least 0."
            )
        if self.weight_decay < 0.0 or not 0.0 < self.restart_factor < 1.0:
            raise ValueError(
                f"Received weight_decay={self.weight_decay} and "
                f"restart_factor={self.restart_factor}; expected at least 0, and a factor within "
                "(0, 1)."
            )
        if self.max_seconds is not None and not self.max_seconds > 0.0:
            raise ValueError(f"Received max_seconds={self.max_seconds}; expected more than 0.")

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return sum(epochs for _, epochs in self.stages)

    def at_rate(self, factor: float) -> Recipe:
        """The same at other rates."""
        stages = tuple((factor * rate, epochs) for rate, epochs in self.stages)
        return dataclasses.replace(self, stages=stages)

    @classmethod
    def falling(
        cls, rate: float, epochs: int, factor: float = 0.2, every: int = 5, **more: object
    ) -> Recipe:
        """A rate that falls by a factor every so many epochs.

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
        """Section 5 of arXiv:1611.02167: Adam for 20 epochs, 0.001 falling by 0.2 every five."""
        return cls.falling(1e-3, 20, batch_size=128, mirror=mirror, restart_after=1)

    @classmethod
    def paper_final(cls) -> Recipe:
        """How the best were retrained for CIFAR-10: SGD, 300 epochs, images shifted, mirrored."""
        stages = ((0.025, 40), (0.0125, 40), (1e-4, 160), (1e-5, 60))
        return cls(
            stages=stages, optimizer="sgd", batch_size=128, mirror=True, shift=5, restart_after=1
        )


@dataclasses.dataclass(frozen=True)
class Stopping:
    """Trials that are predicted to end behind are stopped; see `CurveStopping`.

    Args:
      confidence: Δ of the rule.
      keep_best: n of the rule.
      margin: δ of the rule.
      reward: what a stopped trial is worth: "predicted", the end that it was predicted to have, or
        "observed", the best that it reached.
    """

    confidence: float = 0.9
    keep_best: int = 3
    margin: float = 0.0
    reward: Literal["predicted", "observed"] = "predicted"

    def __post_init__(self) -> None:
        if self.reward not in ("predicted", "observed"):
            raise ValueError(
                f'Received reward={self.reward!r}; expected "predicted" or "observed".'
            )
