"""All arms, side by side: does what QAN learned beat a schedule, a constant rate, or chance?

    python benchmarks/arms/run.py --task=digits
    python benchmarks/arms/run.py --task=mnist10k        # needs TFDS_DATA_DIR with mnist

QAN learns over episodes from initial rates drawn around the evaluated ones, and is then evaluated
greedily on seeds it never saw, interleaved with the other arms, from the same weights and batches.
An interrupted run resumes.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import machine
from benchmarks.common.tables import format_header, format_row
from keras_qan.experiments.baselines import NAMES
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.utils import progress

_TASK = flags.DEFINE_enum("task", "digits", ["digits", "mnist10k"], "what is trained")
_SEED = flags.DEFINE_integer("seed", 0, "of the learning and, shifted, of the evaluation")
_RUNS = flags.DEFINE_string("runs", "runs/benchmarks/arms", "where the runs are kept")

EXPERIMENTS = {
    "digits": {
        "dataset": "digits",
        "batch_size": 32,
        "epochs": 8,
        "episodes": 150,
        "learning_rate": (0.002, 0.03, 0.15),
        "eval_seeds": 8,
    },
    "mnist10k": {
        "dataset": "mnist",
        "train_fraction": 0.2,
        "batch_size": 128,
        "epochs": 5,
        "episodes": 50,
        "learning_rate": (0.003, 0.4),
        "eval_seeds": 5,
    },
}


def table(rows: list[dict]) -> str:
    """The comparison as Markdown."""
    columns = ("initial rate", "arm", "log val. loss", "95 %", "minus qan", "95 %", "test loss",
               "test acc.", "steps to target", "diverged")  # fmt: skip
    lines = [format_header(*columns)]
    for row in rows:
        low, high = row["interval"]
        steps = row["steps_to_target"]
        paired = ("", "")
        if row["arm"] != "qan":
            ends = "{:+.3f} … {:+.3f}".format(*row["minus_reference_interval"])
            paired = (f"{row['minus_reference']:+.3f}", ends)
        lines.append(
            format_row(
                f"{row['initial_learning_rate']:g}",
                row["arm"],
                f"{row['log_val_loss']:.3f}",
                f"{low:.3f} … {high:.3f}",
                *paired,
                f"{row['test_loss']:.3f}",
                f"{100 * row['test_accuracy']:.2f} %",
                f"{steps:.0f}" if math.isfinite(steps) else "never",
                f"{row['diverged']} of {row['seeds']}",
            )
        )
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Runs one comparison and prints its table."""
    directory = Path(_RUNS.value) / f"{_TASK.value}-seed{_SEED.value}"
    report = LearningRateExperiment(
        model="cnn",
        steps_per_execution=5,
        learning_rate_spread=1.5,
        arms=NAMES,
        seed=_SEED.value,
        directory=str(directory),
        resume=(directory / "flags.txt").exists(),
        **EXPERIMENTS[_TASK.value],
    ).run(progress.for_terminal())
    print(table(report.rows))
    print(f"\n{report.episodes} episodes; {machine.describe()}.")


if __name__ == "__main__":
    app.run(main)
