"""Evaluation of policies on held-out tasks, beside schedules with a tuned rate."""

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
    always_take,
    batch_optimizers,
    no_override,
    zero_values,
)
from keras_qan.pretraining.tasks import HELD_OUT, HELD_OUT_SEQUENCES, TaskTemplate

#: Rates to tune schedules over, relative to 1 - μ (SGD) or to 0.1 (Adam).
GRID = tuple(float(rate) for rate in np.geomspace(3e-3, 3.0, 10))

#: Initial rates of a policy's evaluations, relative to the best constant one.
START_FACTORS = (1 / 30, 1 / 6, 1.0, 3.0, 8.0)


class HeldOutCase(NamedTuple):
    """A held-out task with an optimizer, and the scores of schedules with a tuned rate.

    Attributes:
      template: task and network.
      kind: the optimizer.
      num_steps: the length of the training.
      num_validations: the number of reports of the validation loss.
      constant_rate: the best constant rate.
      constant: its mean score.
      cosine: the best cosine's mean score.
    """

    template: TaskTemplate
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
    (HELD_OUT[8], OptimizerKind(True, 0.9, 0.0), 300, 10),
    (HELD_OUT[9], OptimizerKind(True, 0.9, 0.0), 300, 6),
    (HELD_OUT[10], OptimizerKind(True, 0.0, 0.0, is_rmsprop=True), 400, 8),
    (HELD_OUT[11], OptimizerKind(True, 0.9, 0.004), 300, 8),
    (HELD_OUT_SEQUENCES[0], OptimizerKind(True, 0.9, 0.0), 300, 6),
    (HELD_OUT_SEQUENCES[0], OptimizerKind(True, 0.0, 0.0, is_rmsprop=True), 500, 0),
    (HELD_OUT_SEQUENCES[1], OptimizerKind(True, 0.9, 0.004), 300, 8),
    (HELD_OUT[8], OptimizerKind(True, 0.9, 0.0), 1500, 12),
    (HELD_OUT[4], OptimizerKind(False, 0.0, 0.0), 1500, 12),
)

#: Schedules ignore the state, but there must be one.
_STATE = (TrainingDynamics(),)


def tune_schedules(num_tasks: int = 6, seed: int = 1_000_000) -> list[HeldOutCase]:
    """Tune constant rates and cosines on the held-out tasks."""
    cases = []
    for template, kind, num_steps, num_validations in CASES:
        population = Population(template, num_tasks, len(GRID))
        scale = 0.1 if kind.adaptive else 1.0 - kind.momentum
        rates = np.tile(np.array(GRID) * scale, num_tasks)
        actions = (Hold(), Follow(Cosine()))
        controller = BatchedController(population, actions, (0.0, np.inf), _STATE)
        task = population.draw_tasks(seed)
        optimizers = batch_optimizers([kind] * num_tasks, len(GRID))
        scores = []
        for action in (0, 1):
            chooser = ActionChooser(zero_values(2), always_take(population.size, action))
            episodes = controller.run(task, optimizers, rates, num_steps, seed, chooser)
            scores.append(episodes.scores.reshape(num_tasks, -1).mean(axis=0))
        best = int(np.argmin(scores[0]))
        tuned = (rates[best], scores[0].min(), scores[1].min())
        cases.append(HeldOutCase(template, kind, num_steps, num_validations, *tuned))
    return cases


def evaluate(
    training: PolicyTraining,
    cases: Sequence[HeldOutCase],
    num_tasks: int = 6,
    seed: int = 1_000_000,
) -> np.ndarray:
    """Score the greedy policy from each initial rate, `[len(cases), len(START_FACTORS)]`."""
    rows = []
    for case in cases:
        controller = training.controller_for(case.template, num_tasks, len(START_FACTORS))
        population = controller.population
        rates = np.tile(np.array(START_FACTORS) * case.constant_rate, num_tasks)
        optimizers = batch_optimizers([case.kind] * num_tasks, len(START_FACTORS))
        chooser = ActionChooser(training.q_values, no_override(population.size))
        episodes = controller.run(
            population.draw_tasks(seed), optimizers, rates, case.num_steps, seed, chooser,
            case.num_validations,
        )  # fmt: skip
        rows.append(episodes.scores.reshape(num_tasks, -1).mean(axis=0))
    return np.array(rows)
