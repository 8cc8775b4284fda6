"""Many turns of the loop: fresh student, fit, evaluate, log, checkpoint, resume."""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan import arms as arm_room
from keras_qan import comparison, distribute, run_log
from keras_qan.callback import QANCallback
from keras_qan.progress import Progress
from keras_qan.selection import Selector
from keras_qan.students import Students


@dataclass(frozen=True)
class Task:
    """A training that can be repeated from a seed.

    Attributes:
      build_model: seed → compiled model; its initial weights follow from the seed.
      train: seed → training batches; their order follows from the seed.
      validation: what rewards and choices look at.
      epochs: of one training, at least 1.
      test: what is looked at once, after an evaluation's training; None if there is none.
      selector: what chooses the batches of the arms that have its actions, anew from the seed in
        each training; the other arms are trained on `train`.
      steps: optimizer steps in an epoch of those arms; None for as many as hold all examples once.
    """

    build_model: Callable[[int], keras.Model]
    train: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    epochs: int
    test: tf.data.Dataset | None = None
    selector: Selector | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a training of no epochs."""
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; expected at least 1.")

    @functools.cached_property
    def _pipeline(self) -> tf.data.Dataset:
        assert self.selector is not None
        return self.selector.dataset()

    def selected(self) -> tf.data.Dataset:
        """The selector's batches: one pipeline for all trainings."""
        return self._pipeline


@dataclass(frozen=True)
class Evaluation:
    """How the learned policy is compared with others.

    Attributes:
      arms: who takes part, from `keras_qan.arms.NAMES`.
      seeds: how many unseen seeds each arm is trained with; the same for all.
      learning_rates: the initial rates; by default the one that `build_model` compiles with.
    """

    arms: Sequence[str] = ("qan", "random", "constant", "cosine")
    seeds: int = 5
    learning_rates: Sequence[float] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Raises ValueError for unknown arms, no seeds, or rates that are none."""
        arm_room.check_names(self.arms)
        if self.seeds < 1:
            raise ValueError(f"Evaluation got seeds={self.seeds}; expected at least 1.")
        _check_rates("learning_rates", self.learning_rates)


@dataclass(frozen=True)
class Report:
    """What a run showed.

    Attributes:
      rows: the table, as `comparison.compare` gives it; of several workers, the chief has it.
      directory: where everything is.
      episodes: training episodes, all in all.
    """

    rows: list[dict[str, Any]]
    directory: Path
    episodes: int


#: Seeds of evaluations start here; training episodes' seeds stay below.
FIRST_UNSEEN_SEED = 1_000_000


def run_episodes(
    task: Task,
    learner: QANCallback,
    *,
    episodes: int,
    evaluation: Evaluation | None = None,
    learning_rates: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Lets QAN learn over episodes, then compares what it learned with other arms.

    The policy is evaluated greedily (ε = 0, frozen), on seeds that no training episode had, and
    each arm starts from the same weights and sees the same batches in the same order. What the
    directory already holds is not done again: a run that was killed goes on, and at most the
    episode it was in is lost.

    Args:
      task: what is trained.
      learner: the callback that learns; it must have a directory.
      episodes: training episodes, all in all; at least 0.
      evaluation: how to compare; by default four arms on five seeds.
      learning_rates: training episodes start with a rate drawn log-uniformly between these two; by
        default the one that `build_model` compiles with.
      seed: training episode e has the seed `seed + e`, evaluations have later ones.
      progress: where to show progress; by default nowhere.

    Returns:
      The report; `evaluation.json` in the directory holds the same rows.

    Raises:
      ValueError: an argument is out of range, or the learner has no directory.
    """
    evaluation = evaluation or Evaluation()
    directory = learner.directory
    if directory is None:
        raise ValueError(
            "run_episodes got a QANCallback without a directory, so the run could not be kept; "
            "write QANCallback('runs/mine')."
        )
    if episodes < 0 or not 0 <= seed < FIRST_UNSEEN_SEED // 2:
        raise ValueError(
            f"run_episodes got episodes={episodes}, seed={seed}; expected at least 0 episodes and "
            f"a seed from 0 to {FIRST_UNSEEN_SEED // 2 - 1}."
        )
    if learning_rates is not None:
        _check_rates("learning_rates", learning_rates)
    progress = progress or Progress()
    team = distribute.present_team()
    if team is not None:
        learner.join(team)
    students = Students(task.build_model, task.validation)
    _write_origin(directory, seed)
    with progress:
        _learn(task, students, learner, episodes, learning_rates, seed, progress)
        _evaluate(task, students, learner, evaluation, seed, progress)
    if team is not None and not team.is_chief:
        return Report([], directory, learner.episodes)
    rows = comparison.compare(
        run_log.read(directory, "episodes"), run_log.read(directory, "epochs")
    )
    _write_json(directory / "evaluation.json", rows)
    return Report(rows, directory, learner.episodes)


