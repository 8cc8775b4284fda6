"""Train a policy on thousands of small trainings, and keep the one that does best held out.

python scripts/train_policy.py --flagfile=configs/policy.flags
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan.experiments import reports, tables
    from keras_qan.experiments.flags import run_script
    from keras_qan.experiments.policy import PolicyExperiment
    from keras_qan.plots.records import read_lines
    from keras_qan.utils import progress


def main(experiment: PolicyExperiment, console: Console) -> None:
    """Train, or resume the training in the directory, and print the best policy's score."""
    command = f"python {' '.join(sys.argv)}"
    policy, path = experiment.run(command, progress.for_terminal())
    found = tables.policy_tables(read_lines(Path(experiment.directory) / "rounds.jsonl"))
    tables.show(console, found)
    written = reports.write(
        experiment.directory, "train_policy", "A policy trained from nothing", tables=found
    )
    print(f"The policy is in {path}: {policy.provenance['score']}")
    tables.print_files(console, experiment.directory, [written])


if __name__ == "__main__":
    run_script(PolicyExperiment, main)
