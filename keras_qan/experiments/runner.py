"""Many turns of the loop: fresh student, fit, evaluate, log, checkpoint, resume."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan import distribute
from keras_qan.experiments import baselines as arm_room
from keras_qan.experiments import statistics
from keras_qan.experiments.episode import (
    EpisodeRunner,
    EpisodeSpec,
    build_agent,
    call_for,
    learn_from_result,
    write_records,
)
from keras_qan.experiments.fit_checkpoint import FitCheckpoint
from keras_qan.experiments.task import Task
from keras_qan.parallel import Executor, LocalExecutor
from keras_qan.qan.callback import QANCallback
from keras_qan.storage import files, run_log
from keras_qan.storage.signals import Stopped, StopRequests
from keras_qan.utils.progress import Progress

__all__ = ["Evaluation", "RunReport", "Stopped", "Task", "run_episodes"]


@dataclass(frozen=True)
class Evaluation:
    """How the learned policy is compared with others.

    Attributes:
      arms: who takes part, from `keras_qan.experiments.baselines.NAMES`.
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
class RunReport:
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
    engine: Executor | None = None,
    save_every_epochs: int | None = 0,
) -> RunReport:
    """Lets QAN learn over episodes, then compares what it learned with other arms.

    The policy is evaluated greedily (ε = 0, frozen), on seeds that no training episode had, and
    each arm starts from the same weights and sees the same batches in the same order. What the
    directory already holds is not done again: a run that was killed goes on, and ends as it would
    have, to the last bit on one CPU.

    With an engine of N workers, episodes are played N at a time with the policy that there is when
    a round begins, and learned from in their order: the same for the same N, another run than one
    by one. The evaluation is the same for any N.

    Args:
      task: what is trained; with several workers it says its `source`.
      learner: the callback that learns; it must have a directory.
      episodes: training episodes, all in all; at least 0.
      evaluation: how to compare; by default four arms on five seeds.
      learning_rates: training episodes start with a rate drawn log-uniformly between these two; by
        default the one that `build_model` compiles with.
      seed: training episode e has the seed `seed + e`, evaluations have later ones.
      progress: where to show progress; by default nowhere.
      engine: what plays the episodes; by default this process, one by one.
      save_every_epochs: epochs after which a training in this process is saved so that it can be
        gone on with; 0 for as often as takes at most a hundredth of its time, None for never.

    Returns:
      The report; `evaluation.json` in the directory holds the same rows.

    Raises:
      ValueError: an argument is out of range, or the learner has no directory.
      Stopped: the process got SIGTERM; everything finished is written.
      OSError: the disk is full; everything finished is written.
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
    if save_every_epochs is not None and save_every_epochs < 0:
        raise ValueError(
            f"save_every_epochs is {save_every_epochs}; expected a number of epochs, 0 for as "
            "often as costs little, or None for never."
        )
    if learning_rates is not None:
        _check_rates("learning_rates", learning_rates)
    progress = progress or Progress()
    team = distribute.current_worker_group()
    if team is not None:
        learner.join(team)
        save_every_epochs = None  # the workers would have to save, and to go on, together
    _write_origin(directory, seed)
    with StopRequests() as stop, progress:
        midway = FitCheckpoint(directory, save_every_epochs, stop.hold)
        run = _Run(
            EpisodeRunner(task, learner, seed, midway),
            stop,
            engine or LocalExecutor(),
            progress,
            seed,
        )
        run.learn(episodes, learning_rates)
        run.evaluate(evaluation)
    if team is not None and not team.is_chief:
        return RunReport([], directory, learner.episodes)
    rows = statistics.compare(
        run_log.read(directory, "episodes"), run_log.read(directory, "epochs")
    )
    _write_json(directory / "evaluation.json", rows)
    return RunReport(rows, directory, learner.episodes)


@dataclass(frozen=True)
class _Run:
    """What learning and evaluating share."""

    stage: EpisodeRunner
    stop: StopRequests
    engine: Executor
    progress: Progress
    seed: int

    def learn(self, episodes: int, learning_rates: tuple[float, float] | None) -> None:
        """Plays and learns until there are so many episodes."""
        learner, epochs = self.stage.learner, self.stage.task.epochs
        self.progress.start("learning", learner.episodes, episodes, epochs)
        if not self.engine.is_here and learner.episodes < episodes:
            build_agent(learner, self.stage, self.seed)
        while learner.episodes < episodes:
            size = 1 if self.engine.is_here else self.engine.workers
            numbers = range(learner.episodes, min(learner.episodes + size, episodes))
            plays = [self._training(number, learning_rates) for number in numbers]
            if self.engine.is_here:
                self.stage.play(plays[0], self.progress)
                self.progress.advance()
            else:
                self._learn_from_round(plays)

    def _learn_from_round(self, plays: list[EpisodeSpec]) -> None:
        learner = self.stage.learner
        calls = [
            call_for(play, self.stage.task, learner, self.seed, stream=play.number + 1)
            for play in plays
        ]
        for played in self.engine.map(calls):
            with self.stop.hold():
                learn_from_result(learner, played)
            self.progress.advance()
        # Once a round, so that a run that goes on begins the next round where this one ended.
        with self.stop.hold():
            learner.save()

    def _training(self, number: int, learning_rates: tuple[float, float] | None) -> EpisodeSpec:
        seed, rate = self.seed + number, None
        if learning_rates is not None:
            low, high = np.log(learning_rates)
            rate = float(np.exp(np.random.default_rng([seed, 1]).uniform(low, high)))
        return EpisodeSpec("qan", "train", number, seed, rate)

    def evaluate(self, evaluation: Evaluation) -> None:
        """Interleaves arms, rates and seeds, so that no arm has the machine to itself."""
        learner, task = self.stage.learner, self.stage.task
        rates: list[float | None] = list(evaluation.learning_rates) or [None]
        pairs = [(number, rate) for number in range(evaluation.seeds) for rate in rates]
        plays = [
            EpisodeSpec(arm, "evaluate", place, FIRST_UNSEEN_SEED + self.seed + number, rate)
            for place, (number, rate) in enumerate(pairs)
            for arm in evaluation.arms
        ]
        left = [
            play for play in plays if not learner.has_finished(play.arm, play.phase, play.number)
        ]
        self.progress.start("evaluating", len(plays) - len(left), len(plays), task.epochs)
        if self.engine.is_here:
            for play in left:
                self.stage.play(play, self.progress)
                self.progress.advance()
            return
        if not left:
            return
        build_agent(learner, self.stage, self.seed)
        calls = [call_for(play, task, learner, self.seed) for play in left]
        steps = dict.fromkeys(evaluation.arms, 0) | {"qan": learner.state.steps}
        for play, played in zip(left, self.engine.map(calls), strict=True):
            with self.stop.hold():
                steps[play.arm] = write_records(learner, played, steps[play.arm])
            self.progress.advance()


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
    files.replace(path, json.dumps(run_log.plain(value), indent=1))
