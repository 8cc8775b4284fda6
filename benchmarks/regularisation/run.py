"""Does it pay to tune a number for each layer, unit, weight or example, beside one tuned scalar?

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
_SETTINGS = flags.DEFINE_list("settings", ["few", "noisy", "classes", "swapped"], "which settings")
_ARMS = flags.DEFINE_list("arms", [], "only these arms; all if empty")
_LEGS = flags.DEFINE_integer("legs", 25, "of the hypergradient's path")
_STEP = flags.DEFINE_float("step_size", 0.3, "of Adam, on the logarithms")
_OUTPUT = flags.DEFINE_string("output", str(_HERE / "results.jsonl"), "where rows go")

_STEPS = 400
_LOWEST = 1e-8
# Optuna's share of the time where a descent follows.
_SHARE = 0.35
_SCALAR = "scalar by Optuna"
# A control: the validation examples may be worth more as training examples.
_JOINED = "scalar, trained on both"
# A control: on how many copies of the validation images to train, chosen too. 50 make as many as
# there are training images; with None they are alone.
_COPIED = "scalar and copies by Optuna"
_COPIES = (1, 10, 50, None)
# A control: only training images whose label is what a network of the validation images answers.
_FILTERED = "filtered, scalar by Optuna"

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Examples of a setting and seed: x and y of three parts."""

    train: Arrays
    validation: Arrays
    test: Arrays


@functools.cache
def mnist() -> data.Splits:
    """MNIST, read once."""
    return data.load("mnist")


def task(setting: str, seed: int) -> Task:
    """few: 500 images; noisy: 1,000, four labels in ten random; classes: five classes of 200 images
    and five of 10; swapped: 5,000, 45 in a hundred with the next class's label. Validation:
    500 clean images (swapped: 100, ten of each class); test: the 10,000."""
    splits = mnist()
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(splits.train))
    x, y = splits.train.x[order], splits.train.y[order].copy()
    if setting == "classes":
        sizes = [200] * 5 + [10] * 5
        kept = np.concatenate([np.flatnonzero(y == k)[:size] for k, size in enumerate(sizes)])
    else:
        kept = np.arange({"few": 500, "noisy": 1_000, "swapped": 5_000}[setting])
    x, y = x[kept], y[kept]
    if setting == "noisy":
        wrong = rng.random(len(y)) < 0.4
        y[wrong] = rng.integers(0, 10, wrong.sum())
    if setting == "swapped":
        wrong = rng.random(len(y)) < 0.45
        y[wrong] = (y[wrong] + 1) % 10
    held_out = rng.permutation(len(splits.validation))
    if setting == "swapped":
        classes = splits.validation.y[held_out]
        held_out = np.concatenate([held_out[classes == k][:10] for k in range(10)])
    else:
        held_out = held_out[:500]
    return Task(
        (x, y),
        (splits.validation.x[held_out], splits.validation.y[held_out]),
        (splits.test.x, splits.test.y),
    )


def tuner(
    own: Task, seed: int, hyperparameters: list[Any], method: drmad.Exact | None = None
) -> drmad.Tuner:
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
        method=method or drmad.Drmad(legs=_LEGS.value),
        training=drmad.Training(
            steps=_STEPS, batch_size=50, learning_rate=0.2, momentum=0.9, seed=seed
        ),
        outer=drmad.OuterOptimizer(step_size=_STEP.value),
    )


def spend(
    own: Task,
    seed: int,
    hyperparameters: list[Any],
    seconds: float,
    share: float,
    method: drmad.Exact | None = None,
) -> tuple[drmad.Tuner, int, float]:
    """Optuna on the penalty's average for a share of the time, then the descent.

    Returns:
      The tuner, the number of trials, and the time they took.
    """
    began = time.process_time()
    found = tuner(own, seed, hyperparameters, method)
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
            found.search(len(found.history) + 1, verbose=0)
    return found, len(study.trials), time.process_time() - began


