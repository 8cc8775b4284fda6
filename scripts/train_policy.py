"""Train a policy on thousands of small trainings, and keep the one that does best held out.

python scripts/train_policy.py --flagfile=configs/policy.flags
"""

from __future__ import annotations

import sys

from rich.console import Console

from keras_qan.experiments.flags import run_script
from keras_qan.experiments.policy import PolicyExperiment
from keras_qan.utils import progress


def main(experiment: PolicyExperiment, _: Console) -> None:
    """Train, or resume the training in the directory, and print the best policy's score."""
    command = f"python {' '.join(sys.argv)}"
    policy, path = experiment.run(command, progress.for_terminal())
    print(f"The policy is in {path}: {policy.provenance['score']}")


if __name__ == "__main__":
    run_script(PolicyExperiment, main)
