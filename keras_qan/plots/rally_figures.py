"""The figure of a rally: accuracy against cumulative cost, stages marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_qan.plots import figures
from keras_qan.plots.rally_series import CostCurve

# Okabe and Ito's, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#000000", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def cost_figure(
    curves: Sequence[CostCurve],
    behind: Sequence[CostCurve] = (),
    metric: str = "validation accuracy",
    note: str = "a mark where a stage begins",
) -> Figure:
    """Returns a metric against cumulative multiply-adds, a line for each arm.

    Args:
      curves: the arms.
      behind: single runs, drawn thin behind the arm of the same label.
      metric: what the vertical axis shows.
      note: in small print below the title.
    """
    figure, (axes,) = figures.new_figure(1, size=(7.6, 4.4))
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
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
        _leave_out_the_start(axes, curves)
    figures.title(axes, f"{metric.capitalize()} by cost", note)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _leave_out_the_start(axes: Any, curves: Sequence[CostCurve]) -> None:
    """The untrained networks' guesses would press all that matters into a corner."""
    ends = [float(curve.value[-1]) for curve in curves]
    top = max(float(curve.value.max()) for curve in curves)
    low = min(ends) - 0.35 * (1.0 - min(ends)) - 0.1 * min(ends)
    axes.set_ylim(max(0.0, low), min(1.0, top + 0.15 * (top - low)))
