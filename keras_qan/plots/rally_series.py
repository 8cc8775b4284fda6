"""From rallies' looks to curves of accuracy against cumulative cost."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_qan.plots.records import EmptyRunError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CostCurve:
    """Accuracy against what was spent.

    Args:
      label: of the arm.
      cost: multiply-adds so far at each look, `[L]`.
      value: the metric there, `[L]`.
      growths: multiply-adds at which a stage but the first began, `[S - 1]`.
      values_there: the metric just after each growth, `[S - 1]`.
    """

    label: str
    cost: Floats
    value: Floats
    growths: Floats
    values_there: Floats


def cost_curve(
    label: str, looks: Sequence[Mapping[str, Any]], metric: str = "val_accuracy"
) -> CostCurve:
    """The curve of a rally's looks.

    Raises:
      EmptyRunError: no look has the metric.
    """
    own = [look for look in looks if look.get(metric) is not None]
    if not own:
        raise EmptyRunError(
            f"Received {len(looks)} looks of {label!r}, none with {metric!r}; expected a rally "
            "whose model is compiled with metrics=['accuracy'] and that has finished a stage."
        )
    grown = [look for look in own if look["stage"] > 1 and look["look"] == 0]

    def column(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
        return np.asarray([row[name] for row in rows], np.float64)

    return CostCurve(
        label,
        column(own, "multiply_adds"),
        column(own, metric),
        column(grown, "multiply_adds"),
        column(grown, metric),
    )


def mean_curve(label: str, curves: Sequence[CostCurve], points: int = 200) -> CostCurve:
    """The mean of several curves, linear between looks, as far as the shortest goes.

    Growths are where they are on average, if all curves have as many.
    """
    end = min(curve.cost[-1] for curve in curves)
    cost = np.linspace(0.0, end, points)
    value = np.mean([np.interp(cost, curve.cost, curve.value) for curve in curves], axis=0)
    alike = len({len(curve.growths) for curve in curves}) == 1
    stacked = np.stack([curve.growths for curve in curves]) if alike else np.zeros((1, 0))
    growths: Floats = stacked.mean(axis=0)
    return CostCurve(label, cost, value, growths, np.interp(growths, cost, value))


def read_looks(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The looks of a rally's directory.

    Raises:
      NotADirectoryError: there is no such directory.
      EmptyRunError: no stage is finished.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"Received the directory {folder}; expected one that a rally has written."
        )
    path = folder / "looks.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if not lines:
        raise EmptyRunError(
            f"Received the directory {folder}; expected a looks.jsonl with something in it. Wait "
            "for the first stage to end."
        )
    return [json.loads(line) for line in lines]
