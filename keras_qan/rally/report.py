"""The results of a rally: its stages, its evaluations, and the cost of a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

Record = dict[str, Any]


def describe_stage(record: Record, num_stages: int) -> str:
    """Return what a stage came to, in a line.

    Args:
      record: of the stage.
      num_stages: how many there are in all.
    """
    early = "; it was ended, as growth is expected to bring more" if record["ended_by_rule"] else ""
    return (
        f"stage {record['stage']} of {num_stages}: {record['examples']:,} examples, "
        f"{record['parameters']:,} weights, validation loss {record['val_loss']:.4g} after "
        f"{record['steps']:,} steps{early}"
    )


@dataclass(frozen=True, eq=False)
class RallyReport:
    """Results of a rally.

    Args:
      model: the last stage's network, trained.
      stages: a record for each stage: examples, parameters, growth, steps, multiply-adds forward
        and backward for one example and in all, seconds, and the last evaluation's metrics.
      looks: a record for each evaluation on the validation examples: stage, steps, multiply-adds
        and seconds so far, and the metrics. Look 0 of a stage is before its first step.
      test: the metrics on the test examples; empty without them.
      directory: folder of the rally. Defaults to none.
    """

    model: keras.Model
    stages: list[Record]
    looks: list[Record]
    test: dict[str, float]
    directory: Path | None = None

    @property
    def multiply_adds(self) -> int:
        """Cost of all training, forward and backward, without evaluations."""
        return int(self.stages[-1]["multiply_adds_so_far"])

    def __str__(self) -> str:
        """Return a line for each stage, and the metrics on the test examples."""
        lines = [
            f"stage {stage['stage']}: {stage['examples']:,} examples, {stage['parameters']:,} "
            f"parameters, {stage['steps']:,} steps, {stage['multiply_adds']:.3g} multiply-adds; "
            + _metrics(stage, "val_")
            for stage in self.stages
        ]
        return "\n".join([*lines, f"test: {_metrics(self.test)}"] if self.test else lines)

    def cost_to(self, target: float, metric: str = "val_accuracy") -> float:
        """Return the cost to reach a value of a metric; see `cost_to`.

        Args:
          target: value of the metric to reach.
          metric: name of the metric. Defaults to "val_accuracy".
        """
        return cost_to(self.looks, target, metric)


def _metrics(record: Record, start: str = "") -> str:
    """Return the metrics of a record whose names start so, as text."""
    return ", ".join(f"{k} {v:.4g}" for k, v in record.items() if k.startswith(start))


def cost_to(looks: Sequence[Record], target: float, metric: str = "val_accuracy") -> float:
    """Multiply-adds after which a metric first reached a target, linear between evaluations.

    Args:
      looks: a rally's evaluations, `RallyReport.looks`.
      target: value of the metric to reach.
      metric: name of the metric; a loss has to fall, anything else to rise. Defaults to
        "val_accuracy".

    Returns:
      Multiply-adds of the training; infinity if it was never reached.

    Raises:
      KeyError: the evaluations have no such metric.
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
