"""Examples kept as arrays, for a machine without TensorFlow Datasets.

Where BENCHMARK_ARRAYS names a folder, what is not there yet is loaded and saved, and the rest read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Arrays:
    """Training and validation examples: `x[N, ...]`, `y[N]` or `y[N, O]`."""

    x: np.ndarray
    y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray


def saved(load: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """Return the loader, which keeps what it loads: in memory, and in the folder."""

    @functools.cache
    def find(*arguments: Any) -> Arrays:
        folder = os.environ.get("BENCHMARK_ARRAYS")
        if not folder:
            return load(*arguments)
        path = Path(folder, "-".join(map(str, (load.__name__.strip("_"), *arguments))) + ".npz")
        if not path.exists():
            found = load(*arguments)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, *astuple(found))
        with np.load(path, allow_pickle=False) as file:
            return Arrays(*(file[f"arr_{number}"] for number in range(4)))

    return find
