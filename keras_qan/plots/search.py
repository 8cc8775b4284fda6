"""Figures of an architecture search and of learning curves: plain series first, then drawing."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_qan.plots.records import EmptyRunError, Record, read_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_STRONG, _WEAK, _OTHER = "#0072B2", "#888888", "#D55E00"

_log = logging.getLogger(__name__)

# Plain series.


@dataclass(frozen=True, eq=False)
class ExplorationByEpisode:
    """Accuracy of the sampled models against ε.

    Args:
        number: of the model, float64 [N].
        score: its validation accuracy, [N].
        mean: rolling mean over the models before, [N].
        window: the most models that the mean is over.
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
        depths: of the layers, D of them.
        value: float64 [L, D], NaN where never tried.
    """

    layers: tuple[str, ...]
    depths: tuple[int, ...]
    value: Array


@dataclass(frozen=True, eq=False)
class PredictedEnds:
    """Predicted ends of trainings against the true ones.

    Args:
        truth: float64 [N].
        predicted: float64 [N].
        low: lower ends of the intervals; the prediction itself where there is none, [N].
        high: upper ends, [N].
        monitor: the metric's name.
        num_stopped: the number of stopped trainings, whose true end is unknown.
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


def exploration(models: Sequence[Record]) -> ExplorationByEpisode | None:
    """Return accuracy against ε of a search's rows: Figure 3 of arXiv:1611.02167."""
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
    return ExplorationByEpisode(
        np.arange(len(score), dtype=float), score, rolling, window, tuple(stages)
    )


