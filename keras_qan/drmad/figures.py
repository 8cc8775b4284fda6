"""Figures of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.drmad.hyperparameters import L1, L2, Hyperparameter, LearningRate
from keras_qan.drmad.model_info import ModelInfo
from keras_qan.utils.backend import needs_extra

#: A flat input of fewer than its square is a table's, whose features have no places in an image.
_LEAST_SIDE = 16


def draw_search(
    folder: Path,
    history: Sequence[Mapping[str, Any]],
    hyperparameters: Sequence[Hyperparameter],
    values: Mapping[str, np.ndarray],
    info: ModelInfo,
    trials: Sequence[float] = (),
) -> list[Path]:
    """Write the figures of a search as PNG and return the files; figures without data are left out.

    Args:
      folder: folder to write to; made if it is missing.
      history: records of the outer steps.
      hyperparameters: the hyperparameters that were tuned.
      values: their values by name, in the same order.
      info: facts about the model.
      trials: validation losses of a search for averages before it. Defaults to none.
    """
    with needs_extra("drmad.Tuner.draw", "plots"):
        from keras_qan.plots import tuning
        from keras_qan.plots.figures import save_all

    figures = {}
    if history:
        losses = [float(record["val_loss"]) for record in history]
        arms = {"hypergradients": [losses]}
        if trials:
            arms["averages, best so far"] = [np.minimum.accumulate(trials).tolist()]
        figures["validation_loss"] = tuning.losses_figure(arms, "training of its arm")
    images = penalty_images(hyperparameters, values, info)
    if images:
        figures["penalties"] = tuning.penalties_figure(images)
    rates = rates_by_layer(hyperparameters, values, info)
    if rates:
        points = len(next(iter(rates.values())))
        progress = np.linspace(0.0, 1.0, points) if points > 1 else np.array([0.0, 1.0])
        lines = {k: v if points > 1 else np.repeat(v, 2) for k, v in rates.items()}
        figures["learning_rates"] = tuning.rates_figure(progress, lines)
    return save_all(figures, folder)


def penalty_images(
    hyperparameters: Sequence[Hyperparameter], values: Mapping[str, np.ndarray], info: ModelInfo
) -> dict[str, np.ndarray]:
    """Penalties on the first layer as images over the input, `[height, width]` by name.

    There is an image where the penalties are of units or weights, and the first kernel is a Dense
    one with a row for each pixel. Several penalties of one pixel give their geometric mean.
    """
    size = _image(info)
    if size is None:
        return {}
    height, width, channels = size
    images = {}
    for (name, value), h in zip(values.items(), hyperparameters, strict=True):
        if not isinstance(h, L1 | L2) or h.per not in ("unit", "weight"):
            continue
        first = info.kernels()[0]
        if h.penalised(info)[0] != first or len(info.shapes[first]) != 2:
            continue
        rows = info.shapes[first][0]
        if rows != height * width * channels:
            continue
        spread = h.spread(tf.constant(value), info)[0].numpy()
        logs = np.log(np.broadcast_to(spread, (rows, spread.shape[1])))
        images[name] = np.exp(logs.reshape(height, width, -1).mean(axis=-1))
    return images


def _image(info: ModelInfo) -> tuple[int, int, int] | None:
    """Height, width and channels of an input; a large flat one may be a square image."""
    shape = info.input_shape
    if shape is None or None in shape:
        return None
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if len(shape) != 1:
        return None
    side = round(float(np.sqrt(shape[0])))
    is_image = side >= _LEAST_SIDE and side * side == shape[0]
    return (side, side, 1) if is_image else (1, shape[0], 1)


def rates_by_layer(
    hyperparameters: Sequence[Hyperparameter], values: Mapping[str, np.ndarray], info: ModelInfo
) -> dict[str, np.ndarray]:
    """Tuned rates `[P]` by layer, or under "all layers"."""
    for h, value in zip(hyperparameters, values.values(), strict=True):
        if isinstance(h, LearningRate):
            layers = info.layers if h.per == "layer" else ("all layers",)
            return dict(zip(layers, value, strict=True))
    return {}
