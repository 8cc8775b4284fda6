"""The Gymnasium environment from outside: the shipped policy beside another library's agents.

    python benchmarks/envs/run.py                                       # the arms without learning
    python benchmarks/envs/run.py --arms=constant,cosine,plateau,reactive
    python benchmarks/envs/run.py --arms=constant_tuned,cosine_tuned,plateau_tuned,reactive_tuned
    pip install stable-baselines3 && python benchmarks/envs/run.py --arms=dqn,ppo

`dqn` and `ppo` are Stable-Baselines3's with its own defaults, but for a discount of 1, and learn on
the environment's tasks of training. `constant`, `cosine`, `plateau` and `reactive` are DAC4SGD's
policies as they were published, for AdamW; as `…_tuned` their rate is tuned on the tasks of
training, for SGD and for Adam apart. All arms are scored on the held-out tasks with the same seeds:
the same examples, weights, optimizer, length and, but for DAC4SGD's, first rate. An arm is a line
in a file, and what is there is not done again.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.records import Records, Row
from benchmarks.common.tables import format_header, format_interval, format_row
from benchmarks.envs.dac4sgd import FAMILIES, POLICIES, ScheduledEnv, tune
from keras_qan.envs import LearningRateEnv
from keras_qan.pretraining.tasks import HELD_OUT, SMALL, WIDE
from keras_qan.qan.policy import shipped

_ARMS = flags.DEFINE_list(
    "arms",
    ["hold", "random", "shipped"],
    "hold, random, shipped, dqn, ppo, and DAC4SGD's, as constant or constant_tuned",
)
_EPISODES = flags.DEFINE_integer("episodes", 80, "trainings that an arm is scored on", 8)
_STEPS = flags.DEFINE_integer("learn_steps", 20_000, "decisions that an agent learns from", 1)
_TUNING = flags.DEFINE_integer("tuning", 24, "trainings of each kind that a rate is tuned on", 1)
_SEEDS = flags.DEFINE_integer("seeds", 1, "agents that learn, each from another seed", 1)
_OUT = flags.DEFINE_string("out", "runs/benchmarks/envs", "where the lines are kept")

#: The action that leaves the rate along its schedule.
HOLD = 2

#: Seeds of the trainings that an arm is scored on.
FIRST_SEED = 5_000_000

#: The environment of some tasks, whose programs are compiled once for all arms.
env_of = functools.cache(ScheduledEnv)

Chooser = Callable[[np.ndarray], int]

#: Trains to the end from where `reset` begins, and returns the return.
Runner = Callable[[ScheduledEnv, np.ndarray], float]


def chooser_of(arm: str, seed: int) -> Chooser:
    """Return observation → action; an arm that learns does so first."""
    if arm == "hold":
        return lambda _: HOLD
    if arm == "random":
        rng = np.random.default_rng(seed)
        return lambda _: int(rng.integers(5))
    if arm == "shipped":
        policy = shipped()
        agent = policy.settings.agent
        assert agent is not None
        agent.build(21, 5)
        agent.adopt(policy.arrays)
        return lambda observation: agent.act(observation, False).action
    import stable_baselines3

    kind = {"dqn": stable_baselines3.DQN, "ppo": stable_baselines3.PPO}[arm]
    learner = kind("MlpPolicy", LearningRateEnv(SMALL + WIDE), gamma=1.0, seed=seed, device="cpu")
    learner.learn(_STEPS.value)
    return lambda observation: int(learner.predict(observation, deterministic=True)[0])


def runner_of(arm: str, seed: int) -> tuple[Runner, Row]:
    """Return how an arm trains, and what it took: seconds, and what was tuned."""
    started = time.perf_counter()
    name = arm.removesuffix("_tuned")
    if name in POLICIES:
        if name == arm:
            return lambda env, _: env.run(name), {"seconds": 0.0}
        factors = tune(env_of(SMALL + WIDE), name, _TUNING.value)
        taken = {"seconds": round(time.perf_counter() - started, 1), "factors": factors}
        return lambda env, _: env.run(name, factors), taken
    choose = chooser_of(arm, seed)

    def run(env: ScheduledEnv, observation: np.ndarray) -> float:
        total, is_over = 0.0, False
        while not is_over:
            observation, reward, is_over, _, _ = env.step(choose(observation))
            total += reward
        return total

    return run, {"seconds": round(time.perf_counter() - started, 1)}


def score(run: Runner) -> Row:
    """Return the returns of an arm on the held-out trainings, and their optimizers' families."""
    env = env_of(HELD_OUT)
    returns, families = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + _EPISODES.value):
        observation, _ = env.reset(seed=seed)
        families.append(env.family())
        returns.append(round(run(env, observation), 5))
    return {"returns": returns, "families": families}


def report(rows: list[Row]) -> str:
    """Return the table: mean returns, paired differences and the mean rank among all rows."""
    names = ["arm", "seed", "return", "minus hold (95 %)", "worse than hold"]
    names += [f"shipped minus arm, {family}" for family in FAMILIES]
    lines = [format_header(*names, "mean rank", "learning, s")]
    returns = np.array([row["returns"] for row in rows])
    ranks = rankdata(-returns, axis=0).mean(axis=1)
    held, shipped = (
        next((np.array(row["returns"]) for row in rows if row["arm"] == arm), None)
        for arm in ("hold", "shipped")
    )
    for row, mine, rank in zip(rows, returns, ranks, strict=True):
        cells = [row["arm"], row["seed"], f"{mine.mean():.3f}", "", ""]
        if held is not None and row["arm"] != "hold":
            cells[3:] = _gap(mine - held), f"{np.mean(mine - held < -0.02):.0%}"
        for family in FAMILIES:
            chosen = np.array(row["families"]) == family
            compared = shipped is not None and row["arm"] != "shipped"
            cells.append(_gap((shipped - mine)[chosen]) if compared else "")
        lines.append(format_row(*cells, f"{rank:.1f}", f"{row['seconds']:.0f}"))
    return "\n".join(lines)


def _gap(differences: np.ndarray) -> str:
    return f"{differences.mean():+.3f} ({format_interval(differences, '+.3f')})"


def main(_: list[str]) -> None:
    """Score the arms that have no line, then print the table."""
    records = Records(
        Path(_OUT.value) / "arms.jsonl", "arm", "seed", "episodes", "learn_steps", "tuning"
    )
    wanted = []
    for arm in _ARMS.value:
        learns, tunes = arm in ("dqn", "ppo"), arm.endswith("_tuned")
        for seed in range(_SEEDS.value if learns else 1):
            sizes = _STEPS.value if learns else 0, _TUNING.value if tunes else 0
            wanted.append((arm, seed, _EPISODES.value, *sizes))
    for key in records.missing(wanted):
        run, taken = runner_of(*key[:2])
        records.add(dict(zip(records.key, key, strict=True)) | taken | score(run))
        print(*key, flush=True)
    print(report([row for row in records.rows if row["episodes"] == _EPISODES.value]))


if __name__ == "__main__":
    app.run(main)
