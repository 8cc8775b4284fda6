"""DAC4SGD's four learning-rate policies, on the trainings of the Gymnasium environment.

Source: examples/ac_for_dac of github.com/automl/DAC4SGD. There SMAC tuned each policy's numbers on
trainings of small networks with AdamW, on MNIST, Fashion-MNIST and CIFAR-10. A policy sets the rate
itself, at every step, and sees what it sees there: the loss of each batch, and the validation loss
at the end of each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.envs import LearningRateEnv
from keras_qan.pretraining.batched_control import Rollout


class Point(NamedTuple):
    """A step of a training, as a policy sees it.

    Attributes:
      progress: the share of the training that is done.
      losses: of the batches so far.
      steps_an_epoch: the steps of a pass over the examples.
      validation_loss: at the end of an epoch; else None.
    """

    progress: float
    losses: list[float]
    steps_an_epoch: int
    validation_loss: float | None


@dataclass
class Constant:
    """The same rate throughout."""

    rate: float = 1.524e-3

    def __call__(self, _: Point) -> float:
        """Return the rate of the next step."""
        return self.rate


@dataclass
class Cosine:
    """Half a cosine, from the rate to zero."""

    rate: float = 4.173e-3

    def __call__(self, point: Point) -> float:
        """Return the rate of the next step."""
        return 0.5 * (1.0 + math.cos(math.pi * point.progress)) * self.rate


@dataclass
class Plateau:
    """PyTorch's ReduceLROnPlateau: a fall where more epochs than `patience` bring no lower loss."""

    rate: float = 1.559e-3
    factor: float = 0.4841
    patience: int = 1
    threshold: float = 1e-4
    best: float = math.inf
    waited: int = 0

    def __call__(self, point: Point) -> float:
        """Return the rate of the next step."""
        if point.validation_loss is None:
            return self.rate
        if point.validation_loss < self.best * (1.0 - self.threshold):
            self.best, self.waited = point.validation_loss, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.rate, self.waited = self.rate * self.factor, 0
        return self.rate


@dataclass
class Reactive:
    """A rise after each epoch with a lower training loss than the last one, else a fall."""

    rate: float = 1.11e-3
    up: float = 1.78
    down: float = 7.96

    def __call__(self, point: Point) -> float:
        """Return the rate of the next step."""
        epoch = point.steps_an_epoch
        if len(point.losses) >= 2 * epoch and len(point.losses) % epoch == 0:
            now, before = sum(point.losses[-epoch:]), sum(point.losses[-2 * epoch : -epoch])
            self.rate *= self.up if now < before else 1.0 / self.down
        return self.rate


POLICIES: dict[str, Callable[..., Callable[[Point], float]]] = {
    "constant": Constant,
    "cosine": Cosine,
    "plateau": Plateau,
    "reactive": Reactive,
}

#: Optimizers that a policy is tuned for apart: stochastic gradient descent, and Adam and AdamW.
FAMILIES = ("sgd", "adam")

#: Factors of the published rate that a policy is tuned by.
FACTORS = tuple(10.0 ** np.arange(-1.5, 3.1, 0.5))

#: Seeds of the trainings that a policy is tuned on.
TUNING_SEED = 6_000_000


class ScheduledEnv(LearningRateEnv):
    """The environment's trainings, with rates that a policy sets at every step."""

    def family(self) -> str:
        """Return the optimizer's family, of the training that `reset` drew."""
        return FAMILIES[int(self._rollout.optimizers.adaptive.numpy()[0])]

    def run(self, name: str, factors: dict[str, float] | None = None) -> float:
        """Train to the end by a policy, from where `reset` begins.

        Args:
          name: of the policy.
          factors: of its published rate for each family; with SGD it is a factor of rate / (1 - μ),
            so that momentum changes nothing about it. Defaults to the published rate itself.

        Returns:
          The return: log(first loss / last validation loss), as the environment's.
        """
        assert self._training is not None
        controller, rollout = self._training.controller, self._rollout
        population, state = controller.population, self._training.state
        policy = POLICIES[name]
        factor = 1.0 if factors is None else factors[self.family()]
        if factors is not None and self.family() == "sgd":
            factor *= 1.0 - float(rollout.optimizers.momentum.numpy()[0])
        choose = policy(rate=policy().rate * factor)
        epoch = math.ceil(population.template.num_train / population.template.batch_size)
        losses: list[float] = []
        for step in range(rollout.num_steps):
            ends = step > 0 and step % epoch == 0
            validation = (
                float(population.validate(rollout.data, state.weights)[0]) if ends else None
            )
            rate = choose(Point(step / rollout.num_steps, losses, epoch, validation))
            weights, first, *_ = population.advance(
                rollout.data,
                state.weights,
                rollout.optimizers,
                tf.constant([rate], tf.float32),
                rollout.seed,
                step,
                step + 1,
            )
            losses.append(float(first[0]))
            state = state._replace(weights=weights)
        state = state._replace(first_loss=np.array(losses[:1]))
        return -float(controller.scores(rollout, state)[0])

    @property
    def _rollout(self) -> Rollout:
        assert self._training is not None
        return self._training.rollout


def tune(env: ScheduledEnv, name: str, episodes: int) -> dict[str, float]:
    """Return the best factor of a policy's rate for each family, on the env's own tasks.

    Args:
      env: of the tasks of training.
      name: of the policy.
      episodes: trainings of each family.
    """
    seeds: dict[str, list[int]] = {family: [] for family in FAMILIES}
    seed = TUNING_SEED
    while min(len(found) for found in seeds.values()) < episodes:
        env.reset(seed=seed)
        seeds[env.family()].append(seed)
        seed += 1

    def score(family: str, factor: float) -> float:
        returns = []
        for seed in seeds[family][:episodes]:
            env.reset(seed=seed)
            returns.append(env.run(name, {family: factor}))
        return float(np.mean(returns))

    return {f: float(max(FACTORS, key=lambda factor: score(f, factor))) for f in FAMILIES}
