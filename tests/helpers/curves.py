"""Curves whose ends are known by construction."""

from __future__ import annotations

import numpy as np


def saturating(count: int = 60, epochs: int = 12, noise: float = 0.01, seed: int = 0):
    """Accuracies a · (1 − exp(−t / s)) with noise; returns curves [N, T] and features [N, 2]."""
    rng = np.random.default_rng(seed)
    best, speed = rng.uniform(0.4, 0.95, count), rng.uniform(1.5, 5.0, count)
    steps = np.arange(1, epochs + 1)
    curves = best[:, None] * (1.0 - np.exp(-steps / speed[:, None]))
    return curves + rng.normal(scale=noise, size=curves.shape), np.column_stack([best, speed])