def arms(setting: str) -> dict[str, tuple[list[Any], float]]:
    """For each arm its hyperparameters, and Optuna's share of the time."""
    l2 = drmad.L2
    found: dict[str, tuple[list[Any], float]] = {
        _SCALAR: ([l2("universal")], 1.0),
        "then layers": ([l2("layer")], _SHARE),
        "then units": ([l2("unit")], _SHARE),
        "then weights": ([l2("weight")], _SHARE),
    }
    by_example = ([l2("universal"), drmad.LossWeights("example")], _SHARE)
    by_class = ([l2("universal"), drmad.LossWeights("class")], _SHARE)
    if setting == "noisy":
        found["then examples"] = by_example
    if setting == "classes":
        found["then classes"] = by_class
    if setting == "swapped":
        found = {
            _SCALAR: found[_SCALAR],
            _COPIED: found[_SCALAR],
            _FILTERED: found[_SCALAR],
            "then weights": found["then weights"],
            "then classes": by_class,
            "then examples": by_example,
            "then examples, exact": by_example,
        }
    return found


def joined(train: Arrays, more: Arrays, copies: int | None) -> Arrays:
    """Examples and copies of more examples; with None for copies, those alone."""
    parts = [more] if copies is None else [train, *[more] * copies]
    x, y = (np.concatenate(each) for each in zip(*parts, strict=True))
    return x, y


def filtered(own: Task, seed: int) -> Task:
    """The task with the training images that a network of the validation images agrees with."""
    l2 = [drmad.L2("universal", initial=1e-3)]
    judge = tuner(Task(own.validation, own.validation, own.test), seed, l2)
    judge.evaluate(judge.initial_unconstrained())
    x, y = own.train
    kept = judge.best_model().predict(x, batch_size=500, verbose=0).argmax(1) == y
    return Task((x[kept], y[kept]), own.validation, own.test)


def train_on_both(
    own: Task, seed: int, hyperparameters: list[Any], values: list[np.ndarray], copies: int | None
) -> drmad.Tuner:
    """One training with the values, on the validation images too; see `joined`.

    Weights of examples are of the training images; the validation images have 1.
    """
    both = joined(own.train, own.validation, copies)
    found = tuner(Task(both, own.validation, own.test), seed, hyperparameters)
    numbers = found.initial_unconstrained()
    for number, value in zip(numbers, values, strict=True):
        number.ravel()[: value.size] = np.log(value).ravel()
    found.evaluate(numbers)
    return found


def spend_on_copies(own: Task, seed: int, seconds: float) -> tuple[drmad.Tuner, int, float]:
    """Optuna on L2 for each number of copies; see `spend`.

    One half of the validation images is trained on, the other judges; the best is trained on all.
    """
    began = time.process_time()
    x, y = own.validation  # sorted by class: both halves have as many of each
    best: tuple[float, float, int | None] = (np.inf, 1.0, 1)
    trials = 0
    l2 = [drmad.L2("universal")]
    for number, copies in enumerate(_COPIES, 1):
        train = joined(own.train, (x[::2], y[::2]), copies)
        judged = tuner(Task(train, (x[1::2], y[1::2]), own.test), seed, l2)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        while time.process_time() - began < seconds * number / len(_COPIES):
            trial = study.ask()
            value = trial.suggest_float("l2", 1e-6, 0.1, log=True)
            try:
                loss = judged.evaluate([np.array([np.log(value)])])
                study.tell(trial, loss)
                best = min(best, (loss, value, copies), key=lambda found: found[0])
            except drmad.DivergedError:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        trials += len(study.trials)
    _, value, copies = best
    found = train_on_both(own, seed, l2, [np.array([value])], copies)
    return found, trials, time.process_time() - began


