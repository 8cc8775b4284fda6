"""Figures of a hyperparameter search: losses by outer step, penalties as images, learned rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from keras_qan.plots.figures import add_legend, add_title, integer_ticks, make_figure, percent_ticks

# Okabe and Ito's, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888")


def losses_figure(
    arms: Mapping[str, Sequence[Sequence[float]]], unit: str = "outer step"
) -> Figure:
    """Return validation loss against outer step, a line for each arm.

    Args:
      arms: for each arm its runs, each the validation loss after every outer step.
      unit: of the horizontal axis. Defaults to "outer step".
    """
    figure, (axes,) = make_figure(1, size=(7.2, 4.2))
    most = 1
    for number, (arm, runs) in enumerate(arms.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        most = max(most, len(runs))
        length = min(len(run) for run in runs)
        steps = np.arange(length)
        stacked = np.asarray([run[:length] for run in runs], float)
        if len(runs) > 1:
            for run in stacked:
                axes.plot(steps, run, color=colour, linewidth=0.7, alpha=0.35)
        axes.plot(
            steps, stacked.mean(axis=0), color=colour, linewidth=2, marker="o", markersize=3,
            label=f"{arm} ({len(runs)})" if most > 1 else arm,
        )  # fmt: skip
    axes.set_xlabel(unit)
    axes.set_ylabel("validation loss (log scale)")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(integer_ticks())
    note = "strong: the mean over runs" if most > 1 else "each step is a whole training"
    add_title(axes, f"Validation loss by {unit}", note)
    add_legend(axes)
    return figure


def penalties_figure(images: Mapping[str, npt.NDArray[np.floating]]) -> Figure:
    """Return learned penalties over the input, a panel for each hyperparameter.

    Args:
      images: `[height, width]` of positive numbers, by name: drawn as an image, or as bars where
        one of the two is 1, as of a table.
    """
    if all(1 in image.shape for image in images.values()):
        return _bars_figure({name: image.ravel() for name, image in images.items()})
    figure, panels = make_figure(
        len(images), size=(0.6 + 4.2 * len(images), 3.9), columns=len(images)
    )
    for axes, (name, image) in zip(panels, images.items(), strict=True):
        low, high = float(image.min()), float(image.max())
        shown = axes.imshow(
            image,
            cmap="viridis",
            norm=LogNorm(low, high if high > low else low * 1.001),
            interpolation="nearest",
        )
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
        add_title(axes, name, "mean over what a pixel feeds")
        figure.colorbar(shown, ax=axes, shrink=0.85, label="penalty (log scale)")
    return figure


def _bars_figure(penalties: Mapping[str, npt.NDArray[np.floating]]) -> Figure:
    """Return penalties of a table's features as bars, by the feature's number."""
    figure, panels = make_figure(len(penalties), size=(7.2, 0.6 + 2.8 * len(penalties)))
    for axes, (name, values) in zip(panels, penalties.items(), strict=True):
        axes.bar(np.arange(len(values)), values, color=_COLOURS[0])
        axes.set_yscale("log")
        axes.set_ylabel("penalty (log scale)")
        axes.xaxis.set_major_locator(integer_ticks())
        add_title(axes, name, "mean over what a feature feeds")
    panels[-1].set_xlabel("feature")
    return figure


def rates_figure(
    progress: npt.NDArray[np.floating], rates: Mapping[str, npt.NDArray[np.floating]]
) -> Figure:
    """Return learned learning rates over the training, a line for each layer.

    Args:
      progress: share of the training's steps, `[P]`.
      rates: `[P]` by layer.
    """
    figure, (axes,) = make_figure(1, size=(7.2, 4.0))
    for number, (layer, values) in enumerate(rates.items()):
        axes.plot(
            progress,
            values,
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=("-", "--", ":")[number // len(_COLOURS) % 3],
            marker="o",
            markersize=4,
            label=layer,
        )
    axes.set_yscale("log")
    axes.set_xlabel("share of the training's steps")
    axes.xaxis.set_major_formatter(percent_ticks())
    axes.set_ylabel("learning rate α (log scale)")
    add_title(axes, "Learned learning rates", "by layer, linear between the points of the schedule")
    add_legend(axes)
    return figure
