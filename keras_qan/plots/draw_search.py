"""From a search's directory to its pictures."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from keras_qan.plots import search_series
from keras_qan.plots.records import EmptyRunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


def draw_search(
    directory: str | os.PathLike[str], *, output: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Draws the figures of an architecture search, or of a history of learning curves.

    `exploration` and `action_values` from a search's `models.jsonl` and `q_values.json`,
    `predicted_ends` and `epochs_saved` from `curves.jsonl`, there or in the folder `curves`. A
    figure whose data is missing is left out.

    Args:
        directory: of a search, or of a history of curves.
        output: folder to write to, made if need be; None for `figures` in the directory.

    Returns:
        The files that were written.

    Raises:
        NotADirectoryError: if there is no such directory.
        EmptyRunError: if it holds nothing to draw.
    """
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
    target = folder / "figures" if output is None else Path(output)
    target.mkdir(parents=True, exist_ok=True)

    from keras_qan.plots.figures import save

    written = []
    for name, figure in drawn.items():
        save(figure, str(target / f"{name}.png"))
        written.append(target / f"{name}.png")
    for name in found.keys() - drawn.keys():
        _log.info("%s.png is left out: the directory holds no data for it", name)
    return written


def _figures(folder: Path) -> dict[str, Figure | None]:
    from keras_qan.plots import search_figures as figures

    values = folder / "q_values.json"
    known = json.loads(values.read_text(encoding="utf-8")) if values.exists() else {}
    own, below = folder / "curves.jsonl", folder / "curves" / "curves.jsonl"
    curves = search_series.read_lines(own if own.exists() else below)
    explored = search_series.exploration(search_series.read_lines(folder / "models.jsonl"))
    layers = search_series.layer_values(known)
    ends = search_series.predicted_ends(curves)
    saved = search_series.epochs_saved(curves)
    return {
        "exploration": figures.exploration_figure(explored) if explored else None,
        "action_values": figures.layer_values_figure(layers) if layers else None,
        "predicted_ends": figures.predicted_ends_figure(ends) if ends else None,
        "epochs_saved": figures.epochs_saved_figure(saved) if saved else None,
    }
