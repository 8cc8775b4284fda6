"""Pictures of a run, from its directory."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_qan.plots import series
from keras_qan.plots.records import Records, read_records
from keras_qan.plots.style import arm_colours
from keras_qan.utils.backend import needs_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


def draw_if_possible(draw_figures: Callable[[], Sequence[Path]]) -> list[Path]:
    """Return the figures that a function draws; none, with a warning, without matplotlib.

    Args:
      draw_figures: draws, at the end of work that is worth more than its figures.
    """
    try:
        return list(draw_figures())
    except ImportError as error:
        warnings.warn(f"No figures are drawn: {error}", UserWarning, stacklevel=2)
        return []


def draw(
    run_directory: str | os.PathLike[str], *, output: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Draw the figures of a run and write them as PNG.

    `accuracy_by_epoch`, `learning_rate` and `learning_rate_detail` (the paper's Figures 1 to 3),
    `actions`, `learning`, `selection` where the batches were selected, and `slope_ratio` where it
    was measured. A figure without data is
    left out with a warning in the log; lines that cannot be read are counted there.

    Args:
        run_directory: folder with the run's `decisions.jsonl`, `epochs.jsonl`, `episodes.jsonl`.
        output: folder to write to, made if need be. Defaults to `figures` in the run directory.

    Returns:
        The files that were written.

    Raises:
        NotADirectoryError: if there is no such run directory.
        EmptyRunError: if it holds no logs.

    Example:
        >>> draw("runs/mine")  # doctest: +SKIP
        [PosixPath('runs/mine/figures/accuracy_by_epoch.png'), ...]
    """
    with needs_extra("keras_qan.plots.draw", "plots"):
        from keras_qan.plots.figures import save_all

    folder = Path(run_directory)
    records = read_records(folder)
    if records.num_unreadable:
        _log.warning("%d lines of the logs in %s are unreadable", records.num_unreadable, folder)
    found = _figures(records)
    was_trained = any(record.get("phase") == "train" for record in records.decisions)
    missing = [name for name, figure in found.items() if figure is None]
    for name in (name for name in missing if was_trained or name != "learning"):
        _log.warning("%s.png is left out: the logs hold no data for it", name)
    return save_all(found, folder / "figures" if output is None else Path(output))


def draw_selection(shares: series.GroupShares, path: str | os.PathLike[str]) -> Path:
    """Draw the groups of examples in the batches of a training, stacked over time, as PNG.

    Args:
        shares: of `selector.shares()`: of each class for `ClassMix`, of each tenth of the losses
            for `LossRank` and `Prune`.
        path: the file to write; its folder is made if need be.

    Returns:
        The file.

    Example:
        >>> draw_selection(selector.shares(), "runs/mine/selection.png")  # doctest: +SKIP
        PosixPath('runs/mine/selection.png')
    """
    with needs_extra("keras_qan.plots.draw_selection", "plots"):
        from keras_qan.plots.figures import save, selection_figure

    return save(selection_figure(shares), path)


def _figures(records: Records) -> dict[str, Figure | None]:
    with needs_extra("keras_qan.plots.draw", "plots"):
        from keras_qan.plots import figures

    colours = arm_colours(records.arms())
    arm = series.find_learner(records.episodes or records.decisions)
    bands = series.accuracy_by_rate(records.epochs, records.episodes)
    traces = series.learning_rates(records.decisions)
    actions = series.action_names(records.decisions, arm)
    own = [trace for trace in traces if trace.arm == arm]
    shares = series.action_shares(records.decisions, arm)
    raster = series.action_raster(records.decisions, arm)
    curve = series.learning_curve(records.episodes, records.decisions, arm)
    selected = series.selection_shares(records.decisions, arm)
    slopes = series.slope_ratios(records.decisions)
    drawn: dict[str, Figure | None] = {}
    if slopes:
        drawn["slope_ratio"] = figures.slope_ratio_figure(slopes, colours)
    if selected:
        drawn["selection"] = figures.selection_figure(selected)
    return drawn | {
        "accuracy_by_epoch": figures.accuracy_figure(bands, colours) if bands else None,
        "learning_rate": figures.learning_rate_figure(traces, colours) if traces else None,
        "learning_rate_detail": (
            figures.learning_rate_detail_figure(series.excerpt(own[0]), actions, colours)
            if own
            else None
        ),
        "actions": figures.actions_figure(shares, raster, arm) if shares or raster else None,
        "learning": figures.learning_figure(curve, colours) if curve else None,
    }
