"""Training of a policy: rounds, held-out evaluations, checkpoints, the best policy in a file."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan.parallel import Executor, LocalExecutor
from keras_qan.pretraining import held_out
from keras_qan.pretraining.policy_iteration import PolicyTraining
from keras_qan.pretraining.populations import make_training, populations
from keras_qan.pretraining.tasks import HELD_OUT, HELD_OUT_SEQUENCES, TRAINING
from keras_qan.qan import presets
from keras_qan.qan.config import CallbackConfig
from keras_qan.qan.policy import Policy
from keras_qan.storage import checkpoint, files
from keras_qan.storage.lock import Lock
from keras_qan.utils.progress import Progress

#: Rounds between fits of the agent to all branches so far, and the updates of a fit.
FIT_EVERY = 100
UPDATES = 8000

_STEM = "training"


def train_policy(
    directory: Path,
    *,
    rounds: int,
    evaluate_every: int,
    seed: int,
    command: str,
    preset: str = "transfer",
    progress: Progress | None = None,
    engine: Executor | None = None,
) -> Policy:
    """Train a policy, resuming a run that the directory holds.

    Args:
      directory: for checkpoints, `rounds.jsonl` and the best policy so far, `best.qan`.
      rounds: the number of rounds in all.
      evaluate_every: rounds between evaluations on held-out tasks, each with a checkpoint.
      seed: of everything random.
      command: recorded as the policy's origin.
      preset: the name of the policy's settings; see `keras_qan.qan.presets`. Defaults to those of
        the policy that ships.
      progress: shows progress. Defaults to none.
      engine: makes the populations between two fits, several at once; what is learned is the same,
        and may be gone on with by another. Defaults to this process.

    Returns:
      The policy with the lowest score on the held-out tasks: the average of its mean and of the
      mean over its worst tenth of tasks and initial rates.

    Raises:
      ValueError: the directory holds a run with another seed or preset.
      CheckpointError: its checkpoints are damaged.
      DirectoryInUseError: another process trains one there.
      WorkerDiedError: a worker died, and each that took its place.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with Lock(directory):
        return _train_policy(
            directory,
            rounds,
            evaluate_every,
            {"seed": seed, "preset": preset},
            command,
            progress or Progress(),
            engine or LocalExecutor(),
        )


def _train_policy(
    directory: Path,
    rounds: int,
    evaluate_every: int,
    origin: dict[str, Any],
    command: str,
    progress: Progress,
    engine: Executor,
) -> Policy:
    training = make_training(origin["seed"], TRAINING, origin["preset"])
    saved = checkpoint.read_newest(directory, _STEM)
    best_score = float("inf")
    if saved is not None:
        best_score = _resume(training, origin, *saved)
    _drop_later_rounds(directory / "rounds.jsonl", training.rounds)
    cases = held_out.tune_schedules()
    with progress:
        progress.start("rounds", training.rounds, rounds, 1)
        while training.rounds < rounds:
            next_fit = min(rounds, training.rounds + FIT_EVERY - training.rounds % FIT_EVERY)
            for point in populations(training, next_fit, engine):
                figures: dict[str, Any] = training.add(*point)
                if training.rounds == next_fit:
                    figures["error"] = training.fit(UPDATES)
                if training.rounds % evaluate_every == 0 or training.rounds == rounds:
                    behind = compare_with_cosine(training, cases)
                    figures |= summarize(behind)
                    score = 0.5 * (figures["mean"] + figures["worst_tenth"])
                    if score < best_score:
                        best_score = score
                        policy = _make_policy(training, cases, behind, origin, command)
                        policy.save(directory / "best.qan")
                    _write_checkpoint(directory, training, origin, best_score)
                files.append(directory / "rounds.jsonl", json.dumps(figures) + "\n")
                progress.advance()
    return Policy.load(directory / "best.qan")


def compare_with_cosine(
    training: PolicyTraining, cases: Sequence[held_out.HeldOutCase]
) -> np.ndarray:
    """Score the policy minus the tuned cosine, `[len(cases), len(held_out.START_FACTORS)]`."""
    return held_out.evaluate(training, cases) - np.array([[case.cosine] for case in cases])


def summarize(behind: np.ndarray) -> dict[str, float]:
    """Compute median, mean, worst tenth and maximum over held-out tasks and initial rates."""
    tenth = np.sort(behind, axis=None)[-math.ceil(behind.size / 10) :]
    return {
        "median": float(np.median(behind)),
        "mean": float(behind.mean()),
        "worst_tenth": float(tenth.mean()),
        "worst": float(behind.max()),
    }


def _make_policy(
    training: PolicyTraining,
    cases: Sequence[held_out.HeldOutCase],
    behind: np.ndarray,
    origin: dict[str, Any],
    command: str,
) -> Policy:
    rows = [
        {
            "source": case.template.source,
            "hidden": list(case.template.hidden),
            "optimizer": case.kind._asdict(),
            "steps": case.num_steps,
            "best_constant_rate": case.constant_rate,
            "behind_tuned_cosine": [round(float(value), 4) for value in row],
        }
        for case, row in zip(cases, behind, strict=True)
    ]
    provenance = {
        "trained_on": [f"{t.source} {t.hidden}" for t in TRAINING],
        "held_out": [f"{t.source} {t.hidden}" for t in HELD_OUT + HELD_OUT_SEQUENCES],
        "command": command,
        **origin,
        "rounds": training.rounds,
        "score": {
            "what": "log validation loss minus that of the cosine with the best of ten rates, on "
            "held-out tasks, from multiples of the best constant rate",
            "from": list(held_out.START_FACTORS),
            **summarize(behind),
            "cases": rows,
        },
        "python": platform.python_version(),
        "tensorflow": importlib.metadata.version("tensorflow"),
    }
    settings = CallbackConfig(**presets.by_name(origin["preset"], origin["seed"]))
    return Policy(settings, training.agent.parameters(), provenance)


def _write_checkpoint(
    directory: Path, training: PolicyTraining, origin: dict[str, Any], best_score: float
) -> None:
    data = {**origin, "rounds": training.rounds, "best_score": best_score}
    arrays = training.agent.parameters() | training.branches.arrays()
    checkpoint.write_next(directory, _STEM, arrays, data)


def _drop_later_rounds(path: Path, rounds: int) -> None:
    """Delete the rounds recorded after the checkpoint that is resumed from."""
    if path.exists():
        lines = path.read_text().splitlines()
        kept = [line for line in lines if json.loads(line)["round"] <= rounds]
        files.replace(path, "".join(f"{line}\n" for line in kept))


def _resume(
    training: PolicyTraining,
    origin: dict[str, Any],
    arrays: dict[str, np.ndarray],
    data: dict[str, Any],
) -> float:
    for name, asked in origin.items():
        found = data.get(name, "transfer")  # older runs knew no other preset
        if found != asked:
            raise ValueError(
                f"The directory holds a training with {name}={found}, and {name}={asked} is asked "
                f"for. Use another directory, or the {name} that it was begun with."
            )
    training.agent.adopt(arrays)
    training.branches.restore(arrays)
    training.rounds = int(data["rounds"])
    return float(data["best_score"])
