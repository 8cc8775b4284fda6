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
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71, "NASNetLarge": 32}
# Beyond these sizes a model and two grown copies of it do not fit beside other work.
TOO_LARGE = 120e6


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
        if model.count_params() > TOO_LARGE:
            print(f"| {name} | left out: {model.count_params() / 1e6:.0f} M weights |", flush=True)
            continue
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
        deeper = largest_difference(expected, net2net.grow(model, deepen=deep), images)
        row = {
            "model": name,
            "mixing": len(mixing),
            "widenable": sum(bool(found[path]) for path in mixing),
            "wider": wider,
            "deepenable": len(deep),
            "deeper": deeper,
            "missing": {path: found[path].reason for path in mixing if not found[path]},
            "seconds": round(time.perf_counter() - start, 1),
        }
        rows.append(row)
        layers = (row["mixing"], row["widenable"], f"{wider:.1e}", row["deepenable"])
        print(format_row(name, *layers, f"{deeper:.1e}", row["seconds"]), flush=True)
    return rows