def _learn(
    task: Task,
    students: Students,
    learner: QANCallback,
    episodes: int,
    learning_rates: tuple[float, float] | None,
    seed: int,
    progress: Progress,
) -> None:
    progress.start("learning", learner.episodes, episodes, task.epochs)
    for episode in range(learner.episodes, episodes):
        episode_seed = seed + episode
        model = students.fresh(episode_seed)
        if learning_rates is not None:
            low, high = np.log(learning_rates)
            drawn = np.random.default_rng([episode_seed, 1]).uniform(low, high)
            _start_with(model, float(np.exp(drawn)))
        learner.context = {"arm": "qan", "phase": "train", "episode": episode, "seed": episode_seed}
        learner.explore = True
        _train(task, model, learner, episode_seed, progress)
        progress.advance()


def _evaluate(
    task: Task,
    students: Students,
    learner: QANCallback,
    evaluation: Evaluation,
    seed: int,
    progress: Progress,
) -> None:
    """Interleaves arms, rates and seeds, so that no arm has the machine to itself."""
    rates: list[float | None] = list(evaluation.learning_rates) or [None]
    plays = [(s, rate) for s in range(evaluation.seeds) for rate in rates]
    progress.start("evaluating", 0, len(plays) * len(evaluation.arms), task.epochs)
    callbacks = {arm: _callback_of(arm, learner, seed) for arm in evaluation.arms}
    for number, (seed_number, rate) in enumerate(plays):
        play_seed = FIRST_UNSEEN_SEED + seed + seed_number
        for arm in evaluation.arms:
            if learner.has_finished(arm, "evaluate", number):
                progress.advance()
                continue
            model = students.fresh(play_seed)
            if rate is not None:
                _start_with(model, rate)
            callback = callbacks[arm]
            if arm == "random":
                # Its numbers depend on the play alone, also where a run goes on after a kill.
                callback.agent.restore({"num_choices": np.asarray(number << 32)})
            callback.context = {
                "arm": arm,
                "phase": "evaluate",
                "episode": number,
                "seed": play_seed,
            }
            _train(task, model, callback, play_seed, progress, test=task.test)
            progress.advance()


def _callback_of(arm: str, learner: QANCallback, seed: int) -> QANCallback:
    if arm == "qan":
        callback = copy.deepcopy(learner)
    else:
        callback = arm_room.scripted(arm, learner, seed)
        callback.log_to(learner)
    callback.explore = False
    return callback


def _train(
    task: Task,
    model: keras.Model,
    callback: QANCallback,
    seed: int,
    progress: Progress,
    test: tf.data.Dataset | None = None,
) -> None:
    """One `fit`; its record is written when the test set, if it is its turn, has been looked at."""
    chosen = task.selector is not None and callback.selector is task.selector
    if task.selector is not None and chosen:
        task.selector.restart(seed)
        train, steps = task.selected(), task.steps or task.selector.steps_per_epoch
    else:
        train, steps = task.train(seed), None
    with callback.writing_later() as write, warnings.catch_warnings():
        # A training that diverges is an outcome here: its record and the table say so.
        warnings.filterwarnings("ignore", "The training loss is not finite", RuntimeWarning)
        model.fit(
            train,
            steps_per_epoch=steps,
            validation_data=task.validation,
            epochs=task.epochs,
            shuffle=False,  # the batches are shuffled already, by their seed
            verbose=0,
            callbacks=[callback, progress.epochs()],
        )
        scores = {} if test is None else model.evaluate(test, verbose=0, return_dict=True)
        write(**{f"test_{name}": float(value) for name, value in scores.items()})


def _start_with(model: keras.Model, rate: float) -> None:
    model.optimizer.learning_rate = rate


def _check_rates(name: str, rates: Sequence[float]) -> None:
    if any(not (rate > 0.0 and math.isfinite(rate)) for rate in rates):
        raise ValueError(f"{name} is {tuple(rates)}; expected positive, finite learning rates.")
    if list(rates) != sorted(rates):
        raise ValueError(f"{name} is {tuple(rates)}; expected them in ascending order.")


def _write_origin(directory: Path, seed: int) -> None:
    """Notes what the run was made with, once."""
    path = directory / "run.json"
    if path.exists():
        return
    packages = ("keras", "tensorflow", "tf-agents", "tf-keras", "numpy")
    versions = {name: metadata.version(name) for name in packages}
    origin = {
        "seed": seed,
        "first_evaluation_seed": FIRST_UNSEEN_SEED + seed,
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"system": platform.platform(), "cpu_cores": os.cpu_count()},
    }
    _write_json(path, origin)


def _write_json(path: Path, value: Any) -> None:
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps(run_log.plain(value), indent=1), encoding="utf-8")
    aside.replace(path)
