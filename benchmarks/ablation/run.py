"""Which parts of the state carry the shipped policy's decisions.

    python benchmarks/ablation/run.py --rounds=400

Branched trainings (`keras_qan.pretraining`) are made once, on the tasks that policies are trained
on and on held-out ones, and all numbers of the state are noted at each branch, with the 192
statistics of the first kernel. Then an agent is fitted to each choice of numbers. What counts is
what its greedy decisions miss on held-out tasks: the log validation loss they lead to, minus that
of the best of the five actions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.records import Records
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan.agents import DQN
from keras_qan.experiments.statistics import interval
from keras_qan.observations.weight_statistics import NUM_FEATURES, kernel_features
from keras_qan.pretraining.branched_returns import Branches
from keras_qan.pretraining.policy_iteration import BranchPoint, PolicyTraining
from keras_qan.pretraining.tasks import HELD_OUT, TRAINING, TaskTemplate
from keras_qan.qan import presets
from keras_qan.qan.policy import shipped

_ROUNDS = flags.DEFINE_integer("rounds", 400, "populations of the training tasks", lower_bound=10)
_HELD_OUT = flags.DEFINE_integer("held_out", 120, "populations of held-out tasks", lower_bound=10)
_FITS = flags.DEFINE_integer("fits", 5, "fits, each from other initial parameters", lower_bound=1)
_OUT = flags.DEFINE_string("out", "runs/benchmarks/ablation", "where branches and rows are kept")

#: Columns of the state, by what they say.
GROUPS = {
    "rate and optimizer": (0, 1),
    "time": (2, 3, 4, 5),
    "losses": (6, 7, 8, 9, 10),
    "what was tried": (11, 12, 13),
    "motion of the weights": (14, 15, 16),
    "validation losses": (17, 18, 19, 20),
}
ALL = tuple(range(21))
WEIGHTS = tuple(range(21, 21 + NUM_FEATURES))


def choices() -> dict[str, tuple[int, ...]]:
    """The states that are compared, as columns."""
    found = {"all 21 numbers": ALL}
    for name, columns in GROUPS.items():
        found[f"without {name}"] = tuple(c for c in ALL if c not in columns)
    for name in ("rate and optimizer", "losses", "motion of the weights"):
        found[f"{name} alone"] = GROUPS[name]
    found["192 weight statistics and the rate (the paper's state)"] = (0, *WEIGHTS)
    found["192 weight statistics alone"] = WEIGHTS
    found["all 21 and 192 weight statistics"] = (*ALL, *WEIGHTS)
    return found


class Collector:
    """Branches with the shipped policy before them.

    Args:
      templates: tasks and networks.
      seed: everything follows from it.
    """

    def __init__(self, templates: tuple[TaskTemplate, ...], seed: int) -> None:
        settings = presets.transfer()
        self.training = PolicyTraining(
            settings["actions"], settings["observations"], settings["agent"],
            settings["rate_bounds"], seed, templates=templates, schedule=settings["schedule"],
        )  # fmt: skip
        self.training.agent.adopt(shipped().arrays)

    def round(self, number: int) -> dict[str, np.ndarray]:
        """States with weight statistics, and scores, of one population's free choices."""
        branched = self.training.branch(number)
        states = np.concatenate([branched.states, self._weights(branched)], axis=1)
        return {"states": states[branched.free], "scores": branched.scores[branched.free]}

    @staticmethod
    def _weights(branched: BranchPoint) -> np.ndarray:
        kernels, template = branched.before.weights.trainable[0], branched.template
        if template.kind == "convolutions":
            count, size, outputs = kernels.shape
            kernels = tf.reshape(kernels, [count, 3, 3, size // 9, outputs])
        return np.nan_to_num([kernel_features(kernel) for kernel in kernels])


def collect(
    path: Path, templates: tuple[TaskTemplate, ...], rounds: int, seed: int
) -> dict[str, np.ndarray]:
    """Branches from a file, or made and written there."""
    if not path.exists():
        collector = Collector(templates, seed)
        parts = [collector.round(number) for number in range(rounds)]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )
    with np.load(path) as file:
        return dict(file)


def missed(scores: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What decisions miss, in nats, `[N]`."""
    return scores[np.arange(len(scores)), actions] - scores.min(axis=1)


def fit_and_miss(
    train: dict[str, np.ndarray], test: dict[str, np.ndarray], columns: tuple[int, ...], seed: int
) -> np.ndarray:
    """Fits an agent that sees these columns alone; what it misses on the held-out branches."""
    agent: DQN = presets.transfer(seed)["agent"]
    agent.build(len(columns), train["scores"].shape[1])
    branches = Branches(len(columns), train["scores"].shape[1])
    branches.add(train["states"][:, columns], PolicyTraining.returns(train["scores"]))
    agent.fit_values(*branches.training_data(seed), 4000, seed)
    values = agent.action_scores(test["states"][:, columns])
    return missed(test["scores"], values.argmax(axis=1))


def main(_: list[str]) -> None:
    """Collects, fits, and prints a table."""
    out = Path(_OUT.value)
    train = collect(out / "training.npz", TRAINING, _ROUNDS.value, 11)
    test = collect(out / "held_out.npz", HELD_OUT, _HELD_OUT.value, 12)
    held = missed(test["scores"], np.full(len(test["scores"]), 2))
    random = test["scores"].mean(axis=1) - test["scores"].min(axis=1)
    print(f"{len(train['scores'])} branches to learn from, {len(test['scores'])} held out\n")
    print(format_header("state", "numbers", "missed, nats", "minus all 21 (paired, 95 %)"))
    print(format_row("none: a random action", 0, f"{random.mean():.4f}", ""))
    print(format_row("none: the schedule", 0, f"{held.mean():.4f}", ""))
    records = Records(out / "rows.jsonl")
    reference = None
    for name, columns in choices().items():
        fits = [fit_and_miss(train, test, columns, seed) for seed in range(_FITS.value)]
        mean = np.mean(fits, axis=0)
        reference = mean if reference is None else reference
        gaps = mean - reference
        figures = (f"{mean.mean():.4f}", format_mean(gaps, "+.4f"))
        print(format_row(name, len(columns), *figures), flush=True)
        low, high = interval(gaps)
        records.add(
            {
                "state": name,
                "missed": float(mean.mean()),
                "of_each_fit": [float(f.mean()) for f in fits],
                "minus_all": float(gaps.mean()),
                "low": low,
                "high": high,
            }
        )


if __name__ == "__main__":
    app.run(main)
