"""Learning-curve prediction: how well it predicts, what stopping saves, what it costs.

    python benchmarks/curves/run.py --curves=metaqnn_cifar10.csv --out=runs/curves
    python benchmarks/curves/run.py --out=runs/curves --report

Every measurement is one JSON line under `--out`; those that are there are not made again. Without
`--curves` the published curves are left out. One core, some ten minutes in all.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import rivals
import tasks

from benchmarks.common.records import Records
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan.early_stopping import CurvePredictor, StopRule, replay
from keras_qan.early_stopping.curves import as_curves
from keras_qan.early_stopping.predictor import RegressorInputs
from keras_qan.early_stopping.regressors import FAMILIES, candidates
from keras_qan.early_stopping.replaying import ReplayResult, replay_with

NUM_TRAIN = 100
SHARES = (0.1, 0.25, 0.5, 0.75)
RULES = [
    (rule, confidence, keep)
    for rule in ("gaussian", "conformal")
    for confidence in (0.9, 0.95, 0.99)
    for keep in (1, 10)
]


def measurements(every: dict[str, Callable[[], tasks.Task]]) -> Iterator[tuple[str, Callable]]:
    """Yields each measurement's key and how it is made."""
    for name, task in every.items():
        most = name == "published"
        for seed in range(10 if most else 5):
            yield f"fit/{name}/{seed}", lambda t=task, s=seed: fit(t(), s)
        for seed in range(20 if most else 5):
            yield f"stop/{name}/{seed}", lambda t=task, s=seed: replay_rules(t(), s)
    for name, task in every.items():
        if name in ("published", "synthetic"):
            yield f"time/{name}", lambda t=task: measure_times(t())


def fit(task: tasks.Task, seed: int) -> dict:
    """R² on the curves that were not learned from, by family and share of the curve."""
    order = np.random.default_rng(seed).permutation(len(task.curves))
    train, rest = order[:NUM_TRAIN], order[NUM_TRAIN:]
    found = {}
    for share in SHARES:
        tau = max(1, round(share * task.curves.shape[1]))
        seen, truth = task.curves[rest, :tau], task.curves[rest, -1]
        for families in [*((one,) for one in FAMILIES), FAMILIES]:
            predictor = CurvePredictor(families, seed=seed)
            predictor.fit(task.curves[train], task.features[train])
            name = families[0] if len(families) == 1 else "chosen"
            predicted = predictor.predict(seen, task.features[rest])
            found[f"{share} {name}"] = r_squared(truth, predicted.end)
            if name == "chosen":
                found[f"{share} family"] = predictor.family(tau)
                within = (predicted.low <= truth) & (truth <= predicted.high)
                found[f"{share} covered"] = float(np.mean(within))
        predictor.fit(task.curves[train])
        found[f"{share} no features"] = r_squared(truth, predictor.predict(seen).end)
        found[f"{share} last seen"] = r_squared(truth, seen[:, -1])
    return found


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(1.0 - np.sum((truth - predicted) ** 2) / np.sum((truth - truth.mean()) ** 2))


class FitsOnce(CurvePredictor):
    """All rules of an ordering learn from the same curves, so once is enough."""

    def fit(self, *arguments, **named) -> CurvePredictor:
        """Fits the first time."""
        return self if self.num_curves else super().fit(*arguments, **named)


def replay_rules(task: tasks.Task, seed: int) -> dict:
    """The savings and losses of each rule in one ordering."""
    curves = as_curves(task.curves)
    found = {}
    predictor = FitsOnce(seed=seed)
    for interval_rule, confidence, keep in RULES:
        predictor.rule = interval_rule
        done = replay(
            task.curves, task.features, NUM_TRAIN, confidence=confidence, keep_best=keep,
            mode=task.mode, seed=seed, predictor=predictor,
        )  # fmt: skip
        found[f"{interval_rule} {confidence} {keep}"] = outcome(done, curves, task.mode)
    for confidence in (0.9, 0.99):
        rule = StopRule(confidence, 1, 0.0, task.mode)
        stopper = rivals.LastSeenValue(curves, rule, "conformal")
        done = replay_with(stopper, curves, NUM_TRAIN, rule, seed)
        found[f"last seen {confidence} 1"] = outcome(done, curves, task.mode)
    rule = StopRule(mode=task.mode)
    done = replay_with(rivals.MedianStopping(curves, rule), curves, NUM_TRAIN, rule, seed)
    found["median"] = outcome(done, curves, task.mode)
    return found


def outcome(done: ReplayResult, curves, mode: str) -> dict:
    ranked = np.argsort(-curves.last if mode == "max" else curves.last)
    lost = set(done.stopped.tolist())
    kept = [row for row in ranked if row not in lost]
    gap = abs(float(curves.last[ranked[0]] - curves.last[kept[0]]))
    top = sum(int(row) not in lost for row in ranked[:10])
    return {"speed_up": done.speed_up, "best_kept": done.best_kept, "top_10": top, "gap": gap}


