"""Policy training: branched trainings, and action values fitted to their returns."""

from __future__ import annotations

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
from keras_qan.pretraining.tasks import TRAINING, TaskTemplate

#: Ranges of effective initial rates: rate / (1 - μ) of SGD, and Adam's rate.
SGD_RATES = (3e-4, 5.0)
ADAM_RATES = (1e-5, 0.3)

#: Range of the number of steps in a training.
STEPS = (60, 2000)

#: Range of the number of validations in a training, and the share of trainings with none.
VALIDATIONS = (3, 17)
UNVALIDATED = 0.25


class OptimizerKind(NamedTuple):
    """Settings of an optimizer; see `BatchedOptimizers`."""

    adaptive: bool
    momentum: float
    weight_decay: float
    is_rmsprop: bool = False
    is_lion: bool = False


KINDS = (
    OptimizerKind(False, 0.9, 0.0),
    OptimizerKind(False, 0.9, 0.0),
    OptimizerKind(False, 0.0, 0.0),
    OptimizerKind(True, 0.9, 0.0),
    OptimizerKind(True, 0.9, 0.004),
    OptimizerKind(True, 0.9, 0.05),
    OptimizerKind(True, 0.9, 0.0),
    OptimizerKind(True, 0.0, 0.0, is_rmsprop=True),
    OptimizerKind(True, 0.9, 0.0, is_lion=True),
)


#: Those that a policy learns on: RMSprop, whose best slope ratio is another one, twice.
LEARNED_ON = (*KINDS, OptimizerKind(True, 0.0, 0.0, is_rmsprop=True))


def batch_optimizers(kinds: Sequence[OptimizerKind], members: int) -> BatchedOptimizers:
    """Repeat the optimizers of G tasks for all their members."""
    columns = np.repeat(np.array(kinds, np.float32), members, axis=0).T
    return BatchedOptimizers(*(tf.constant(column) for column in columns))


def draw_rate(kind: OptimizerKind, rng: np.random.Generator) -> float:
    """Draw an initial rate, log-uniform over a sensible range and far beyond."""
    low, high = ADAM_RATES if kind.adaptive else SGD_RATES
    gain = 1.0 if kind.adaptive else 1.0 - kind.momentum
    if kind.is_lion:  # its updates have the length of the rate in every weight
        gain = 0.2
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))) * gain


class BranchPoint(NamedTuple):
    """G tasks that branched at one decision.

    Attributes:
      template: of the tasks.
      before: the trainings up to there, one of each task.
      states: the agent's observations there, float32 `[G, F]`.
      scores: of the trainings that took each action, `[G, A]`; see `BatchedController.scores`.
      free: whether the decision was free, bool `[G]`; a forced step back is not.
    """

    template: TaskTemplate
    before: RolloutState
    states: np.ndarray
    scores: np.ndarray
    free: np.ndarray


def draw_validations(rng: np.random.Generator) -> int:
    """Draw the number of reports of the validation loss: none in one of four trainings."""
    return 0 if rng.random() < UNVALIDATED else int(rng.integers(*VALIDATIONS))


