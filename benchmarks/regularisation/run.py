"""Does it pay to tune a penalty for each layer, unit or weight, beside one tuned scalar?

TFDS_DATA_DIR=... python benchmarks/regularisation/run.py

Every arm has the same processor time. Rows go to results.jsonl as they are found; an interrupted
run resumes.
"""

from __future__ import annotations

import functools
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.records import Records, Row
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan import data, drmad
from keras_qan.experiments.hyperparameters import perceptron

_HERE = Path(__file__).parent
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "one run of every arm for each")
_BUDGET = flags.DEFINE_float("budget", 14.0, "processor seconds for each arm, compiling included")
_SETTINGS = flags.DEFINE_list("settings", ["few", "noisy", "classes"], "which settings")
_ARMS = flags.DEFINE_list("arms", [], "only these arms; all if empty")
_LEGS = flags.DEFINE_integer("legs", 25, "of the hypergradient's path")
_STEP = flags.DEFINE_float("step_size", 0.3, "of Adam, on the logarithms")
_OUTPUT = flags.DEFINE_string("output", str(_HERE / "results.jsonl"), "where rows go")

_STEPS = 400
_LOWEST = 1e-8
# Optuna's share of the time where a descent follows.
_SHARE = 0.35
# A control: the validation examples may be worth more as training examples.
_JOINED = "scalar, trained on both"


@dataclass(frozen=True)
class Task:
    """Examples of a setting and seed: x and y of three parts."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


@functools.cache
def mnist() -> data.Splits:
    """MNIST, read once."""
    return data.load("mnist")


def task(setting: str, seed: int) -> Task:
    """few: 500 images; noisy: 1,000, four labels in ten random; classes: five classes of 200 images
    and five of 10. Validation: 500 clean images, all classes alike; test: the 10,000."""
    splits = mnist()
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(splits.train))
    x, y = splits.train.x[order], splits.train.y[order].copy()
    if setting == "classes":
        sizes = [200] * 5 + [10] * 5
        kept = np.concatenate([np.flatnonzero(y == k)[:size] for k, size in enumerate(sizes)])
    else:
        kept = np.arange({"few": 500, "noisy": 1_000}[setting])
    x, y = x[kept], y[kept]
    if setting == "noisy":
        wrong = rng.random(len(y)) < 0.4
        y[wrong] = rng.integers(0, 10, wrong.sum())
    held_out = rng.permutation(len(splits.validation))[:500]
    return Task(
        (x, y),
        (splits.validation.x[held_out], splits.validation.y[held_out]),
        (splits.test.x, splits.test.y),
    )


def tuner(own: Task, seed: int, hyperparameters: list[Any]) -> drmad.Tuner:
    """The seed's network, 400 steps of 50 images."""

    def build_model(seed: int) -> keras.Model:
        model = perceptron((28, 28, 1), [50, 50, 50], 10, seed)
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        return model

    return drmad.Tuner(
        build_model,
        own.train,
        own.validation,
        hyperparameters,
        method=drmad.Drmad(legs=_LEGS.value),
        training=drmad.Training(
            steps=_STEPS, batch_size=50, learning_rate=0.2, momentum=0.9, seed=seed
        ),
        outer=drmad.OuterOptimizer(step_size=_STEP.value),
    )


def spend(own: Task, seed: int, hyperparameters: list[Any], seconds: float, share: float) -> Any:
    """Optuna on the penalty's average for a share of the time, then the descent.

    Returns:
      The tuner, the number of trials and of outer steps, and the times they took.
    """
    began = time.process_time()
    found = tuner(own, seed, hyperparameters)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    while time.process_time() - began < share * seconds:
        trial = study.ask()
        value = trial.suggest_float("l2", 1e-6, 0.1, log=True)
        start = found.initial_unconstrained()
        start[0] = np.full_like(start[0], np.log(value))
        try:
            study.tell(trial, found.evaluate(start))
        except drmad.DivergedError:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    if share < 1.0:
        best = found.initial_unconstrained()
        best[0] = np.full_like(best[0], np.log(study.best_params["l2"]))
        found.start_from(best)
        while time.process_time() - began < seconds:
            found.search(len(found.history) + 1)
    return found, len(study.trials), time.process_time() - began


def arms(setting: str) -> dict[str, tuple[list[Any], float]]:
    """For each arm its hyperparameters, and Optuna's share of the time."""
    l2 = drmad.L2
    found: dict[str, tuple[list[Any], float]] = {
        "scalar by Optuna": ([l2("universal")], 1.0),
        "then layers": ([l2("layer")], _SHARE),
        "then units": ([l2("unit")], _SHARE),
        "then weights": ([l2("weight")], _SHARE),
    }
    if setting == "noisy":
        found["then examples"] = ([l2("universal"), drmad.LossWeights("example")], _SHARE)
    if setting == "classes":
        found["then classes"] = ([l2("universal"), drmad.LossWeights("class")], _SHARE)
    return found


