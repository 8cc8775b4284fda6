"""Every model of keras.applications: how many layers can grow, and how exact the grown ones are."""

from __future__ import annotations

import inspect
import time

import keras
import numpy as np
from keras import applications

import net2net
from benchmarks.common.tables import format_header, format_row
from net2net.graph import graph_of

MIXING = ("Dense", "Conv2D", "DepthwiseConv2D", "SeparableConv2D")
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
# A deeper model of more weights gets fewer blocks: while it is built, memory holds it twice.
MOST_WEIGHTS = 1e9


def list_models() -> list[str]:
    return [
        name
        for name, one in vars(applications).items()
        if inspect.isfunction(one) and name[0].isupper()
    ]


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every weight a random value, batch statistics included, of a size that keeps scale."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name in ("moving_variance", "gamma"):
            value = generator.uniform(0.5, 1.5, shape)
        elif len(shape) < 2:
            value = generator.normal(0.0, 0.1, shape)
        else:
            summed = shape[:-2] if "depthwise" in variable.path else shape[:-1]
            value = generator.standard_normal(shape, dtype=np.float32)
            value *= 1.4 / np.sqrt(np.prod(summed))
        variable.assign(value)
    return model


def random_widths(found: dict, generator: np.random.Generator) -> dict[str, int]:
    widths: dict[str, int] = {}
    grown: set[str] = set()
    for path, one in found.items():
        if one and path not in grown:
            steps = int(generator.integers(1, max(2, one.width // one.step // 4)))
            widths[path] = one.width + steps * one.step
            grown.update(one.group)
    return widths


def blocks_that_fit(model: keras.Model, deepenable: list[str]) -> list[str]:
    """Return every layer that a block can follow, or every second, third, … one."""
    every = 1
    while net2net.plan(model, deepen=deepenable[::every]).parameters[1] > MOST_WEIGHTS:
        every += 1
    return deepenable[::every]


def largest_difference(expected: np.ndarray, model: keras.Model, images: np.ndarray) -> float:
    seen = model.predict_on_batch(images)
    return float(np.abs(expected - seen).max() / np.abs(expected).max())


def sweep(only: list[str]) -> list[dict]:
    rows = []
    columns = (
        "model",
        "layers that mix",
        "widenable",
        "Δ wider",
        "deepenable",
        "inserted",
        "Δ deeper",
        "seconds",
    )
    print(format_header(*columns))
    for name in only or list_models():
        keras.backend.clear_session()
        start = time.perf_counter()
        size = SIZES.get(name, 32)
        model = getattr(applications, name)(
            weights=None, input_shape=(size, size, 3), classes=5, classifier_activation=None
        )
        randomise(model)
        images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
        expected = model.predict_on_batch(images)
        found = net2net.widenable(model)
        layers = dict(graph_of(model).layers())
        mixing = [path for path in found if type(layers[path]).__name__ in MIXING]
        wide = net2net.grow(model, random_widths(found, np.random.default_rng(1)))
        wider = largest_difference(expected, wide, images)
        del wide
        deep = [path for path, one in net2net.deepenable(model).items() if one]
        inserted = blocks_that_fit(model, deep)
        deeper = largest_difference(expected, net2net.grow(model, deepen=inserted), images)
        row = {
            "model": name,
            "mixing": len(mixing),
            "widenable": sum(bool(found[path]) for path in mixing),
            "wider": wider,
            "deepenable": len(deep),
            "inserted": len(inserted),
            "deeper": deeper,
            "missing": {path: found[path].reason for path in mixing if not found[path]},
            "seconds": round(time.perf_counter() - start, 1),
        }
        rows.append(row)
        wide_cells = (row["mixing"], row["widenable"], f"{wider:.1e}")
        deep_cells = (row["deepenable"], row["inserted"], f"{deeper:.1e}")
        print(format_row(name, *wide_cells, *deep_cells, row["seconds"]), flush=True)
    return rows
