"""Faults injected from within a life: into its data, its clock, its numbers."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.stress import small_run
from tests.stress.lives import InjectedError, Setup


def raising(batch_number: int) -> Setup:
    """The data raise at that batch of the life."""

    def setup() -> dict[str, Any]:
        seen = [0]

        def batch(x: np.ndarray, y: np.ndarray) -> Any:
            seen[0] += 1
            if seen[0] == batch_number:
                raise InjectedError(f"InjectedError at batch {batch_number}")
            return x, y

        return {"task": small_run.make_task(batch)}

    return setup


def with_jumping_clock(seed: int, report: Path) -> Setup:
    """The wall clock jumps by up to ten days, back and forth, at every tenth batch or so.

    Args:
      seed: when and by how much follows from it.
      report: a byte is added to this file at each jump.
    """

    def setup() -> dict[str, Any]:
        own, offset = random.Random(seed), [0.0]
        seconds, nanoseconds = time.time, time.time_ns
        descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def batch(x: np.ndarray, y: np.ndarray) -> Any:
            if own.random() < 0.1:
                offset[0] = own.uniform(-864_000, 864_000)
                os.write(descriptor, b".")
            return x, y

        time.time = lambda: seconds() + offset[0]
        time.time_ns = lambda: nanoseconds() + round(1e9 * offset[0])
        return {"task": small_run.make_task(batch)}

    return setup


def non_finite_batches(rng: random.Random, count: int) -> dict[str, Any]:
    """Batches of NaN, here and there."""
    places = set(rng.sample(range(20, 200), count))
    seen = [0]

    def batch(x: np.ndarray, y: np.ndarray) -> Any:
        seen[0] += 1
        return (np.full_like(x, np.nan), y) if seen[0] in places else (x, y)

    return {"task": small_run.make_task(batch)}


def non_finite_models(rng: random.Random, what: str, count: int) -> dict[str, Any]:
    """NaN weights, or NaN losses, in some episodes."""
    task = small_run.make_task()
    chosen = set(rng.sample(range(small_run.EPISODES), count))

    def build_model(seed: int) -> keras.Model:
        model = task.build_model(seed)
        if seed not in chosen:
            return model
        if what == "weight":
            kernel = model.trainable_variables[0]
            value = np.array(kernel)
            value[0, 0] = np.nan
            kernel.assign(value)
            return model
        model.compile(model.optimizer, lambda _, p: keras.ops.log(keras.ops.sum(p, -1) - 1e9))
        return model

    return {"task": dataclasses.replace(task, build_model=build_model)}