def measure_joined(setting: str, seed: int, penalty: float) -> dict[str, Any]:
    """The scalar arm's penalty, trained once on training and validation examples together."""
    own = task(setting, seed)
    both = tuple(np.concatenate(parts) for parts in zip(own.train, own.validation, strict=True))
    found = tuner(Task(both, own.validation, own.test), seed, [drmad.L2("universal")])
    found.evaluate([np.array([np.log(penalty)])])
    return outcome(own, found) | {
        "setting": setting, "seed": seed, "arm": _JOINED, "trials": 0, "processor_seconds": 0.0,
        "val_loss": None,
    }  # fmt: skip


def measure(setting: str, seed: int, arm: str) -> dict[str, Any]:
    """One run: the best model by validation loss, on the test set."""
    own = task(setting, seed)
    row: dict[str, Any] = {"setting": setting, "seed": seed, "arm": arm, "trials": 1}
    if arm == "none":
        found = tuner(own, seed, [drmad.L2("universal", initial=_LOWEST)])
        found.evaluate(found.initial_unconstrained())
        seconds = 0.0
    else:
        hyperparameters, share = arms(setting)[arm]
        found, row["trials"], seconds = spend(own, seed, hyperparameters, _BUDGET.value, share)
    row["mean_penalty"] = float(next(iter(found.best_values.values())).mean())
    return row | outcome(own, found) | {"processor_seconds": seconds}


def outcome(own: Task, found: drmad.Tuner) -> dict[str, Any]:
    """The best model by validation loss, on the test set."""
    test = found.best_model().evaluate(*own.test, batch_size=500, verbose=0, return_dict=True)
    return {
        "outer_steps": len(found.history),
        "divergences": found.divergences,
        "hyperparameters": found.num_hyperparameters,
        "val_loss": found.val_loss,
        "val_losses": [record["val_loss"] for record in found.history],
        "test_loss": test["loss"],
        "test_error": 100.0 * (1.0 - test["accuracy"]),
    }


def print_tables(found: list[Row]) -> None:
    """Prints a table for each setting; differences to the scalar are paired by seed."""
    for setting in dict.fromkeys(row["setting"] for row in found):
        of_setting = [row for row in found if row["setting"] == setting]
        scalar = {r["seed"]: r for r in of_setting if r["arm"] == "scalar by Optuna"}
        print(f"\n{setting}\n")
        columns = ("arm", "seeds", "numbers", "trials", "outer steps", "val. loss", "test loss",
                   "test error %", "test loss − scalar's", "test error − scalar's")  # fmt: skip
        print(format_header(*columns))
        for arm in dict.fromkeys(row["arm"] for row in of_setting):
            own = [row for row in of_setting if row["arm"] == arm and row["seed"] in scalar]
            val_losses = [r["val_loss"] for r in own if r["val_loss"] is not None]
            val_loss = f"{np.mean(val_losses):.3f}" if val_losses else "—"
            means = [np.mean([r[k] for r in own]) for k in ("test_loss", "test_error")]
            differences = [
                format_mean([r[key] - scalar[r["seed"]][key] for r in own], form)
                for key, form in (("test_loss", "+.3f"), ("test_error", "+.2f"))
            ]
            if arm == "scalar by Optuna":
                differences = ["", ""]
            trials, steps = (np.mean([r[k] for r in own]) for k in ("trials", "outer_steps"))
            figures = (f"{own[0]['hyperparameters']:,}", f"{trials:.0f}", f"{steps:.0f}")
            losses = (val_loss, f"{means[0]:.3f}", f"{means[1]:.2f}")
            print(format_row(arm, len(own), *figures, *losses, *differences))


def draw(found: list[dict[str, Any]], folder: Path) -> None:
    """Writes the validation loss over outer steps, all arms, a figure for each setting."""
    from keras_qan.plots import tuning
    from keras_qan.plots.figures import save

    for setting in dict.fromkeys(row["setting"] for row in found):
        lines: dict[str, list[list[float]]] = {}
        for row in found:
            if row["setting"] == setting and row["val_losses"]:
                lines.setdefault(row["arm"], []).append(row["val_losses"])
        for arm in ("none", "scalar by Optuna"):
            flat = [r["val_loss"] for r in found if (r["setting"], r["arm"]) == (setting, arm)]
            length = min(len(run) for runs in lines.values() for run in runs)
            lines[arm] = [[loss] * length for loss in flat]
        folder.mkdir(parents=True, exist_ok=True)
        save(tuning.losses_figure(lines), str(folder / f"{setting}.png"))


def main(_: list[str]) -> None:
    """Measures what is missing and prints the tables."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = Records(_OUTPUT.value, "setting", "seed", "arm")
    keys = (
        (setting, seed, arm)
        for seed, setting in itertools.product(map(int, _SEEDS.value), _SETTINGS.value)
        for arm in ("none", *arms(setting))
        if not _ARMS.value or arm in _ARMS.value
    )
    for setting, seed, arm in records.missing(keys):
        keras.utils.clear_session()
        records.add(measure(setting, seed, arm))
        if arm == "scalar by Optuna":
            records.add(measure_joined(setting, seed, records.rows[-1]["mean_penalty"]))
    print_tables(records.rows)
    draw(records.rows, records.path.parent / "figures")


if __name__ == "__main__":
    app.run(main)
