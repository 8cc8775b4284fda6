"""From rallies' directories to their picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from keras_qan.plots.rally_series import cost_curve, read_looks


def draw_rally(
    runs: Mapping[str, str | os.PathLike[str]],
    path: str | os.PathLike[str],
    metric: str = "val_accuracy",
) -> Path:
    """Draws a metric against cumulative cost, a line for each rally, stages marked.

    Args:
      runs: directories by label; the first is drawn on top.
      path: the PNG to write; its folder is made if need be.
      metric: one of the looks' metrics.

    Returns:
      The file.

    Raises:
      NotADirectoryError: there is no such directory.
      EmptyRunError: a rally has not finished a stage, or has no such metric.
    """
    curves = [cost_curve(label, read_looks(directory), metric) for label, directory in runs.items()]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)

    from keras_qan.plots.figures import save
    from keras_qan.plots.rally_figures import cost_figure

    save(cost_figure(curves, metric=metric.replace("val_", "validation ")), str(target))
    return target
