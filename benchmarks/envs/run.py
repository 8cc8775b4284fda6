"""The Gymnasium environment from outside: the shipped policy beside another library's agents.

    python benchmarks/envs/run.py                                       # the arms without learning
    pip install stable-baselines3 && python benchmarks/envs/run.py --arms=dqn,ppo

`dqn` and `ppo` are Stable-Baselines3's with its own defaults, but for a discount of 1, and learn on
the environment's tasks of training. All arms are scored on its held-out tasks with the same seeds:
the same examples, weights, optimizer, length and first rate. An arm is a line in a file, and what
is there is not done again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.records import Records, Row
from benchmarks.common.tables import format_header, format_interval, format_row
from keras_qan.envs import LearningRateEnv
from keras_qan.pretraining.tasks import HELD_OUT, TRAINING
from keras_qan.qan.policy import shipped

_ARMS = flags.DEFINE_list("arms", ["hold", "random", "shipped"], "hold, random, shipped, dqn, ppo")
_EPISODES = flags.DEFINE_integer("episodes", 80, "trainings that an arm is scored on", 8)
_STEPS = flags.DEFINE_integer("learn_steps", 20_000, "decisions that an agent learns from", 1)
_SEEDS = flags.DEFINE_integer("seeds", 1, "agents that learn, each from another seed", 1)
_OUT = flags.DEFINE_string("out", "runs/benchmarks/envs", "where the lines are kept")

#: The action that leaves the rate along its schedule.
HOLD = 2

#: Seeds of the trainings that an arm is scored on.
FIRST_SEED = 5_000_000

Chooser = Callable[[np.ndarray], int]


def chooser_of(arm: str, seed: int) -> tuple[Chooser, float]:
    """Return observation → action, and the seconds that it took to learn."""
    if arm == "hold":
        return lambda _: HOLD, 0.0
    if arm == "random":
        rng = np.random.default_rng(seed)
        return lambda _: int(rng.integers(5)), 0.0
    if arm == "shipped":
        policy = shipped()
        agent = policy.settings.agent
        assert agent is not None
        agent.build(21, 5)
        agent.adopt(policy.arrays)
        return lambda observation: agent.act(observation, False).action, 0.0
    import stable_baselines3

    kind = {"dqn": stable_baselines3.DQN, "ppo": stable_baselines3.PPO}[arm]
    started = time.perf_counter()
    learner = kind("MlpPolicy", LearningRateEnv(TRAINING), gamma=1.0, seed=seed, device="cpu")
    learner.learn(_STEPS.value)
    seconds = time.perf_counter() - started
    return lambda observation: int(learner.predict(observation, deterministic=True)[0]), seconds


def score(choose: Chooser) -> list[float]:
    """Return the returns of an arm on the held-out trainings."""
    env = LearningRateEnv(HELD_OUT)
    returns = []
    for seed in range(FIRST_SEED, FIRST_SEED + _EPISODES.value):
        observation, _ = env.reset(seed=seed)
        total, is_over = 0.0, False
        while not is_over:
            observation, reward, is_over, _, _ = env.step(choose(observation))
            total += reward
        returns.append(round(total, 5))
    return returns


def report(rows: list[Row]) -> str:
    """Return the table: the mean return, and the paired difference to holding the rate."""
    lines = [
        format_header(
            "arm", "seed", "return", "minus hold", "95 %", "worse than hold", "learning, s"
        )
    ]
    held = next((np.array(row["returns"]) for row in rows if row["arm"] == "hold"), None)
    for row in rows:
        returns = np.array(row["returns"])
        gaps = ["", "", ""]
        if held is not None and row["arm"] != "hold":
            gap = returns - held
            gaps = [
                f"{gap.mean():+.3f}",
                format_interval(gap, "+.3f"),
                f"{np.mean(gap < -0.02):.0%}",
            ]
        cells = row["arm"], row["seed"], f"{returns.mean():.3f}", *gaps, f"{row['seconds']:.0f}"
        lines.append(format_row(*cells))
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Score the arms that have no line, then print the table."""
    records = Records(Path(_OUT.value) / "arms.jsonl", "arm", "seed", "episodes", "learn_steps")
    wanted = []
    for arm in _ARMS.value:
        learns = arm in ("dqn", "ppo")
        for seed in range(_SEEDS.value if learns else 1):
            wanted.append((arm, seed, _EPISODES.value, _STEPS.value if learns else 0))
    for key in records.missing(wanted):
        choose, seconds = chooser_of(*key[:2])
        row = dict(zip(records.key, key, strict=True)) | {"seconds": round(seconds, 1)}
        records.add(row | {"returns": score(choose)})
        print(*key, flush=True)
    print(report(records.rows))


if __name__ == "__main__":
    app.run(main)
