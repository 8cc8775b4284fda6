"""The original's experiment (configs/mnist_drmad.flags) with the controls that it lacked.

TFDS_DATA_DIR=... python benchmarks/regularisation/original.py

784-50-50-50-10, 15,000 MNIST images and 5,000 for validation, 2,000 steps, 20 outer steps by sign;
or 20 trials of Optuna on one L2 for all weights. Two controls take the same outer steps by chance:
with random signs, or with the exact ones handed to other units. Rows go to original.jsonl as they
are found.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.records import Records
from benchmarks.common.tables import format_header, format_interval, format_row
from keras_qan import data, drmad
from keras_qan.drmad.functional_model import Tensors
from keras_qan.drmad.inner_loop import InnerLoop
from keras_qan.drmad.loops import InnerState
from keras_qan.drmad.methods import Derivatives
from keras_qan.experiments.hyperparameters import HyperparameterExperiment

_OUTPUT = Path(__file__).parent / "original.jsonl"
_LOSSES = ("val_loss", "test_loss")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "one run of every arm for each")


@dataclass(frozen=True)
class RandomSigns(drmad.Exact):
    """A control: numbers by chance in the place of derivatives."""

    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    name = "random signs"

    def snapshot_steps(self, steps: int) -> list[int]:
        """The end alone."""
        return [steps]

    def differentiate(
        self, inner: InnerLoop, values: Tensors, snapshots: Sequence[InnerState]
    ) -> Derivatives:
        """Normal numbers, of which the outer rule takes the signs."""
        del inner, snapshots
        drawn = (self.generator.normal(size=value.shape) for value in values)
        return Derivatives([tf.constant(d, v.dtype) for d, v in zip(drawn, values, strict=True)])


@dataclass(frozen=True)
class Shuffled(drmad.Exact):
    """A control: exact derivatives, each handed to a unit drawn by chance.

    As many penalties rise and fall as exact derivatives have it.
    """

    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    name = "exact, shuffled"

    def differentiate(
        self, inner: InnerLoop, values: Tensors, snapshots: Sequence[InnerState]
    ) -> Derivatives:
        """The exact derivatives, in another order at each outer step."""
        found = super().differentiate(inner, values, snapshots).by_value
        order = (self.generator.permutation(value.shape[0]) for value in values)
        return Derivatives([tf.gather(d, o) for d, o in zip(found, order, strict=True)])


def methods(seed: int) -> dict[str, drmad.Drmad | drmad.Exact]:
    """Arms that descend, and what they descend by."""
    return {
        "DrMAD, one line": drmad.Drmad(),
        "DrMAD, 16 chords": drmad.Drmad(legs=16),
        "exact": drmad.Exact(),
        "random signs": RandomSigns(generator=np.random.default_rng(seed)),
        "exact, shuffled": Shuffled(generator=np.random.default_rng(seed)),
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
    descents = methods(own.seed)
    per = "unit" if arm in descents else "universal"
    found = drmad.Tuner(
        lambda seed: own._model(splits, seed),
        train,
        validation,
        [drmad.L2(per, initial=own.initial_penalty)],
        method=descents.get(arm, "drmad"),
        training=drmad.Training(
            steps=own.steps, batch_size=own.batch_size, learning_rate=own.learning_rate,
            momentum=own.momentum, seed=own.seed,
        ),
        outer=drmad.OuterOptimizer(own.rule, own.step_size),
    )  # fmt: skip
    if arm in descents:
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


def report(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, and test errors paired with those of the exact descent and of Optuna."""
    names = ("arm", "val. loss", "test loss", "test error %", "mean penalty")
    others = ("exact", "one L2 by Optuna")
    lines = [format_header(*names, *(f"error minus that of {other}" for other in others))]
    by_arm: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = row
    for arm, own in by_arm.items():
        cells = [f"{np.mean([row[n] for row in own.values()]):.3f}" for n in _LOSSES]
        errors = [own[seed]["test_error"] for seed in sorted(own)]
        each = ", ".join(f"{error:.2f}" for error in errors)
        cells.append(f"{np.mean(errors):.2f} ({each})")
        cells.append(f"{np.mean([row['mean_penalty'] for row in own.values()]):.2g}")
        cells += [_gap(own, by_arm.get(other, {})) if other != arm else "" for other in others]
        lines.append(format_row(arm, *cells))
    return "\n".join(lines)


def _gap(own: dict[int, dict[str, Any]], other: dict[int, dict[str, Any]]) -> str:
    """The mean difference of test errors over the seeds that both have, and its interval."""
    shared = sorted(own.keys() & other.keys())
    gaps = [own[seed]["test_error"] - other[seed]["test_error"] for seed in shared]
    return f"{np.mean(gaps):+.2f} ({format_interval(gaps, '+.2f')})" if gaps else ""


def main(_: list[str]) -> None:
    """Measures what is missing and prints the means."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = Records(_OUTPUT, "seed", "arm")
    arms = ("start", "one L2 by Optuna", *methods(0))
    for seed, arm in records.missing(itertools.product(map(int, _SEEDS.value), arms)):
        own = experiment(seed)
        splits = data.load("mnist", validation_fraction=own.validation_fraction, seed=seed)
        keras.utils.clear_session()
        records.add(measure(own, splits, arm))
    print(report(records.rows))


if __name__ == "__main__":
    app.run(main)
