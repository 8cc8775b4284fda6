"""Figures of a run, and the parts that all figures are drawn with.

Figures are made as objects with a canvas of their own, so that a user's pyplot, its backend and
its open figures are left alone. Import this module where a figure is drawn, not before: it loads
matplotlib.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from keras_qan.plots.series import (
    ActionRaster,
    ActionShares,
    Band,
    GroupShares,
    LearningCurve,
    RateTrace,
    SlopeTrace,
    running_mean,
)
from keras_qan.plots.style import arm_label, drawing_order
from keras_qan.storage import files

_DOTS_PER_INCH = 144

# More would not fit beside a figure.
_MOST_ENTRIES = 20


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, in a folder that is made if need be."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    files.replace(target, picture.getvalue())
    return target


def save_all(figures: Mapping[str, Figure | None], folder: Path) -> list[Path]:
    """Write figures as `<name>.png` to a folder, leaving out those that are None."""
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    return [save(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def make_figure(
    count: int, *, size: tuple[float, float], columns: int = 1, share: bool = False
) -> tuple[Figure, list[Any]]:
    """Make a figure on a canvas of its own, with a number of panels."""
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, sharex=share, sharey=share and columns > 1, squeeze=False)
    cells = list(grid.flat)
    for axes in cells[:count]:
        axes.grid(True, color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in cells[count:]:
        axes.remove()
    for axes in cells[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)  # also where the panel below was taken out
    return figure, cells[:count]


def add_legend(axes: Any, *entries: Any, **options: Any) -> None:
    """Add a legend to the right of a panel."""
    axes.legend(
        *entries, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, **options
    )


def add_title(axes: Any, text: str, note: str) -> None:
    """Add a panel's title, and a note in small print below it."""
    axes.set_title(f"{text}\n", loc="left", fontsize=11, weight="bold")
    axes.text(
        0, 1.02, note, transform=axes.transAxes, ha="left", va="bottom", fontsize=9, color="#555555"
    )


def integer_ticks() -> MaxNLocator:
    """Return a locator of ticks at whole numbers."""
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10])


def percent_ticks() -> PercentFormatter:
    """Return a formatter of shares as percentages."""
    return PercentFormatter(xmax=1.0)


def accuracy_figure(
    bands: Mapping[float | None, Sequence[Band]], colours: dict[str, str]
) -> Figure:
    """Return accuracy against epoch, a line and a band for each arm (the paper's Figure 1).

    Args:
        bands: of the arms, by initial rate, a panel for each; None for all rates together.
        colours: of the arms.
    """
    size = (7.2, 4.5) if len(bands) == 1 else (7.2, 1.2 + 2.7 * len(bands))
    figure, panels = make_figure(len(bands), size=size, share=True)
    first = next(iter(bands.values()))[0]
    for axes, (rate, own) in zip(panels, bands.items(), strict=True):
        _draw_bands(axes, own, colours)
        if rate is not None:
            axes.set_title(f"from {rate:.4g}", loc="left", fontsize=10)
    panels[-1].set_xlabel("epoch")
    title = "Validation accuracy after each epoch"
    note = f"{_runs(first.phase)}: mean over seeds and its 95 % bootstrap interval"
    if len(bands) == 1:
        add_title(panels[0], title, note)
    else:
        figure.suptitle(
            f"{title}, by initial learning rate\n{note}", x=0.01, ha="left", fontsize=10
        )
    longest = max(bands, key=lambda rate: len(bands[rate]))
    handles, labels = panels[list(bands).index(longest)].get_legend_handles_labels()
    add_legend(panels[0], handles[::-1], labels[::-1])
    return figure


def _draw_bands(axes: Any, bands: Sequence[Band], colours: dict[str, str]) -> None:
    by_arm = {band.arm: band for band in bands}
    # Drawn from the last to the first, so that the learned arm lies on top.
    for arm in reversed(drawing_order(by_arm)):
        band = by_arm[arm]
        colour, strong = colours[arm], arm == "qan"
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            band.x,
            band.mean,
            color=colour,
            linewidth=2.4 if strong else 1.5,
            marker="o",
            markersize=4 if strong else 3,
            label=f"{arm_label(arm)} ({_count(band.num_runs, 'run')})",
        )
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(percent_ticks())
    axes.xaxis.set_major_locator(integer_ticks())


