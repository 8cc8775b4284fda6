"""Episodes that an agent needs, with and without a pull toward the best earlier student.

Digits, the small convolutional network, an agent that learns from nothing. Every few episodes the
policy is evaluated greedily on fresh students that nobody pulls, so that what is measured is what
the agent learned, and not what the teacher gives away. What the pulled students themselves come to
is noted beside it.
"""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.common.records import Records, Row
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan import MetaMomentum, QANCallback, data, models
from keras_qan.agents import DQN, Exploration
from keras_qan.experiments.model_factory import ModelFactory
from keras_qan.meta_momentum import BestStudentTeacher, RandomTeacher

ARMS = (
    "no teacher",
    "previous",
    "previous, stronger",
    "random of equal norm",
    "fully trained (leakage)",
)
EPISODES, EVERY, EVALUATED = 32, 8, 6
EPOCHS, BATCH = 5, 32
#: Initial rates of the training episodes, log-uniform between.
RATES = (0.002, 0.15)
#: Those of the evaluations, in turn: within, so that no student diverges at once.
EVALUATION_RATES = (0.004, 0.02, 0.08)
#: Of the pull: about a third of an episode's 185 steps.
STRENGTH, STEPS = 0.02, 60
#: Of the stronger one: as long as an episode.
STRONGER, LONGER = 0.05, 185


def student(splits: data.Splits, seed: int) -> keras.Model:
    model = models.build("cnn", splits.input_shape, splits.num_classes, seed=seed)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=5,
        jit_compile=False,
    )
    return model


def train_fully(splits: data.Splits, seed: int) -> keras.Model:
    """A teacher that has had eight times an episode's epochs, at a good rate."""
    model = student(splits, 777_000 + seed)
    model.optimizer.learning_rate = 0.03
    model.fit(
        splits.train.batches(BATCH, seed=seed, drop_remainder=True), epochs=8 * EPOCHS,
        shuffle=False, verbose=0,
    )  # fmt: skip
    return model


def pull_of(arm: str, splits: data.Splits, seed: int) -> list[MetaMomentum]:
    """The callback of an arm, if it has one."""
    if arm == "no teacher":
        return []
    teacher: Any = BestStudentTeacher()
    if arm.startswith("random"):
        teacher = RandomTeacher(BestStudentTeacher(), seed)
    if arm.startswith("fully"):
        teacher = train_fully(splits, seed)
    if arm.endswith("stronger"):
        return [MetaMomentum(teacher, STRONGER, LONGER)]
    return [MetaMomentum(teacher, STRENGTH, STEPS)]


def train(
    students: ModelFactory,
    splits: data.Splits,
    held: Any,
    seed: int,
    rate: float,
    callbacks: list[Any],
) -> float:
    """One training; its log validation loss, at most log 10."""
    model = students.build(seed)
    model.optimizer.learning_rate = rate
    history = model.fit(
        splits.train.batches(BATCH, seed=seed, drop_remainder=True), epochs=EPOCHS,
        validation_data=held, validation_freq=EPOCHS, shuffle=False, verbose=0,
        callbacks=callbacks,
    ).history  # fmt: skip
    loss = history.get("val_loss", [math.nan])[-1]
    return min(math.log(loss), math.log(10.0)) if math.isfinite(loss) else math.log(10.0)


def measure(arm: str, seed: int, splits: data.Splits) -> Row:
    """One agent's schooling."""
    held = splits.validation.batches(256)
    students = ModelFactory(lambda s: student(splits, s), held)
    agent = DQN(exploration=Exploration(1.0, 0.05, decisions=20 * EPISODES // 2), seed=seed)
    qan, pulls = QANCallback(agent=agent), pull_of(arm, splits, seed)
    rng = np.random.default_rng([seed, 5])
    row: dict[str, Any] = {"arm": arm, "seed": seed, "training": [], "evaluations": []}
    for episode in range(EPISODES):
        rate = float(np.exp(rng.uniform(*np.log(RATES))))
        own = 1_000 * seed + episode
        row["training"].append(train(students, splits, held, own, rate, [qan, *pulls]))
        if (episode + 1) % EVERY == 0:
            greedy = copy.deepcopy(qan)
            greedy.explore = False
            row["evaluations"].append(
                [
                    train(students, splits, held, 500_000 + n, EVALUATION_RATES[n % 3], [greedy])
                    for n in range(EVALUATED)
                ]
            )
    return row


def run(path: Path, seeds: list[int], arms: list[str]) -> None:
    """Measures what is missing."""
    splits = data.load("digits")
    records = Records(path, "seed", "arm")
    for seed, arm in records.missing(itertools.product(seeds, arms)):
        keras.utils.clear_session()
        row = measure(arm, seed, splits)
        records.add(row)
        print(seed, arm, [round(float(np.mean(e)), 2) for e in row["evaluations"]], flush=True)


def report(found: list[dict[str, Any]]) -> None:
    """Prints the tables."""
    evaluations = range(EVERY, EPISODES + 1, EVERY)
    heads = ["arm", "seeds", *(f"after {n}" for n in evaluations), "last, minus no teacher",
             "all four, minus no teacher", "episodes to the final quality"]  # fmt: skip
    print("\n" + format_header(*heads))
    curves = {(row["arm"], row["seed"]): np.mean(row["evaluations"], axis=1) for row in found}
    seeds = [seed for arm, seed in curves if arm == ARMS[0]]
    for arm in ARMS:
        both = [seed for seed in seeds if (arm, seed) in curves]
        if not both:
            continue
        own = np.array([curves[arm, seed] for seed in both])
        gaps = own - np.array([curves[ARMS[0], seed] for seed in both])
        cells = [arm, str(len(both)), *(f"{value:.2f}" for value in own.mean(axis=0))]
        cells += (
            ["", ""]
            if arm == ARMS[0]
            else [format_mean(each, "+.2f") for each in (gaps[:, -1], gaps.mean(axis=1))]
        )
        needed = [EVERY * (1 + int(np.argmax(curve <= curve[-1] + 0.1))) for curve in own]
        cells.append(f"{np.median(needed):g} ({min(needed)} … {max(needed)})")
        print(format_row(*cells))
    columns = ("arm", "the training episodes themselves: first eight", "last eight")
    print("\n" + format_header(*columns))
    for arm in [a for a in ARMS if any(row["arm"] == a for row in found)]:
        trainings = np.array([row["training"] for row in found if row["arm"] == arm])
        means = (f"{part.mean():.2f}" for part in (trainings[:, :8], trainings[:, -8:]))
        print(format_row(arm, *means))
