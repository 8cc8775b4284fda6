"""What a rally showed: its stages, its looks, and what an accuracy cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class RallyReport:
    """What a rally came to.

    Args:
      model: the last stage's network, trained.
      stages: a record for each stage: examples, parameters, what grew, steps, multiply-adds forward
        and backward for one example and in all, seconds, and the last look's metrics.
      looks: a record for each look at the validation examples: stage, steps, multiply-adds and
        seconds so far, and the metrics. Look 0 of a stage is before its first step.
      test: the metrics on the test examples; empty without them.
      directory: where it is kept, if anywhere.
    """

    model: keras.Model
    stages: list[Record]
    looks: list[Record]
    test: dict[str, float]
    directory: Path | None = None

    @property
    def multiply_adds(self) -> int:
        """What all training cost: forward and backward, without the looks."""
        return int(self.stages[-1]["multiply_adds_so_far"])

    def cost_to(self, target: float, metric: str = "val_accuracy") -> float:
        """See `cost_to`."""
        return cost_to(self.looks, target, metric)


def cost_to(looks: Sequence[Record], target: float, metric: str = "val_accuracy") -> float:
    """The multiply-adds after which a metric first reached a target, linear between looks.

    Args:
      looks: a rally's looks.
      target: what is to be reached.
      metric: its name; a loss is to fall, anything else to rise.

    Returns:
      Multiply-adds of the training; infinity if it was never reached.

    Raises:
      KeyError: the looks have no such metric.
    """
    sign = -1.0 if metric.endswith("loss") else 1.0
    before: tuple[float, float] | None = None
    for look in looks:
        value, cost = sign * float(look[metric]), float(look["multiply_adds"])
        if value >= sign * target:
            if before is None or value == before[0]:
                return cost
            share = (sign * target - before[0]) / (value - before[0])
            return before[1] + share * (cost - before[1])
        before = (value, cost)
    return math.inf