def layer_values(values: Mapping[str, Mapping[str, float]]) -> LayerValues | None:
    """Return mean Q over all states of a depth, by the layer put there: Figure A of the paper.

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
    layers = sorted({layer for layer, _ in found}, key=_layer_order)
    depths = sorted({depth for _, depth in found})
    table = np.full((len(layers), len(depths)), np.nan)
    for (layer, depth), known in found.items():
        table[layers.index(layer), depths.index(depth)] = np.mean(known)
    return LayerValues(tuple(layers), tuple(depths), table)


def predicted_ends(curves: Sequence[Record], share: float = 0.25) -> PredictedEnds | None:
    """Return predictions of a history of curves, with the ends of trainings that went on.

    Args:
        curves: lines of the history.
        share: the first prediction after this share of the planned epochs is shown. Defaults to a
            quarter.
    """
    rows = []
    for curve in curves:
        late = [p for p in curve["predictions"] if p[0] >= share * curve["planned"]]
        if late and not curve["stopped"]:
            _, end, low, high = late[0]
            low, high = end if low is None else low, end if high is None else high
            rows.append((curve["values"][-1], end, low, high))
    if not rows:
        return None
    truth, predicted, low_ends, high_ends = np.array(rows, np.float64).T
    stopped = sum(bool(curve["stopped"]) for curve in curves)
    monitor = str(curves[0]["monitor"])
    return PredictedEnds(truth, predicted, low_ends, high_ends, monitor, stopped)


def epochs_saved(curves: Sequence[Record]) -> EpochsSaved | None:
    """Return epochs spent and planned of a history of curves, summed up."""
    if not curves:
        return None
    spent = np.cumsum([len(curve["values"]) for curve in curves]).astype(np.float64)
    planned = np.cumsum([curve["planned"] for curve in curves]).astype(np.float64)
    return EpochsSaved(spent, planned)


def _layer_order(layer: str) -> tuple[int, list[int]]:
    kinds = ("C", "R", "P", "FC", "GAP", "SM")
    name = layer.split("(")[0]
    numbers = [int(one) for one in re.findall(r"\d+", layer)]
    return kinds.index(name) if name in kinds else len(kinds), numbers


# Drawing.


def exploration_figure(series: ExplorationByEpisode) -> Figure:
    """Return accuracy of the sampled models with its rolling mean, over bands of ε."""
    from keras_qan.plots import figures

    figure, (axes,) = figures.make_figure(1, size=(7.6, 4.5))
    for place, (epsilon, first, count, _) in enumerate(series.stages):
        if place % 2:
            axes.axvspan(first - 0.5, first + count - 0.5, color="#EEEEEE", linewidth=0, zorder=0)
        axes.text(
            first + (count - 1) / 2, 1.0, f"{epsilon:g}", transform=axes.get_xaxis_transform(),
            ha="center", va="top", fontsize=8, color="#555555",
        )  # fmt: skip
    axes.plot(series.number, series.score, "o", markersize=3, color=_WEAK, label="a model")
    axes.plot(
        series.number, series.mean, color=_STRONG, linewidth=2.2,
        label=f"rolling mean of {series.window}",
    )  # fmt: skip
    axes.set_xlabel("model")
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(figures.percent_ticks())
    axes.xaxis.set_major_locator(figures.integer_ticks())
    note = "bands: ε, the share of random actions"
    figures.add_title(axes, "Accuracy of the sampled models", note)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def layer_values_figure(series: LayerValues) -> Figure:
    """Return mean action values by layer and depth."""
    from keras_qan.plots import figures

    size = (2.2 + 0.7 * len(series.depths), 1.6 + 0.28 * len(series.layers))
    figure, (axes,) = figures.make_figure(1, size=(max(5.2, size[0]), max(3.2, size[1])))
    axes.grid(False)
    image = axes.imshow(
        np.ma.masked_invalid(series.value), aspect="auto", cmap="viridis", interpolation="nearest"
    )
    axes.set_xticks(range(len(series.depths)), [str(depth) for depth in series.depths])
    axes.set_yticks(range(len(series.layers)), series.layers, fontsize=8)
    axes.set_xlabel("depth at which the layer is put")
    figure.colorbar(image, ax=axes, label="mean action value")
    figures.add_title(axes, "Action values by layer and depth", "blank: never tried")
    return figure


def predicted_ends_figure(series: PredictedEnds) -> Figure:
    """Return predicted against final values, with intervals."""
    from keras_qan.plots import figures

    figure, (axes,) = figures.make_figure(1, size=(5.6, 5.0))
    low, high = series.truth.min(), series.truth.max()
    axes.plot([low, high], [low, high], color="#000000", linewidth=1, label="exact")
    finite = np.isfinite(series.low) & np.isfinite(series.high)
    below = np.where(finite, np.maximum(series.predicted - series.low, 0.0), 0.0)
    above = np.where(finite, np.maximum(series.high - series.predicted, 0.0), 0.0)
    axes.errorbar(
        series.truth, series.predicted, yerr=[below, above], fmt="o", markersize=4,
        color=_STRONG, ecolor="#9CC4DE", elinewidth=1, label="a training",
    )  # fmt: skip
    axes.set_xlabel(f"final {series.monitor}")
    axes.set_ylabel(f"predicted {series.monitor}")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    count = len(series.truth)
    note = f"{count} trainings to the end; {series.num_stopped} were stopped, their end is unknown"
    figures.add_title(axes, "Predicted and final, after a quarter of the epochs", note)
    return figure


def epochs_saved_figure(series: EpochsSaved) -> Figure:
    """Return epochs spent beside those that were planned."""
    from keras_qan.plots import figures

    figure, (axes,) = figures.make_figure(1, size=(6.8, 4.2))
    number = np.arange(1, len(series.spent) + 1)
    axes.plot(number, series.planned, color=_WEAK, linewidth=1.6, label="planned")
    axes.plot(number, series.spent, color=_STRONG, linewidth=2.2, label="spent")
    axes.fill_between(number, series.spent, series.planned, color=_OTHER, alpha=0.15, linewidth=0)
    axes.set_xlabel("training")
    axes.set_ylabel("epochs, summed up")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    times = series.planned[-1] / series.spent[-1]
    figures.add_title(axes, "Epochs saved by prediction", f"{times:.2f} times fewer than planned")
    return figure


def draw_search(
    directory: str | os.PathLike[str], *, output: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Draw the figures of an architecture search, or of a history of learning curves.

    `exploration` and `action_values` from a search's `models.jsonl` and `q_values.json`,
    `predicted_ends` and `epochs_saved` from `curves.jsonl`, there or in the folder `curves`. A
    figure whose data is missing is left out.

    Args:
        directory: of a search, or of a history of curves.
        output: folder to write to, made if need be. Defaults to `figures` in the directory.

    Returns:
        The files that were written.

    Raises:
        NotADirectoryError: if there is no such directory.
        EmptyRunError: if it holds nothing to draw.
    """
    from keras_qan.plots.figures import save_all

    folder = Path(directory)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"Received the directory {folder}; expected one that a search has written."
        )
    found = _figures(folder)
    drawn = {name: figure for name, figure in found.items() if figure is not None}
    if not drawn:
        raise EmptyRunError(
            f"Received the directory {folder}, which holds no models.jsonl, q_values.json or "
            "curves.jsonl with something in it; expected one that a search has written."
        )
    for name in found.keys() - drawn.keys():
        _log.info("%s.png is left out: the directory holds no data for it", name)
    return save_all(drawn, folder / "figures" if output is None else Path(output))


def _figures(folder: Path) -> dict[str, Figure | None]:
    values = folder / "q_values.json"
    known = json.loads(values.read_text(encoding="utf-8")) if values.exists() else {}
    own, below = folder / "curves.jsonl", folder / "curves" / "curves.jsonl"
    curves = read_lines(own if own.exists() else below)
    explored = exploration(read_lines(folder / "models.jsonl"))
    layers = layer_values(known)
    ends = predicted_ends(curves)
    saved = epochs_saved(curves)
    return {
        "exploration": exploration_figure(explored) if explored else None,
        "action_values": layer_values_figure(layers) if layers else None,
        "predicted_ends": predicted_ends_figure(ends) if ends else None,
        "epochs_saved": epochs_saved_figure(saved) if saved else None,
    }
