"""The figures of a search, drawn with the parts of `figures`."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from keras_qan.plots import figures
from keras_qan.plots.search_series import EpochsSaved, Exploration, LayerValues, PredictedEnds

_STRONG, _WEAK, _OTHER = "#0072B2", "#888888", "#D55E00"


def exploration_figure(series: Exploration) -> Figure:
    """Returns accuracy of the sampled models with its rolling mean, over bands of ε."""
    figure, (axes,) = figures.new_figure(1, size=(7.6, 4.5))
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
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figures.title(axes, "Accuracy of the sampled models", "bands: ε, the share of random actions")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def layer_values_figure(series: LayerValues) -> Figure:
    """Returns mean action values by layer and depth."""
    size = (2.2 + 0.7 * len(series.depths), 1.6 + 0.28 * len(series.layers))
    figure, (axes,) = figures.new_figure(1, size=(max(5.2, size[0]), max(3.2, size[1])))
    axes.grid(False)
    image = axes.imshow(
        np.ma.masked_invalid(series.value), aspect="auto", cmap="viridis", interpolation="nearest"
    )
    axes.set_xticks(range(len(series.depths)), [str(depth) for depth in series.depths])
    axes.set_yticks(range(len(series.layers)), series.layers, fontsize=8)
    axes.set_xlabel("depth at which the layer is put")
    figure.colorbar(image, ax=axes, label="mean action value")
    figures.title(axes, "Action values by layer and depth", "blank: never tried")
    return figure


def predicted_ends_figure(series: PredictedEnds) -> Figure:
    """Returns predicted against final values, with intervals."""
    figure, (axes,) = figures.new_figure(1, size=(5.6, 5.0))
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
    figures.title(axes, "Predicted and final, after a quarter of the epochs", note)
    return figure


def epochs_saved_figure(series: EpochsSaved) -> Figure:
    """Returns epochs spent beside those that were planned."""
    figure, (axes,) = figures.new_figure(1, size=(6.8, 4.2))
    number = np.arange(1, len(series.spent) + 1)
    axes.plot(number, series.planned, color=_WEAK, linewidth=1.6, label="planned")
    axes.plot(number, series.spent, color=_STRONG, linewidth=2.2, label="spent")
    axes.fill_between(number, series.spent, series.planned, color=_OTHER, alpha=0.15, linewidth=0)
    axes.set_xlabel("training")
    axes.set_ylabel("epochs, summed up")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    times = series.planned[-1] / series.spent[-1]
    figures.title(axes, "Epochs saved by prediction", f"{times:.2f} times fewer than planned")
    return figure
