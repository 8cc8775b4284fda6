"""Populations of a policy's training, here or on workers."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from keras_qan.parallel import Call, Executor
from keras_qan.pretraining.policy_iteration import BranchPoint, PolicyTraining
from keras_qan.pretraining.tasks import TaskTemplate
from keras_qan.qan import presets

#: States, scores and free decisions of a `BranchPoint`: all that is learned from.
Outcome = tuple[np.ndarray, np.ndarray, np.ndarray]


def make_training(
    seed: int, templates: tuple[TaskTemplate, ...], preset: str = "transfer"
) -> PolicyTraining:
    """Make the training of a policy, before its first round.

    Args:
      seed: of everything random.
      templates: of tasks and networks.
      preset: the name of the policy's settings. Defaults to those of the shipped one.
    """
    settings = presets.by_name(preset, seed)
    return PolicyTraining(
        settings["actions"],
        settings["observations"],
        settings["agent"],
        settings["rate_bounds"],
        seed,
        templates=templates,
        schedule=settings["schedule"],
        preset=preset,
    )


def populations(training: PolicyTraining, last: int, engine: Executor) -> Iterator[Outcome]:
    """Yield what came of the populations of the next rounds, in order, as the agent is now.

    Args:
      training: made by `make_training`; its agent stays as it is meanwhile.
      last: the number of rounds after them.
      engine: trains them.
    """
    if engine.is_here:  # the compiled programs are this training's own
        numbers = range(training.rounds, last)
        return (_outcome(training.branch(number)) for number in numbers)
    return engine.map(calls_for(training, last))


def calls_for(training: PolicyTraining, last: int) -> list[Call]:
    """Describe the populations of the next rounds as tasks for any executor."""
    shared = {
        "seed": training.seed,
        "templates": training.templates,
        "preset": training.preset,
        "parameters": training.agent.parameters(),
    }
    numbers = range(training.rounds, last)
    return [Call(f"{__name__}:run_call", {"number": number, **shared}) for number in numbers]


def run_call(
    *,
    seed: int,
    templates: tuple[TaskTemplate, ...],
    preset: str,
    number: int,
    parameters: dict[str, np.ndarray],
) -> Outcome:
    """Train the population of a round that `populations` described."""
    training = _training_of_this_worker(seed, templates, preset)
    training.agent.adopt(parameters)
    return _outcome(training.branch(number))


#: A worker compiles each program once.
_training_of_this_worker = functools.lru_cache(maxsize=1)(make_training)


def _outcome(point: BranchPoint) -> Outcome:
    return point.states, point.scores, point.free