def measure(setting: str, seed: int, arm: str) -> list[Row]:
    """One run: the best model by validation loss, on the test set; and its controls."""
    own = task(setting, seed)
    row: Row = {"setting": setting, "seed": seed, "arm": arm, "trials": 1}
    hyperparameters, share = arms(setting).get(arm, ([], 1.0))
    if arm == _FILTERED:
        own = filtered(own, seed)
    if arm == "none":
        found = tuner(own, seed, [drmad.L2("universal", initial=_LOWEST)])
        found.evaluate(found.initial_unconstrained())
        seconds = 0.0
    elif arm == _COPIED:
        found, row["trials"], seconds = spend_on_copies(own, seed, _BUDGET.value)
    else:
        method = drmad.Exact() if arm.endswith("exact") else None
        found, row["trials"], seconds = spend(
            own, seed, hyperparameters, _BUDGET.value, share, method
        )
    values = list(found.best_values.values())
    row |= {"mean_penalty": float(values[0].mean()), "processor_seconds": seconds}
    rows = [row | outcome(own, found)]
    if arm == _COPIED:
        rows[0]["val_loss"] = None  # it was trained on them
    controls: dict[str, int | None] = {"trained on both": 1}
    if setting == "swapped":
        controls["both alike"] = len(own.train[0]) // len(own.validation[0])
        if arm == _SCALAR:
            controls["validation alone"] = None
    if arm == _SCALAR or (setting == "swapped" and arm not in ("none", _COPIED)):
        for name, copies in controls.items():
            again = train_on_both(own, seed, hyperparameters, values, copies)
            named = {"arm": f"{arm.removesuffix(' by Optuna')}, {name}", "trials": 0}
            none = {"processor_seconds": 0.0, "val_loss": None, "val_losses": []}
            rows.append(row | outcome(own, again) | named | none)
    return rows


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
    """Prints a table for each setting; differences are paired by seed."""
    for setting in dict.fromkeys(row["setting"] for row in found):
        of_setting = [row for row in found if row["setting"] == setting]
        scalar, both = (
            {r["seed"]: r for r in of_setting if r["arm"] == arm} for arm in (_SCALAR, _JOINED)
        )
        print(f"\n{setting}\n")
        columns = ("arm", "seeds", "numbers", "trials", "outer steps", "val. loss", "test loss",
                   "test error %", "test loss − scalar's", "test error − scalar's",
                   "test error − both's")  # fmt: skip
        print(format_header(*columns))
        for arm in dict.fromkeys(row["arm"] for row in of_setting):
            own = [row for row in of_setting if row["arm"] == arm and row["seed"] in scalar]
            val_losses = [r["val_loss"] for r in own if r["val_loss"] is not None]
            val_loss = f"{np.mean(val_losses):.3f}" if val_losses else "—"
            means = [np.mean([r[k] for r in own]) for k in ("test_loss", "test_error")]
            differences = [
                format_mean(
                    [r[key] - other[r["seed"]][key] for r in own if r is not other[r["seed"]]], form
                )
                for other, key, form in (
                    (scalar, "test_loss", "+.3f"),
                    (scalar, "test_error", "+.2f"),
                    (both, "test_error", "+.2f"),
                )
            ]
            trials, steps = (np.mean([r[k] for r in own]) for k in ("trials", "outer_steps"))
            figures = (f"{own[0]['hyperparameters']:,}", f"{trials:.0f}", f"{steps:.0f}")
            losses = (val_loss, f"{means[0]:.3f}", f"{means[1]:.2f}")
            print(format_row(arm, len(own), *figures, *losses, *differences))


def print_pairs(found: list[Row]) -> None:
    """Prints the test error of weights of examples minus each control's, paired by seed."""
    errors = {(r["arm"], r["seed"]): r["test_error"] for r in found if r["setting"] == "swapped"}
    names = dict.fromkeys(arm for arm, _ in errors)
    ours = [arm for arm in names if arm.startswith("then examples")]
    print(format_header("swapped: test error minus that of", *ours))
    for control in (arm for arm in names if not arm.startswith("then")):
        cells = [
            format_mean(
                [
                    errors[arm, seed] - error
                    for (name, seed), error in errors.items()
                    if name == control and (arm, seed) in errors
                ],
                "+.1f",
            )
            for arm in ours
        ]
        print(format_row(control, *cells))


def draw(found: list[dict[str, Any]], folder: Path) -> None:
    """Writes the validation loss over outer steps, all arms, a figure for each setting."""
    from keras_qan.plots import tuning
    from keras_qan.plots.figures import save

    for setting in dict.fromkeys(row["setting"] for row in found):
        lines: dict[str, list[list[float]]] = {}
        for row in found:
            if row["setting"] == setting and row["val_losses"]:
                lines.setdefault(row["arm"], []).append(row["val_losses"])
        for arm in ("none", _SCALAR):
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
        for row in measure(setting, seed, arm):
            records.add(row)
    print_tables(records.rows)
    print_pairs(records.rows)
    draw(records.rows, records.path.parent / "figures")


if __name__ == "__main__":
    app.run(main)