def measure_times(task: tasks.Task) -> dict:
    """Milliseconds to train one regressor on 100 curves, to choose one, and to predict a curve."""
    finished = as_curves(task.curves[:NUM_TRAIN])
    features = task.features[:NUM_TRAIN]
    made = RegressorInputs(features, finished.lengths)
    found = {}
    for share in (0.25, 0.95):
        tau = round(share * task.curves.shape[1])
        x = made.assemble(finished.values, tau, features, finished.lengths)
        rows = [one for family in FAMILIES for one in candidates([family], 0)]
        for number, (family, regressor) in enumerate(rows):
            key = f"{share} {family} {number}"
            found[f"{key} train"] = milliseconds(lambda r=regressor, x=x: r.fit(x, finished.last))
            found[f"{key} predict one"] = milliseconds(lambda r=regressor, x=x: r.predict(x[:1]))
            found[f"{key} predict each of 100"] = (
                milliseconds(lambda r=regressor, x=x: r.predict(x)) / NUM_TRAIN
            )
        learned: dict[str, CurvePredictor] = {}

        def choose(learned=learned, tau=tau) -> None:
            learned["one"] = CurvePredictor().fit(finished.values, features)
            learned["one"].predict(finished.values[:1, :tau], features[:1])

        found[f"{share} choose, fit, leave one out"] = milliseconds(choose, 3)
        found[f"{share} CurvePredictor predict one"] = milliseconds(
            lambda t=tau, p=learned: p["one"].predict(finished.values[:1, :t], features[:1])
        )
    return found


def milliseconds(what: Callable[[], object], repeats: int = 15) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        what()
        taken.append(time.process_time() - start)
    return 1e3 * float(np.median(taken))


def report(rows: dict[str, dict], name: str) -> None:
    """Prints a task's tables."""
    fits = [row for key, row in rows.items() if key.startswith(f"fit/{name}/")]
    stops = [row for key, row in rows.items() if key.startswith(f"stop/{name}/")]
    if fits:
        print(f"\n{name}: R² on the rest, mean ± standard deviation over {len(fits)} orderings\n")
        columns = [*FAMILIES, "chosen", "no features", "last seen"]
        print(format_header("observed", *columns, "covered"))
        for share in SHARES:
            cells = []
            for column in columns:
                values = [row[f"{share} {column}"] for row in fits]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
            covered = np.mean([row[f"{share} covered"] for row in fits])
            print(format_row(f"{share:.0%}", *cells, f"{covered:.1%}"))
    if stops:
        print(f"\n{name}: stopping, {len(stops)} orderings\n")
        print(
            format_header("rule", "fewer epochs (95 %)", "best kept", "top 10 kept", "lost, mean")
        )
        for rule in stops[0]:
            own = [row[rule] for row in stops]
            speed = format_mean([one["speed_up"] for one in own], ".2f")
            kept = sum(one["best_kept"] for one in own)
            top = np.mean([one["top_10"] for one in own])
            gap = np.mean([one["gap"] for one in own])
            print(format_row(rule, speed, f"{kept} of {len(own)}", f"{top:.1f}", f"{gap:.4f}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=Path, help="the published curves, metaqnn_cifar10.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/curves"))
    parser.add_argument(
        "--report", action="store_true", help="print what is there, measure nothing"
    )
    parser.add_argument("--tasks", nargs="*", default=(), help="measure these only; all if empty")
    asked = parser.parse_args()
    records = Records(asked.out / "rows.jsonl", "key")
    cache = asked.out / "digits.jsonl"
    every = {
        "synthetic": tasks.synthetic,
        "digits accuracy": lambda: tasks.digits(cache, "accuracy"),
        "digits loss": lambda: tasks.digits(cache, "loss"),
    }
    if asked.curves:
        every = {"published": lambda: tasks.published(asked.curves)} | every
    if not asked.report:
        chosen = {name: task for name, task in every.items() if name in (asked.tasks or every)}
        makers = dict(measurements(chosen))
        for (key,) in records.missing((key,) for key in makers):
            records.add({"key": key} | makers[key]())
    rows = {
        row["key"]: {name: value for name, value in row.items() if name != "key"}
        for row in records.rows
    }
    for name in ("published", *[name for name in every if name != "published"]):
        report(rows, name)
    for key, row in rows.items():
        if key.startswith("time/"):
            print(f"\n{key}: milliseconds of CPU, median\n")
            for what, value in row.items():
                print(f"    {what}: {value:.3f}")


if __name__ == "__main__":
    main()
