"""Curves to judge prediction by: the published ones, and two sets that nothing was tuned on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common.records import Records

NUM_DIGITS = 500
EPOCHS_DIGITS = 25


class Task(NamedTuple):
    """Curves [N, T], features [N, F], and which ends are better."""

    curves: np.ndarray
    features: np.ndarray
    mode: str


def published(path: Path) -> Task:
    """The curves of MetaQNN's space on CIFAR-10: validation accuracy over 20 epochs."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = sum(name.startswith("acc_") for name in rows[0])
    curves = [[float(row[f"acc_{epoch}"]) for epoch in range(1, epochs + 1)] for row in rows]
    features = [[float(row[name]) for name in ("num_params", "depth", "lr")] for row in rows]
    return Task(np.array(curves), np.array(features), "max")


def synthetic(seed: int = 0, count: int = 600, epochs: int = 25) -> Task:
    """Losses that fall as power laws at various speeds, one in ten with a plateau; noisy."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(1e4), np.log(1e7), count))
    rate = np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), count))
    floor = 0.2 + 2.0 * (size / 1e4) ** -0.3 + 0.3 * np.log10(rate / 3e-3) ** 2
    speed = np.exp(0.25 * np.log(rate / 3e-3)) * rng.uniform(0.5, 1.5, count)
    late = np.where(rng.random(count) < 0.1, rng.uniform(2, 15, count), 0.0)
    step = np.maximum(np.arange(1, epochs + 1) - late[:, None], 0.0)
    curves = floor[:, None] + 3.0 * (1.0 + step) ** -speed[:, None]
    curves += rng.normal(scale=0.02, size=curves.shape) * curves
    return Task(curves, np.column_stack([size, rate]), "min")


def digits(cache: Path, monitor: str) -> Task:
    """Perceptrons of random shape and optimizer on scikit-learn's digits, trained here.

    Args:
      cache: where the curves are kept, one JSON line each.
      monitor: "accuracy" or "loss", of the validation examples.
    """
    records = Records(cache)
    if len(records.rows) < NUM_DIGITS:
        train = _trainer()
        for number in range(len(records.rows), NUM_DIGITS):
            records.add(train(number))
    curves = np.array([row[monitor] for row in records.rows])
    features = np.array([row["features"] for row in records.rows])
    return Task(curves, features, "max" if monitor == "accuracy" else "min")


def _trainer() -> Callable[[int], dict]:
    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(
        x / 16.0, y, train_size=800, stratify=y, random_state=0
    )

    def train(number: int) -> dict:
        rng = np.random.default_rng((7, number))
        depth, width = int(rng.integers(1, 4)), int(2 ** rng.uniform(2, 6.5))
        rate, penalty = float(10 ** rng.uniform(-4, -1.3)), float(10 ** rng.uniform(-5, 0))
        batch, solver = int(2 ** rng.integers(4, 8)), str(rng.choice(["sgd", "adam"]))
        model = MLPClassifier(
            (width,) * depth, solver=solver, learning_rate_init=rate, alpha=penalty,
            batch_size=batch, random_state=number,
        )  # fmt: skip
        accuracy, loss = [], []
        for _ in range(EPOCHS_DIGITS):
            order = rng.permutation(len(y_train))
            model.partial_fit(x_train[order], y_train[order], classes=np.arange(10))
            odds = model.predict_proba(x_val)
            accuracy.append(float(np.mean(odds.argmax(1) == y_val)))
            loss.append(float(log_loss(y_val, odds, labels=np.arange(10))))
        features = [depth, width, rate, penalty, batch, float(solver == "adam")]
        return {"accuracy": accuracy, "loss": loss, "features": features}

    return train
