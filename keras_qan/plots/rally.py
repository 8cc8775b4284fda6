"""Accuracy of a rally against its cumulative cost: plain series first, then drawing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_qan.plots.records import EmptyRunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

# Okabe and Ito's, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#000000", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Plain series.


@dataclass(frozen=True, eq=False)
class CostCurve:
    """Metric of an arm against its cumulative cost.

    Args:
      label: of the arm.
      cost: multiply-adds up to each evaluation, `[E]`.
      value: the metric there, `[E]`.
      growths: multiply-adds at the begin of each stage but the first, `[S - 1]`.
      values_there: the metric just after each growth, `[S - 1]`.
    """

    label: str
    cost: Floats
    value: Floats
    growths: Floats
    values_there: Floats


def cost_curve(
    label: str, evaluations: Sequence[Mapping[str, Any]], metric: str = "val_accuracy"
) -> CostCurve:
    """Return the curve of a rally's evaluations.

    Raises:
      EmptyRunError: no evaluation has the metric.
    """
    own = [row for row in evaluations if row.get(metric) is not None]
    if not own:
        raise EmptyRunError(
            f"Received {len(evaluations)} evaluations of {label!r}, none with {metric!r}; expected "
            "a rally whose model is compiled with metrics=['accuracy'], after its first stage."
        )
    grown = [row for row in own if row["stage"] > 1 and row["look"] == 0]

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
    """Return the mean of curves, linear between evaluations, up to the end of the shortest.

    Growths are at their mean cost, if all curves have as many.
    """
    end = min(curve.cost[-1] for curve in curves)
    cost = np.linspace(0.0, end, points)
    value = np.mean([np.interp(cost, curve.cost, curve.value) for curve in curves], axis=0)
    alike = len({len(curve.growths) for curve in curves}) == 1
    stacked = np.stack([curve.growths for curve in curves]) if alike else np.zeros((1, 0))
    growths: Floats = stacked.mean(axis=0)
    return CostCurve(label, cost, value, growths, np.interp(growths, cost, value))


def read_evaluations(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the evaluations of a rally's directory.

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


# Drawing.


def cost_figure(
    curves: Sequence[CostCurve],
    behind: Sequence[CostCurve] = (),
    metric: str = "validation accuracy",
    note: str = "a mark where a stage begins",
) -> Figure:
    """Return a metric against cumulative multiply-adds, a line for each arm.

    Args:
      curves: the arms.
      behind: single runs, drawn thin behind the arm of the same label. Defaults to none.
      metric: label of the vertical axis. Defaults to "validation accuracy".
      note: in small print below the title.
    """
    from keras_qan.plots import figures

    figure, (axes,) = figures.make_figure(1, size=(7.6, 4.4))
    colours = {curve.label: _COLOURS[n % len(_COLOURS)] for n, curve in enumerate(curves)}
    for curve in behind:
        axes.plot(
            curve.cost, curve.value, color=colours[curve.label], linewidth=0.6, alpha=0.3, zorder=1
        )
    for number, curve in enumerate(curves):
        colour = colours[curve.label]
        axes.plot(
            curve.cost, curve.value, color=colour, linewidth=2.2 if number == 0 else 1.6,
            label=curve.label, zorder=3 if number == 0 else 2,
        )  # fmt: skip
        axes.plot(
            curve.growths, curve.values_there, linestyle="", marker="^", markersize=8,
            color=colour, markeredgecolor="white", zorder=4,
        )  # fmt: skip
    axes.set_xlabel("multiply-adds, forward and backward, summed up")
    axes.set_ylabel(metric)
    if "accuracy" in metric:
        axes.yaxis.set_major_formatter(figures.percent_ticks())
        _zoom_to_ends(axes, curves)
    figures.add_title(axes, f"{metric.capitalize()} by cost", note)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _zoom_to_ends(axes: Any, curves: Sequence[CostCurve]) -> None:
    """Cut off the untrained networks' accuracies, so that differences at the ends are seen."""
    ends = [float(curve.value[-1]) for curve in curves]
    top = max(float(curve.value.max()) for curve in curves)
    low = min(ends) - 0.35 * (1.0 - min(ends)) - 0.1 * min(ends)
    axes.set_ylim(max(0.0, low), min(1.0, top + 0.15 * (top - low)))


def draw_rally(
    runs: Mapping[str, str | os.PathLike[str]],
    path: str | os.PathLike[str],
    metric: str = "val_accuracy",
) -> Path:
    """Draw a metric against cumulative cost, a line for each rally, stages marked.

    Args:
      runs: directories by label; the first is drawn on top.
      path: the PNG to write; its folder is made if need be.
      metric: one of the evaluations' metrics. Defaults to "val_accuracy".

    Returns:
      The file.

    Raises:
      NotADirectoryError: there is no such directory.
      EmptyRunError: a rally has not finished a stage, or has no such metric.
    """
    from keras_qan.plots.figures import save

    curves = [cost_curve(label, read_evaluations(run), metric) for label, run in runs.items()]
    return save(cost_figure(curves, metric=metric.replace("val_", "validation ")), path)
