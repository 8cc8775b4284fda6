"""Is every layer of forty architectures widened or refused with a reason, and nothing changed?

    python benchmarks/net2net/run.py [--only NAME ...]

Prints a table. Every layer that has units or channels is counted; all that can grow do so at once,
each group by random multiples of its step. The difference is that of the outputs in float32,
relative to the largest; the loss is that of the first batch of a training that goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[0:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

import keras  # noqa: E402
import numpy as np  # noqa: E402
from architectures import ARCHITECTURES, some_targets  # noqa: E402

import net2net  # noqa: E402
from benchmarks.common.tables import format_header, format_row  # noqa: E402
from benchmarks.growth.families import random_widths, randomise  # noqa: E402
from net2net.check import draw_inputs  # noqa: E402
from net2net.graph import graph_of  # noqa: E402

COLUMNS = ["architecture", "layers", "grow", "refused", "unknown", "difference", "loss", "s"]


def outputs(model: Any, inputs: Any) -> list[np.ndarray]:
    found = keras.tree.flatten(model(inputs, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in found]


def grow_one(name: str) -> tuple[list[Any], list[str]]:
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = randomise(ARCHITECTURES[name]())
    inputs = draw_inputs(model, graph_of(model))
    targets = some_targets(model, inputs)
    model.compile(keras.optimizers.Adam(1e-3), "mse", run_eagerly=True)
    found = net2net.widenable(model)
    start = time.perf_counter()
    wide = net2net.grow(model, random_widths(found, np.random.default_rng(0)))
    seconds = time.perf_counter() - start
    pairs = zip(outputs(model, inputs), outputs(wide, inputs), strict=True)
    difference = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    before, after = (one.test_on_batch(inputs, targets) for one in (model, wide))
    before, after = (float(np.ravel(one)[0]) for one in (before, after))
    wide.train_on_batch(inputs, targets)
    reasons = [f"{name}: {path}: {one.reason}" for path, one in found.items() if not one]
    unknown = sum("no rule" in one for one in reasons)
    row = [
        name, len(found), sum(map(bool, found.values())), len(reasons) - unknown, unknown,
        f"{difference:.1e}", f"{abs(after - before) / abs(before):.1e}", f"{seconds:.1f}",
    ]  # fmt: skip
    return row, reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=())
    names = parser.parse_args().only or ARCHITECTURES
    warnings.simplefilter("ignore")
    print(format_header(*COLUMNS))
    why: list[str] = []
    for name in names:
        try:
            row, reasons = grow_one(name)
        except Exception as error:  # a row says so, and the others go on
            row, reasons = [name, *[""] * 6, ""], [f"{name}: {type(error).__name__}: {error}"]
        print(format_row(*row), flush=True)
        why += reasons
    print("\nRefused:\n")
    for line in why:
        print(f"- {line}")


if __name__ == "__main__":
    main()