def learning_rate_figure(traces: Sequence[RateTrace], colours: dict[str, str]) -> Figure:
    """Return the learning rate against step, a panel for each arm (the paper's Figure 2)."""
    arms = drawing_order({trace.arm for trace in traces})
    columns = len(arms) if len(arms) <= 3 else min(4, -(-len(arms) // 2))
    rows = -(-len(arms) // columns)
    size = (6.4, 3.8) if len(arms) == 1 else (3.2 * columns + 0.6, 2.3 * rows + 0.8)
    figure, panels = make_figure(len(arms), size=size, columns=columns, share=True)
    for axes, arm in zip(panels, arms, strict=True):
        own = [trace for trace in traces if trace.arm == arm]
        for number, trace in enumerate(own):
            _steps(axes, trace, colours[arm], first=number == 0)
        axes.set_yscale("log")
        axes.set_title(arm_label(arm), loc="left", fontsize=10, color=colours[arm], weight="bold")
    figure.suptitle(
        f"Learning rate, {_runs(traces[0].phase)}:{' ' if len(arms) > 2 else chr(10)}"
        "a line for each run, one of them strong",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    figure.supxlabel("optimizer step", fontsize=10)
    figure.supylabel("learning rate (log scale)", fontsize=10)
    return figure


def learning_rate_detail_figure(
    trace: RateTrace, actions: Sequence[str], colours: dict[str, str]
) -> Figure:
    """Return an excerpt of one run's learning rate with its actions (the paper's Figure 3)."""
    figure, (axes,) = make_figure(1, size=(7.2, 4.0))
    _steps(axes, trace, colours[trace.arm], first=True)
    markers = "ovs^DPX*<>"
    shades = _action_colours(len(actions))
    for index, action in enumerate(actions):
        here = np.array([taken == action for taken in trace.action])
        if not here.any():
            continue
        axes.plot(
            trace.step[here],
            trace.learning_rate[here],
            linestyle="",
            marker=markers[index % len(markers)],
            color=shades[index],
            markeredgecolor="black",
            markeredgewidth=0.6,
            markersize=7,
            label=action,
            zorder=3,
        )
    axes.set_yscale("log")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("learning rate (log scale)")
    add_title(
        axes,
        f"Learning rate of {arm_label(trace.arm)}: {_count(len(trace.step), 'decision')}",
        f"{_runs(trace.phase)}, seed {trace.seed}; a mark is the rate right after a decision",
    )
    add_legend(axes)
    return figure


def slope_ratio_figure(traces: Sequence[SlopeTrace], colours: dict[str, str]) -> Figure:
    """Return the slope ratio against step, with a band of its standard error."""
    figure, (axes,) = make_figure(1, size=(6.4, 3.8))
    for number, trace in enumerate(traces):
        name = arm_label(trace.arm) if number == 0 else None
        axes.plot(trace.step, trace.ratio, color=colours[trace.arm], label=name, linewidth=1.2)
        band = trace.ratio - trace.error, trace.ratio + trace.error
        axes.fill_between(trace.step, *band, color=colours[trace.arm], alpha=0.2, linewidth=0.0)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_ylim(-1.2, 1.2)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("slope ratio")
    note = f"{_runs(traces[0].phase)}; above 0 the rate is low, far below it is too high"
    add_title(axes, "Slope of the loss at a step's end over that at its start", note)
    return figure


def actions_figure(shares: ActionShares | None, raster: ActionRaster | None, arm: str) -> Figure:
    """Return actions over time: shares in greedy evaluation, and the training episodes."""
    panels = [panel for panel in (shares, raster) if panel is not None]
    actions = panels[0].actions
    colours = _action_colours(len(actions))
    figure, axes_list = make_figure(len(panels), size=(7.6, 0.8 + 3.0 * len(panels)), columns=1)
    for axes, panel in zip(axes_list, panels, strict=True):
        if isinstance(panel, ActionShares):
            _draw_shares(axes, panel, colours, arm)
        else:
            _draw_raster(axes, panel, colours, arm)
        axes.set_xlabel("decision of the episode")
        axes.xaxis.set_major_locator(integer_ticks())
        axes.grid(False)
    # The highest number on top, as in the stack; an action that was never taken has no name.
    named = [n for n, action in enumerate(actions) if action != f"action {n}"][::-1]
    patches = [Patch(facecolor=colours[n]) for n in named]
    add_legend(axes_list[0], patches, [actions[n] for n in named], title="action")
    return figure


def learning_figure(curve: LearningCurve, colours: dict[str, str]) -> Figure:
    """Return return, final score and epsilon against training episode."""
    has_epsilon = bool(np.isfinite(curve.epsilon).any())
    parts = [
        ("return\n(sum of rewards)", curve.returned, False),
        ("final validation\nloss (log scale)", curve.score, True),
    ]
    figure, panels = make_figure(
        2 + has_epsilon, size=(7.2, 5.4 + 1.2 * has_epsilon), columns=1, share=True
    )
    colour = colours[curve.arm]
    width = max(1, min(10, len(curve.episode) // 4))
    for axes, (label, values, log) in zip(panels[:2], parts, strict=True):
        shown = np.where(values > 0, values, np.nan) if log else values
        fine = ~curve.diverged
        axes.plot(curve.episode[fine], shown[fine], "o", color=colour, alpha=0.45, markersize=4)
        if curve.diverged.any():
            axes.plot(
                curve.episode[~fine],
                shown[~fine],
                "x",
                color="black",
                markersize=6,
                label="diverged",
            )
        if width > 1:
            # Averaged in logarithms where the scale is logarithmic.
            smooth = (
                np.exp(running_mean(np.log(shown), width)) if log else (running_mean(shown, width))
            )
            axes.plot(
                curve.episode, smooth, color=colour, linewidth=2, label=f"mean of {width} episodes"
            )
        axes.set_ylabel(label)
        if log and np.isfinite(shown).any():
            axes.set_yscale("log")
            known = shown[np.isfinite(shown)]
            # Over a decade or more, every tick's label would run into the next one's.
            digits = "123456789" if known.max() < 4 * known.min() else "1235"
            axes.yaxis.set_major_formatter(FuncFormatter(_decimal(digits)))
            axes.yaxis.set_minor_formatter(FuncFormatter(_decimal(digits)))
            axes.tick_params(axis="y", which="minor", labelsize=8)
    if has_epsilon:
        panels[2].plot(curve.episode, curve.epsilon, color="#555555", linewidth=1.5)
        panels[2].set_ylim(-0.05, 1.05)
        panels[2].set_ylabel("epsilon (share of\nrandom decisions)")
    panels[-1].set_xlabel("training episode")
    panels[-1].xaxis.set_major_locator(integer_ticks())
    add_title(
        panels[0],
        f"Training of {arm_label(curve.arm)}",
        f"{_count(len(curve.episode), 'episode')}, {int(curve.diverged.sum())} diverged",
    )
    if panels[0].get_legend_handles_labels()[0]:
        add_legend(panels[0])
    return figure


def selection_figure(shares: GroupShares) -> Figure:
    """Return the shares of groups of examples in batches over time, stacked."""
    figure, (axes,) = make_figure(1, size=(7.6, 4.2))
    colours = _action_colours(len(shares.groups))
    bottom = np.zeros(len(shares.share))
    for index, colour in enumerate(colours):
        top = bottom + shares.share[:, index]
        axes.stairs(top, shares.edges, baseline=bottom, fill=True, color=colour, linewidth=0)
        bottom = top
    axes.set_xlim(shares.edges[0], shares.edges[-1])
    axes.set_ylim(0, 1)
    axes.set_xlabel("batch")
    axes.set_ylabel("share of examples")
    axes.xaxis.set_major_locator(integer_ticks())
    axes.yaxis.set_major_formatter(percent_ticks())
    axes.grid(False)
    width = int(shares.edges[1] - shares.edges[0])
    batches = _count(int(shares.edges[-1]), "batch").replace("batchs", "batches")
    note = f"{batches}, {width} in each column" if width > 1 else batches
    add_title(axes, "What the batches were made of", note)
    # The last group on top, as in the stack; of many groups every n-th.
    every = -(-len(colours) // _MOST_ENTRIES)
    patches = [Patch(facecolor=colour) for colour in colours[::every]]
    add_legend(axes, patches[::-1], list(shares.groups[::every])[::-1])
    return figure


def _steps(axes: Any, trace: RateTrace, colour: str, *, first: bool) -> None:
    # The rate of the last decision holds for about as long as the others'.
    last = 2 * trace.step[-1] - trace.step[-2] if len(trace.step) > 1 else trace.step[-1] + 1
    axes.plot(
        np.append(trace.step, last),
        np.append(trace.learning_rate, trace.learning_rate[-1]),
        drawstyle="steps-post",
        color=colour,
        linewidth=1.8 if first else 0.9,
        alpha=1.0 if first else 0.4,
    )


def _draw_shares(axes: Any, shares: ActionShares, colours: list[Any], arm: str) -> None:
    edges = shares.edges - 0.5
    bottom = np.zeros(len(shares.share))
    for index, colour in enumerate(colours[: len(shares.actions)]):
        top = bottom + shares.share[:, index]
        axes.stairs(top, edges, baseline=bottom, fill=True, color=colour, linewidth=0)
        bottom = top
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of actions")
    axes.yaxis.set_major_formatter(percent_ticks())
    width = int(shares.edges[1] - shares.edges[0])
    note = f", {width} decisions in each column" if width > 1 else ""
    episodes = _count(shares.num_episodes, "episode")
    add_title(axes, f"{arm_label(arm)}: greedy evaluation", f"{episodes}{note}")


def _draw_raster(axes: Any, raster: ActionRaster, colours: list[Any], arm: str) -> None:
    rows, columns = raster.taken.shape
    axes.imshow(
        np.ma.masked_less(raster.taken, 0),
        cmap=ListedColormap(colours),
        norm=BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours)),
        aspect="auto",
        interpolation="nearest",
        origin="lower",
        extent=(-0.5, columns - 0.5, raster.first_episode - 0.5, raster.first_episode + rows - 0.5),
    )
    axes.yaxis.set_major_locator(integer_ticks())
    axes.set_ylabel("training episode")
    add_title(axes, f"{arm_label(arm)}: training", "one row an episode, exploration included")


def _action_colours(count: int) -> list[Any]:
    """Even steps of a scale that is legible in any colour vision and in grey."""
    if count == 1:
        return [colormaps["viridis"](0.35)]
    return [colormaps["viridis"](place) for place in np.linspace(0.05, 0.95, count)]


def _runs(phase: str) -> str:
    return "evaluation" if phase == "evaluate" else "last training episodes, exploring"


def _decimal(digits: str) -> Callable[[float, object], str]:
    """Format ticks as plain numbers, only those that begin with one of the digits."""
    return lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else ""


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
