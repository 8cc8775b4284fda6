"""QAN fine-tuned on a task against Optuna's TPE over (initial rate, schedule), at equal trainings.

    python benchmarks/versus_schedules/search.py --task=cancer-mlp

Both get the same number of trainings on the same seeds. QAN starts each of them from an untuned
rate and learns from it (`QANCallback(directory=...)`); TPE tries a rate within a factor of 1,000
and one of four schedules. What each has found is then evaluated on other seeds. `zero-shot` is the
shipped policy from the same untuned rate, without any of these trainings.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import optuna
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from report import score
from tasks import TASKS
from trainings import Runner

from benchmarks.common.records import Records
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan import QANCallback
from keras_qan.qan.policy import shipped

_TASK = flags.DEFINE_enum("task", "cancer-mlp", list(TASKS), "what is trained")
_RATE = flags.DEFINE_float("rate", 0.0001, "the untuned initial rate")
_REPEATS = flags.DEFINE_integer("repeats", 5, "searches of each kind", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 4, "unseen seeds that a result is evaluated on")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/versus_search", "where the rows are kept")

BUDGETS = (5, 10, 20)
SHAPES = ("constant", "cosine", "one_cycle", "step_decay")
FIRST_SEARCH_SEED, FIRST_SEED = 3_000_000, 4_000_000


def tpe(runner: Runner, repeat: int, seeds: range) -> dict[int, float]:
    """budget → mean score of the best trial so far."""
    grid = runner.task.grid
    centre = float(np.sqrt(grid[0] * grid[-1]))
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=repeat))
    found = {}
    for trial_number in range(max(BUDGETS)):
        trial = study.ask()
        low, high = centre / 1000**0.5, centre * 1000**0.5
        rate = trial.suggest_float("rate", low, high, log=True)
        shape = trial.suggest_categorical("shape", SHAPES)
        row = runner.train(shape, rate, FIRST_SEARCH_SEED + 100 * repeat + trial_number)
        study.tell(trial, score(row))
        if trial_number + 1 in BUDGETS:
            best = study.best_params
            rows = [runner.train(best["shape"], best["rate"], seed) for seed in seeds]
            found[trial_number + 1] = float(np.mean([score(row) for row in rows]))
    return found


def fine_tune(runner: Runner, repeat: int, seeds: range) -> dict[int, float]:
    """budget → mean score of the greedy policy so far."""
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        learner = QANCallback(directory)
        for episode in range(max(BUDGETS)):
            seed = FIRST_SEARCH_SEED + 100 * repeat + episode
            runner.train_with(learner, _RATE.value, seed)
            if episode + 1 in BUDGETS:
                frozen = QANCallback.load(directory, explore=False)
                rows = [runner.train_with(frozen, _RATE.value, seed) for seed in seeds]
                found[episode + 1] = float(np.mean([score(row) for row in rows]))
    return found


def main(_: list[str]) -> None:
    """Runs the searches that are missing and prints the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    runner = Runner(TASKS[_TASK.value], shipped())
    records = Records(Path(_OUT.value) / f"{_TASK.value}.jsonl")
    for repeat in range(len(records.rows), _REPEATS.value):
        first = FIRST_SEED + 100 * repeat
        seeds = range(first, first + _SEEDS.value)
        zero_shot = [score(runner.train("qan", _RATE.value, seed)) for seed in seeds]
        records.add(
            {
                "zero-shot": float(np.mean(zero_shot)),
                "tpe": tpe(runner, repeat, seeds),
                "fine-tuned": fine_tune(runner, repeat, seeds),
            }
        )
    columns = ("trainings", "TPE", "QAN fine-tuned", "zero-shot", "fine-tuned minus TPE")
    print(format_header(*columns))
    rows = records.rows
    for budget in map(str, BUDGETS):
        ours, theirs = ([row[kind][budget] for row in rows] for kind in ("fine-tuned", "tpe"))
        zero_shot = [row["zero-shot"] for row in rows]
        means = [f"{np.mean(scores):.3f}" for scores in (theirs, ours, zero_shot)]
        gain = format_mean([a - b for a, b in zip(ours, theirs, strict=True)], "+.3f")
        print(format_row(budget, *means, gain))


if __name__ == "__main__":
    app.run(main)
