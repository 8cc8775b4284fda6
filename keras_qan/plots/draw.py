"""From a run directory to its pictures."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from keras_qan.plots import series
from keras_qan.plots.records import Records, read_records
from keras_qan.plots.series import shares_of_groups
from keras_qan.plots.style import arm_colours
from keras_qan.utils.backend import needs_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


def draw(
    run_directory: str | os.PathLike[str], *, output: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Draws the figures of a run and writes them as PNG.

    `accuracy_by_epoch`, `learning_rate` and `learning_rate_detail` (the paper's Figures 1 to 3),
    `actions`, `learning`, and `selection` where the batches were chosen. A figure whose data is
    missing is left out and a warning is logged; so it is where lines of the logs could not be read.

    Args:
        run_directory: folder with the run's `decisions.jsonl`, `epochs.jsonl`, `episodes.jsonl`.
        output: folder to write to, made if need be; None for `figures` in the run directory.

    Returns:
        The files that were written.

    Raises:
        NotADirectoryError: if there is no such run directory.
        EmptyRunError: if it holds no logs.

    Example:
        >>> draw("runs/mine")  # doctest: +SKIP
        [PosixPath('runs/mine/figures/accuracy_by_epoch.png'), ...]
    """
    folder = Path(run_directory)
    records = read_records(folder)
    if records.num_unreadable:
        _log.warning("%d lines of the logs in %s are unreadable", records.num_unreadable, folder)
    target = folder / "figures" if output is None else Path(output)
    target.mkdir(parents=True, exist_ok=True)

    with needs_extra("keras_qan.plots.draw", "plots"):
        from keras_qan.plots.figures import save

    written = []
    for name, figure in _figures(records).items():
        if figure is None:
            _log.warning("%s.png is left out: the logs hold no data for it", name)
            continue
        save(figure, str(target / f"{name}.png"))
        written.append(target / f"{name}.png")
    return written


def draw_selection(shares: series.GroupShares, path: str | os.PathLike[str]) -> Path:
    """Draws what the batches of a training were made of, stacked over time, and writes a PNG.

    Args:
        shares: what `selector.shares()` gives: of each class for `ClassMix`, of each tenth of the
            losses for `LossRank` and `Prune`.
        path: the file to write; its folder is made if need be.

    Returns:
        The file.

    Example:
        >>> draw_selection(selector.shares(), "runs/mine/selection.png")  # doctest: +SKIP
        PosixPath('runs/mine/selection.png')
    """
    with needs_extra("keras_qan.plots.draw_selection", "plots"):
        from keras_qan.plots.figures import save, selection_figure

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    save(selection_figure(shares), str(target))
    return target


def _figures(records: Records) -> dict[str, "Figure | None"]:
    with needs_extra("keras_qan.plots.draw", "plots"):
        from keras_qan.plots import figures

    colours = arm_colours(records.arms())
    arm = series.learner(records.episodes or records.decisions)
    bands = series.accuracy_by_epoch(records.epochs)
    traces = series.learning_rates(records.decisions)
    actions = series.action_names(records.decisions, arm)
    own = [trace for trace in traces if trace.arm == arm]
    shares = series.action_shares(records.decisions, arm)
    raster = series.action_raster(records.decisions, arm)
    curve = series.learning_curve(records.episodes, records.decisions, arm)
    selected = shares_of_groups(records.decisions, arm)
    own_figures: dict[str, Figure | None] = {}
    if selected:
        own_figures["selection"] = figures.selection_figure(selected)
    return own_figures | {
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
