"""The original's experiment (configs/mnist_drmad.flags) with the control that it lacked.

TFDS_DATA_DIR=... python benchmarks/regularisation/original.py

784-50-50-50-10, 15,000 MNIST images and 5,000 for validation, 2,000 steps, 20 outer steps by sign;
or 20 trials of Optuna on one L2 for all weights. Rows go to original.jsonl as they are found.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.records import Records
from benchmarks.common.tables import format_header, format_row
from keras_qan import data, drmad
from keras_qan.experiments.hyperparameters import HyperparameterExperiment

_OUTPUT = Path(__file__).parent / "original.jsonl"
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "one run of every arm for each")
_METHODS = {
    "DrMAD, one line": drmad.Drmad(),
    "DrMAD, 16 chords": drmad.Drmad(legs=16),
    "exact": drmad.Exact(),
}


def experiment(seed: int) -> HyperparameterExperiment:
    """As the flag file says."""
    return HyperparameterExperiment(
        dataset="mnist", model="50-50-50", hyperparameters=("l2:unit",), initial_penalty=0.0123,
        initial_deviation=0.0498, examples=20_000, steps=2_000, batch_size=50, learning_rate=0.05,
        momentum=0.95, rule="sign", step_size=0.14, seed=seed,
    )  # fmt: skip


def measure(own: HyperparameterExperiment, splits: data.Splits, arm: str) -> dict[str, Any]:
    """One arm of one seed: the best of 20 trainings by validation loss, on the test set."""
    train, validation = own._kept(splits)
    found = drmad.Tuner(
        lambda seed: own._model(splits, seed),
        train,
        validation,
        [drmad.L2("unit" if arm in _METHODS else "universal", initial=own.initial_penalty)],
        method=_METHODS.get(arm, "drmad"),
        training=drmad.Training(
            steps=own.steps, batch_size=own.batch_size, learning_rate=own.learning_rate,
            momentum=own.momentum, seed=own.seed,
        ),
        outer=drmad.OuterOptimizer(own.rule, own.step_size),
    )  # fmt: skip
    if arm in _METHODS:
        found.search(20)
    elif arm == "start":
        found.evaluate(found.initial_unconstrained())
    else:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=own.seed))

        def objective(trial: optuna.Trial) -> float:
            value = trial.suggest_float("l2", 1e-6, 0.1, log=True)
            return found.evaluate([np.array([np.log(value)])])

        study.optimize(objective, n_trials=20)
    test = found.best_model().evaluate(
        splits.test.x, splits.test.y, batch_size=500, verbose=0, return_dict=True
    )
    (value,) = found.best_values.values()
    return {
        "arm": arm,
        "seed": own.seed,
        "val_loss": found.val_loss,
        "test_loss": test["loss"],
        "test_error": 100.0 * (1.0 - test["accuracy"]),
        "mean_penalty": float(value.mean()),
    }


def main(_: list[str]) -> None:
    """Measures what is missing and prints the means."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = Records(_OUTPUT, "seed", "arm")
    rows = records.rows
    arms = ("start", "one L2 by Optuna", *_METHODS)
    for seed, arm in records.missing(itertools.product(map(int, _SEEDS.value), arms)):
        own = dataclasses.replace(experiment(seed))
        splits = data.load("mnist", validation_fraction=own.validation_fraction, seed=seed)
        keras.utils.clear_session()
        records.add(measure(own, splits, arm))
    print(format_header("arm", "val. loss", "test loss", "test error %", "mean penalty"))
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own_rows = [row for row in rows if row["arm"] == arm]
        cells = [
            np.mean([r[k] for r in own_rows])
            for k in ("val_loss", "test_loss", "test_error", "mean_penalty")
        ]
        errors = ", ".join(f"{row['test_error']:.2f}" for row in own_rows)
        losses = (f"{cells[0]:.3f}", f"{cells[1]:.3f}")
        print(format_row(arm, *losses, f"{cells[2]:.2f} ({errors})", f"{cells[3]:.2g}"))


if __name__ == "__main__":
    app.run(main)