class PolicyTraining:
    """Trains a DQN on populations of small trainings.

    In each population a task has as many members as there are actions. They are the same training
    up to one decision; there each takes another action, and from there to the end all take the
    agent's default action. So the effect of an action is measured with everything else equal, and
    it is large: a policy that reversed the action at the next decision would hide it. The values Q
    learned are those of the fixed policy that follows the schedule; acting greedily by them at
    every decision is one step of policy improvement over it (a rollout policy, Bertsekas et al.
    1997). Values of a fixed policy do not age: all branches stay, and each `fit` fits the agent's
    network to all of them (`Branches`). What a round's population is follows from the seed, the
    round's number and the agent, so that those between two fits can be made anywhere, in any order.

    With l the log of the final validation loss over the first training loss, an action missed
    the share m = (l_a - min_b l_b) / (0.3 + |min_b l_b|) of the possible decrease, and its return
    is G = -tanh(3m) / 3: small differences count in full, all disasters count alike.

    Args:
      actions: to choose from.
      observations: the parts of the state.
      agent: the agent to train.
      rate_bounds: the lowest and the highest learning rate.
      seed: of everything random. Defaults to 0.
      num_tasks: tasks in a population. Defaults to 8.
      templates: of tasks and networks. Defaults to `TRAINING`.
      noise: the probability of a random action before the branching. Defaults to 0.15.
      schedule: factor of every rate. Defaults to none.
      preset: the name of the settings that all these are of. Defaults to "transfer".
    """

    def __init__(
        self,
        actions: Sequence[Action],
        observations: Sequence[Observation],
        agent: DQN,
        rate_bounds: tuple[float, float],
        seed: int = 0,
        *,
        num_tasks: int = 8,
        templates: Sequence[TaskTemplate] = TRAINING,
        noise: float = 0.15,
        schedule: Schedule | None = None,
        preset: str = "transfer",
    ) -> None:
        self.preset = preset
        self.actions, self.agent, self.rate_bounds = tuple(actions), agent, rate_bounds
        self.schedule = schedule
        self.observations = tuple(observations)
        self.num_tasks, self.templates, self.noise = num_tasks, tuple(templates), noise
        self.seed, self.rounds = seed, 0
        num_features = sum(part.size(2) for part in self.observations)
        self.branches = Branches(num_features, len(self.actions))
        self.agent.build(num_features, len(self.actions))
        self.q_values = agent.action_scores
        self._controllers: dict[tuple[TaskTemplate, int, int], BatchedController] = {}

    def controller_for(
        self, template: TaskTemplate, num_tasks: int, members: int
    ) -> BatchedController:
        """The controller of a template's population, compiled once."""
        key = (template, num_tasks, members)
        if key not in self._controllers:
            population = Population(template, num_tasks, members)
            self._controllers[key] = BatchedController(
                population, self.actions, self.rate_bounds, self.observations, self.schedule
            )
        return self._controllers[key]

    def fit(self, updates: int) -> float:
        """Fit the agent to all branches so far, and return the mean error."""
        states, values = self.branches.training_data(self.rounds)
        return self.agent.fit_values(states, values, updates, self.rounds)

    def add(self, states: np.ndarray, scores: np.ndarray, free: np.ndarray) -> dict[str, float]:
        """Add the branches of the next round; see `BranchPoint`.

        Args:
          states: of its tasks, `[G, F]`.
          scores: of each action there, `[G, A]`.
          free: whether the decision was free, `[G]`; only such branches are learned from.

        Returns:
          Figures of the round.
        """
        returns = self.returns(scores)
        self.branches.add(states[free], returns[free])
        self.rounds += 1
        return {
            "round": self.rounds,
            "score": float(scores.mean()),
            "missed": float(-returns.mean()),
            "diverged": float(np.mean(scores >= WORST)),
        }

    def branch(self, number: int) -> BranchPoint:
        """Train the population of a round, which branches at one decision.

        Args:
          number: of the round, from 0.
        """
        rng = np.random.default_rng([self.seed, number])
        tasks, members = self.num_tasks, len(self.actions)
        template = self.templates[int(rng.integers(len(self.templates)))]
        kinds = [LEARNED_ON[int(k)] for k in rng.integers(len(LEARNED_ON), size=tasks)]
        rates = np.array([draw_rate(kind, rng) for kind in kinds])
        num_steps = round(float(np.exp(rng.uniform(*np.log(STEPS)))))
        seed = int(rng.integers(2**31 - 1))
        one = self.controller_for(template, tasks, 1)
        many = self.controller_for(template, tasks, members)
        data, weights = one.population.draw_tasks(seed)
        reports = draw_validations(rng)
        rollout = Rollout(data, batch_optimizers(kinds, 1), num_steps, seed, reports, one.fewest)
        at = int(rng.integers(len(rollout.decisions)))
        noise = rng.random((at, tasks)) < self.noise
        random = np.where(noise, rng.integers(members, size=(at, tasks)), -1)
        chooser = ActionChooser(self.q_values, random.__getitem__)
        before, _ = one.train(one.initial_state(weights, rates), rollout, chooser, 0, at)
        every = np.tile(np.arange(members), tasks)
        default = np.full(tasks * members, self.agent.default_action)

        def override(number: int) -> np.ndarray:
            return every if number == at else default

        rollout = Rollout(
            data, batch_optimizers(kinds, members), num_steps, seed, reports, many.fewest
        )
        chooser = ActionChooser(self.q_values, override)
        end = len(rollout.decisions)
        after, rows = many.train(branch(before, members), rollout, chooser, at, end)
        scores = many.scores(rollout, after).reshape(tasks, members)
        # The members of a task are in one state.
        first = slice(None, None, members)
        return BranchPoint(template, before, rows[0].states[first], scores, rows[0].free[first])

    @staticmethod
    def returns(scores: np.ndarray) -> np.ndarray:
        """Compute the return of each task's actions, `[G, A]`, from their scores."""
        best = scores.min(axis=1, keepdims=True)
        missed = (scores - best) / (0.3 + np.abs(best))
        return -np.tanh(3.0 * missed) / 3.0


def no_override(size: int) -> Callable[[int], np.ndarray]:
    """Make an override that leaves every decision to the values."""
    return always_take(size, -1)


def always_take(size: int, action: int) -> Callable[[int], np.ndarray]:
    """Make an override that takes one action at every decision."""
    actions = np.full(size, action)
    return lambda number: actions  # noqa: ARG005 - the signature of overrides


def zero_values(num_actions: int) -> Callable[[np.ndarray], np.ndarray]:
    """Make the values of a rollout whose every action is overridden."""

    def zeros(states: np.ndarray) -> np.ndarray:
        return np.zeros([len(states), num_actions])

    return zeros
