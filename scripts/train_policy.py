"""Trains a policy on thousands of small trainings, and keeps the one that does best held out.

python scripts/train_policy.py --flagfile=configs/policy.flags
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import app, flags, logging

from keras_qan.pretraining import train
from keras_qan.utils import progress

_DIRECTORY = flags.DEFINE_string("directory", "runs/policy", "where checkpoints and logs are kept")
_ROUNDS = flags.DEFINE_integer(
    "rounds", 3000, "populations of small trainings, all in all", lower_bound=1
)
_EVALUATE_EVERY = flags.DEFINE_integer(
    "evaluate_every", 100, "rounds between evaluations on held-out tasks", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "everything follows from it", lower_bound=0)
_OUT = flags.DEFINE_string("out", None, "the policy file; by default policy.qan in the directory")


def main(arguments: list[str]) -> None:
    """Trains, or goes on where a run in the directory was broken off."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    directory = Path(_DIRECTORY.value)
    out = Path(_OUT.value) if _OUT.value else directory / "policy.qan"
    command = f"python {' '.join(sys.argv)}"
    try:
        best = train.train_policy(
            directory,
            rounds=_ROUNDS.value,
            evaluate_every=_EVALUATE_EVERY.value,
            seed=_SEED.value,
            command=command,
            progress=progress.for_terminal(),
        )
        best.save(out)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"train_policy: {error}")
    logging.info("The policy is in %s.", out)
    print(f"The policy is in {out}: {best.provenance['score']}")


if __name__ == "__main__":
    app.run(main)
