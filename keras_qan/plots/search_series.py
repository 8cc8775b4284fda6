"""From a search's records to the plain numbers that its figures show."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keras_qan.plots.records import Record

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Exploration:
    """Accuracy of the sampled models against ε.

    Args:
        number: of the model, float64 [N].
        score: its validation accuracy, [N].
        mean: rolling mean over the models before, [N].
        window: over how many at the most.
        stages: (ε, first model, number of models, their mean accuracy), one after the other.
    """

    number: Array
    score: Array
    mean: Array
    window: int
    stages: tuple[tuple[float, int, int, float], ...]


@dataclass(frozen=True, eq=False)
class LayerValues:
    """Mean action values by layer and depth.

    Args:
        layers: names of the layers, L of them.
        depths: at which they are put, D of them.
        value: float64 [L, D], NaN where it was never tried.
    """

    layers: tuple[str, ...]
    depths: tuple[int, ...]
    value: Array


@dataclass(frozen=True, eq=False)
class PredictedEnds:
    """Ends that were predicted, against those that came.

    Args:
        truth: float64 [N].
        predicted: float64 [N].
        low: lower ends of the intervals; the prediction itself where there is none, [N].
        high: upper ends, [N].
        monitor: the metric's name.
        num_stopped: trainings that were stopped, whose end nobody knows.
    """

    truth: Array
    predicted: Array
    low: Array
    high: Array
    monitor: str
    num_stopped: int


@dataclass(frozen=True, eq=False)
class EpochsSaved:
    """Epochs spent and planned, summed up.

    Args:
        spent: after each training, float64 [N].
        planned: after each training, [N].
    """

    spent: Array
    planned: Array


def read_lines(path: Path) -> list[Record]:
    """Reads a file of JSON lines; none if there is no file, and a line cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def exploration(models: Sequence[Record]) -> Exploration | None:
    """Accuracy against ε: Figure 3 of arXiv:1611.02167.

    Args:
        models: rows of a search.
    """
    scored = [row for row in models if row.get("score") is not None]
    if not scored:
        return None
    score = np.array([row["score"] for row in scored], np.float64)
    window = max(5, len(scored) // 10)
    sums = np.cumsum(np.concatenate([[0.0], score]))
    ends = np.arange(1, len(score) + 1)
    starts = np.maximum(0, ends - window)
    stages: list[tuple[float, int, int, float]] = []
    first = 0
    for place in range(1, len(scored) + 1):
        if place == len(scored) or scored[place]["epsilon"] != scored[first]["epsilon"]:
            mean = float(score[first:place].mean())
            stages.append((float(scored[first]["epsilon"]), first, place - first, mean))
            first = place
    rolling = (sums[ends] - sums[starts]) / (ends - starts)
    return Exploration(np.arange(len(score), dtype=float), score, rolling, window, tuple(stages))


def layer_values(values: Mapping[str, Mapping[str, float]]) -> LayerValues | None:
    """Mean Q over all states of a depth, by the layer that is put there: Figure A of the paper.

    Args:
        values: action values by state, whose key begins with its depth, and action.
    """
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for state, actions in values.items():
        depth = int(state.split(":")[0]) + 1
        for action, value in actions.items():
            found[action, depth].append(float(value))
    if not found:
        return None
    layers = sorted({layer for layer, _ in found}, key=_order)
    depths = sorted({depth for _, depth in found})
    table = np.full((len(layers), len(depths)), np.nan)
    for (layer, depth), known in found.items():
        table[layers.index(layer), depths.index(depth)] = np.mean(known)
    return LayerValues(tuple(layers), tuple(depths), table)


def predicted_ends(curves: Sequence[Record], share: float = 0.25) -> PredictedEnds | None:
    """Predictions after a share of the epochs against the ends of the trainings that went on.

    Args:
        curves: lines of a history of curves.
        share: the first prediction after so much of the planned epochs is shown.
    """
    rows = []
    for curve in curves:
        late = [p for p in curve["predictions"] if p[0] >= share * curve["planned"]]
        if late and not curve["stopped"]:
            _, end, low, high = late[0]
            rows.append(
                (
                    curve["values"][-1],
                    end,
                    end if low is None else low,
                    end if high is None else high,
                )
            )
    if not rows:
        return None
    truth, predicted, low_ends, high_ends = np.array(rows, np.float64).T
    stopped = sum(bool(curve["stopped"]) for curve in curves)
    monitor = str(curves[0]["monitor"])
    return PredictedEnds(truth, predicted, low_ends, high_ends, monitor, stopped)


def epochs_saved(curves: Sequence[Record]) -> EpochsSaved | None:
    """Epochs spent and planned, training by training.

    Args:
        curves: lines of a history of curves.
    """
    if not curves:
        return None
    spent = np.cumsum([len(curve["values"]) for curve in curves]).astype(np.float64)
    planned = np.cumsum([curve["planned"] for curve in curves]).astype(np.float64)
    return EpochsSaved(spent, planned)


def _order(layer: str) -> tuple[int, list[int]]:
    kinds = ("C", "R", "P", "FC", "GAP", "SM")
    name = layer.split("(")[0]
    numbers = [int(one) for one in re.findall(r"\d+", layer)]
    return kinds.index(name) if name in kinds else len(kinds), numbers
