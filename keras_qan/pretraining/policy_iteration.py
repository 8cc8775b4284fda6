"""How a policy is trained: branched trainings, action values, selection on held-out tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.actions import Action, Schedule
from keras_qan.agents import DQN
from keras_qan.observations import Observation
from keras_qan.pretraining.batched_control import (
    WORST,
    ActionChooser,
    BatchedController,
    Rollout,
    RolloutState,
    branch,
)
from keras_qan.pretraining.batched_training import BatchedOptimizers, Population
from keras_qan.pretraining.branched_returns import Branches
from keras_qan.pretraining.tasks import TRAINING, Template

#: The range that effective initial rates are drawn from: rate / (1 - μ) of SGD, and Adam's rate.
SGD_RATES = (3e-4, 5.0)
ADAM_RATES = (1e-5, 0.3)

#: The range that the number of steps in a training is drawn from.
STEPS = (60, 500)

#: The range that the number of validations in a training is drawn from, and how many have none.
VALIDATIONS = (3, 17)
UNVALIDATED = 0.25


class OptimizerKind(NamedTuple):
    """An optimizer that students are trained with."""

    adaptive: bool
    momentum: float
    weight_decay: float


KINDS = (
    OptimizerKind(False, 0.9, 0.0),
    OptimizerKind(False, 0.9, 0.0),
    OptimizerKind(False, 0.0, 0.0),
    OptimizerKind(True, 0.9, 0.0),
    OptimizerKind(True, 0.9, 0.004),
    OptimizerKind(True, 0.9, 0.05),
)


def optimizers(kinds: Sequence[OptimizerKind], students: int) -> BatchedOptimizers:
    """The kinds of G tasks, for all their students."""
    columns = np.repeat(np.array(kinds, np.float32), students, axis=0).T
    return BatchedOptimizers(*(tf.constant(column) for column in columns))


def draw_rate(kind: OptimizerKind, rng: np.random.Generator) -> float:
    """An initial rate, log-uniform over what is sensible and far beyond."""
    low, high = ADAM_RATES if kind.adaptive else SGD_RATES
    gain = 1.0 if kind.adaptive else 1.0 - kind.momentum
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))) * gain


class Branched(NamedTuple):
    """G tasks that branched at one decision.

    Attributes:
      before: the trainings down to there, one of each task.
      states: what the agent saw there, float32 `[G, F]`.
      scores: what each action ended with, `[G, A]`; see `BatchedController.scores`.
      free: whether there was a choice, bool `[G]`; a step back after a jump of the loss is none.
    """

    before: RolloutState
    states: np.ndarray
    scores: np.ndarray
    free: np.ndarray


def draw_validations(rng: np.random.Generator) -> int:
    """How often a training reports its validation loss: in one of four never."""
    return 0 if rng.random() < UNVALIDATED else int(rng.integers(*VALIDATIONS))


class PolicyTraining:
    """Trains a DQN on populations of small trainings.

    In each population a task has as many students as there are actions. They are one and the
    same training up to one decision; there each takes another action, and from there to the end
    all take the agent's default action. So the difference that an action makes is measured with
    everything else equal, and it is large: a policy that took the action back at the next
    decision would hide it. What is learned are the action values Q of the policy that follows
    the schedule, and acting greedily by them at every decision is one step of policy improvement
    over it (a rollout policy, Bertsekas et al. 1997). Values of a fixed policy do not age: all
    branches stay, and at each `fit` the agent's network is fitted to all of them (`Branches`).

    With l the log of the final validation loss over the first training loss, an action missed
    the share m = (l_a - min_b l_b) / (0.3 + |min_b l_b|) of the possible fall, and its return is
    G = -tanh(3m) / 3: small differences count in full, disasters are all alike.

    Args:
      actions: what can be chosen.
      observations: the parts of the state.
      agent: what is trained.
      rate_bounds: the lowest and the highest learning rate.
      seed: everything follows from it.
      num_tasks: tasks in a population.
      templates: which tasks and networks.
      noise: the probability of a random action before the branching.
      schedule: what every rate is multiplied by.
    """

    def __init__(
        self,
        actions: Sequence[Action],
        observations: Sequence[Observation],
        agent: DQN,
        rate_bounds: tuple[float, float],
        seed: int = 0,
        num_tasks: int = 16,
        templates: Sequence[Template] = TRAINING,
        noise: float = 0.15,
        schedule: Schedule | None = None,
    ) -> None:
        self.actions, self.agent, self.rate_bounds = tuple(actions), agent, rate_bounds
        self.schedule = schedule
        self.observations = tuple(observations)
        self.num_tasks, self.templates, self.noise = num_tasks, tuple(templates), noise
        self.rng = np.random.default_rng(seed)
        self.rounds = 0
        num_features = sum(part.size(2) for part in self.observations)
        self.branches = Branches(num_features, len(self.actions))
        self.agent.build(num_features, len(self.actions))
        self.q_values = agent.action_scores
        self._steering: dict[tuple[Template, int, int], BatchedController] = {}

    def steering(self, template: Template, num_tasks: int, students: int) -> BatchedController:
        """The compiled population of a template."""
        key = (template, num_tasks, students)
        if key not in self._steering:
            population = Population(template, num_tasks, students)
            self._steering[key] = BatchedController(
                population, self.actions, self.rate_bounds, self.observations, self.schedule
            )
        return self._steering[key]

    def fit(self, updates: int) -> float:
        """Fits the agent to all branches so far, in so many updates; the mean error."""
        states, values = self.branches.lessons(self.rounds)
        return self.agent.fit_values(states, values, updates, self.rounds)

    def round(self) -> dict[str, float]:
        """Trains one population, and keeps what its branches showed.

        Returns:
          Figures of the round.
        """
        rng = self.rng
        template = self.templates[int(rng.integers(len(self.templates)))]
        branched = self.branch(template)
        returns = self.returns(branched.scores)
        free = branched.free
        self.branches.add(branched.states[free], returns[free])
        self.rounds += 1
        return {
            "round": self.rounds,
            "score": float(branched.scores.mean()),
            "missed": float(-returns.mean()),
            "diverged": float(np.mean(branched.scores >= WORST)),
        }

    def branch(self, template: Template) -> Branched:
        """Trains a population of that template, which branches at one decision."""
        rng, tasks, students = self.rng, self.num_tasks, len(self.actions)
        kinds = [KINDS[int(k)] for k in rng.integers(len(KINDS), size=tasks)]
        rates = np.array([draw_rate(kind, rng) for kind in kinds])
        num_steps = round(float(np.exp(rng.uniform(*np.log(STEPS)))))
        seed = int(rng.integers(2**31 - 1))
        one, many = self.steering(template, tasks, 1), self.steering(template, tasks, students)
        data, weights = one.population.draw(seed)
        reports = draw_validations(rng)
        course = Rollout(data, optimizers(kinds, 1), num_steps, seed, reports)
        at = int(rng.integers(len(course.decisions)))
        noise = rng.random((at, tasks)) < self.noise
        random = np.where(noise, rng.integers(students, size=(at, tasks)), -1)
        running = one.begin(weights, rates)
        before, _ = one.go(running, course, ActionChooser(self.q_values, random.__getitem__), 0, at)
        running = branch(before, students)
        course = Rollout(data, optimizers(kinds, students), num_steps, seed, reports)
        every = np.tile(np.arange(students), tasks)
        default = np.full(tasks * students, self.agent.default_action)

        def override(number: int) -> np.ndarray:
            return every if number == at else default

        running, rows = many.go(
            running, course, ActionChooser(self.q_values, override), at, len(course.decisions)
        )
        scores = many.scores(course, running).reshape(tasks, students)
        # The students of a task are in one state.
        first = slice(None, None, students)
        return Branched(before, rows[0].states[first], scores, rows[0].free[first])

    @staticmethod
    def returns(scores: np.ndarray) -> np.ndarray:
        """G of each task's actions, `[G, A]`, from their scores."""
        best = scores.min(axis=1, keepdims=True)
        missed = (scores - best) / (0.3 + np.abs(best))
        return -np.tanh(3.0 * missed) / 3.0


def greedy(size: int) -> Callable[[int], np.ndarray]:
    """An override that overrides nothing."""
    return functools.partial(_always, np.full(size, -1))


def _always(actions: np.ndarray, number: int) -> np.ndarray:
    del number
    return actions


def always(size: int, action: int) -> Callable[[int], np.ndarray]:
    """An override that takes one action at every decision."""
    return functools.partial(_always, np.full(size, action))


def no_values(num_actions: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return values for a rollout whose every action is overridden."""

    def zeros(states: np.ndarray) -> np.ndarray:
        return np.zeros([len(states), num_actions])

    return zeros
