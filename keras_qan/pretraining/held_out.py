"""How good a policy is on tasks it was not trained on, beside schedules with a tuned rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_qan.actions import Cosine, Follow, Hold
from keras_qan.observations import TrainingDynamics
from keras_qan.pretraining.batched_control import ActionChooser, BatchedController
from keras_qan.pretraining.batched_training import Population
from keras_qan.pretraining.policy_iteration import (
    OptimizerKind,
    PolicyTraining,
    always,
    greedy,
    no_values,
    optimizers,
)
from keras_qan.pretraining.tasks import HELD_OUT, Template

#: Rates that schedules are tuned over, relative to 1 (SGD, over 1 - μ) or to 0.1 (Adam).
GRID = tuple(float(rate) for rate in np.geomspace(3e-3, 3.0, 10))

#: Initial rates that a policy is tried from, relative to the best constant one.
FROM = (1 / 30, 1 / 6, 1.0, 3.0, 8.0)


class Case(NamedTuple):
    """A held-out task with an optimizer, and what schedules with a tuned rate make of it.

    Attributes:
      template: task and network.
      kind: the optimizer.
      num_steps: the length of the training.
      num_validations: how often it reports its validation loss.
      constant_rate: the best constant rate.
      constant: its mean score.
      cosine: the best cosine's mean score.
    """

    template: Template
    kind: OptimizerKind
    num_steps: int
    num_validations: int
    constant_rate: float
    constant: float
    cosine: float


CASES = (
    (HELD_OUT[0], OptimizerKind(False, 0.9, 0.0), 250, 8),
    (HELD_OUT[1], OptimizerKind(True, 0.9, 0.0), 150, 0),
    (HELD_OUT[2], OptimizerKind(False, 0.9, 0.0), 400, 12),
    (HELD_OUT[3], OptimizerKind(True, 0.9, 0.004), 300, 10),
    (HELD_OUT[3], OptimizerKind(False, 0.9, 0.0), 200, 0),
    (HELD_OUT[4], OptimizerKind(True, 0.9, 0.0), 300, 5),
    (HELD_OUT[4], OptimizerKind(False, 0.0, 0.0), 400, 12),
    (HELD_OUT[5], OptimizerKind(True, 0.9, 0.0), 120, 10),
    (HELD_OUT[6], OptimizerKind(False, 0.9, 0.0), 150, 10),
    (HELD_OUT[7], OptimizerKind(True, 0.9, 0.004), 200, 0),
)

#: Schedules look at nothing; a state there must be.
_STATE = (TrainingDynamics(),)


def reference(num_tasks: int = 6, seed: int = 1_000_000) -> list[Case]:
    """Tunes constant rates and cosines on the held-out tasks."""
    cases = []
    for template, kind, num_steps, num_validations in CASES:
        population = Population(template, num_tasks, len(GRID))
        scale = 0.1 if kind.adaptive else 1.0 - kind.momentum
        rates = np.tile(np.array(GRID) * scale, num_tasks)
        steering = BatchedController(population, (Hold(), Follow(Cosine())), (0.0, np.inf), _STATE)
        task = population.draw(seed)
        scores = []
        for action in (0, 1):
            episodes = steering.run(
                task, optimizers([kind] * num_tasks, len(GRID)), rates, num_steps, seed,
                ActionChooser(no_values(2), always(population.size, action)),
            )  # fmt: skip
            scores.append(episodes.scores.reshape(num_tasks, -1).mean(axis=0))
        best = int(np.argmin(scores[0]))
        tuned = (rates[best], scores[0].min(), scores[1].min())
        cases.append(Case(template, kind, num_steps, num_validations, *tuned))
    return cases


def evaluate(
    training: PolicyTraining, cases: Sequence[Case], num_tasks: int = 6, seed: int = 1_000_000
) -> np.ndarray:
    """The greedy policy's mean score from each initial rate, `[len(cases), len(FROM)]`."""
    rows = []
    for case in cases:
        steering = training.steering(case.template, num_tasks, len(FROM))
        population = steering.population
        rates = np.tile(np.array(FROM) * case.constant_rate, num_tasks)
        episodes = steering.run(
            population.draw(seed), optimizers([case.kind] * num_tasks, len(FROM)), rates,
            case.num_steps, seed, ActionChooser(training.q_values, greedy(population.size)),
            case.num_validations,
        )  # fmt: skip
        rows.append(episodes.scores.reshape(num_tasks, -1).mean(axis=0))
    return np.array(rows)
