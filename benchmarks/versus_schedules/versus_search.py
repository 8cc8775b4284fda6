"""The bare callback beside Optuna's TPE over (initial rate, schedule), at equal trainings.

    KERAS_BACKEND=jax python benchmarks/versus_schedules/versus_search.py --write   # TFDS_DATA_DIR
    python benchmarks/versus_schedules/versus_search.py --report

A search of a seed trains twenty times from the same initial weights on the same batches, and keeps
the model with the lowest validation loss; what counts is that model's loss on the test examples,
after 5, 10 and 20 trainings. The callback's lines are those of `zero_shot.py`: one training from
the default rate, and the best of five by validation, from 0.01 to 100 times it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras
import optuna
from absl import app, flags
from fits import FACTORS, Bench
from horizons import FIRST_SEED, HORIZONS, epochs_of
from horizons import KEPT as OWN_LINES
from more_tasks import ALL_TASKS, DEFAULT_RATES
from search_report import BUDGETS, STEPS, after, report

from benchmarks.common.records import Records, Row, keep_rows, read_rows
from benchmarks.common.scores import log_score
from benchmarks.common.tables import replace_block

_TASKS = flags.DEFINE_list("tasks", list(HORIZONS[STEPS][0]), "which tasks")
_SEEDS = flags.DEFINE_integer("seeds", 2, "searches of each task", lower_bound=1)
_OUT = flags.DEFINE_string("out", "runs/benchmarks/versus_search", "where the lines are kept")
_REPORT = flags.DEFINE_bool("report", False, "only print the table of what is there")
_WRITE = flags.DEFINE_bool("write", False, "keep the lines, and write the table")

#: The lines that the page is written from.
KEPT = Path(__file__).with_name("versus_search.jsonl")
RESULTS = Path(__file__).with_name("RESULTS.md")

SHAPES = ("none", "cosine", "one_cycle", "plateau")
KEYS = ("task", "seed")


def search(name: str, bench: Bench, seed: int) -> Row:
    """The trainings of one search, in their order."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    trials = []
    for _ in range(max(BUDGETS)):
        trial = study.ask()
        default = DEFAULT_RATES[name]
        rate = trial.suggest_float("rate", default * min(FACTORS), default * max(FACTORS), log=True)
        shape = trial.suggest_categorical("shape", SHAPES)
        found = bench.train(shape, rate, seed, STEPS, epochs_of(STEPS))
        study.tell(trial, log_score(found["val_losses"][-1]))
        trials.append([shape, float(f"{rate:.4g}"), found["val_losses"][-1], found["test_loss"]])
    kind = {"backend": keras.backend.backend(), "steps": STEPS}
    return {"task": name, "seed": seed, "trials": trials} | kind


def main(_: list[str]) -> None:
    """Run the searches that are missing and print the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = Records(Path(_OUT.value) / "searches.jsonl", *KEYS)
    asked = [(name, FIRST_SEED + n) for name in _TASKS.value for n in range(_SEEDS.value)]
    bench: tuple[str, Bench] | None = None
    for name, seed in [] if _REPORT.value else records.missing(asked):
        if bench is None or bench[0] != name:
            bench = name, Bench(ALL_TASKS[name])
        row = search(name, bench[1], seed)
        records.add(row)
        print(name, seed, *(f"{after(row, budget):.3f}" for budget in BUDGETS), flush=True)
    own = read_rows(OWN_LINES)
    if _WRITE.value:
        table = report(keep_rows(KEPT, records.rows, *KEYS), own)
        text = RESULTS.read_text(encoding="utf-8")
        RESULTS.write_text(
            replace_block(text, "versus_search", table, RESULTS.name), encoding="utf-8"
        )
    print(report(records.rows, own))


if __name__ == "__main__":
    app.run(main)
