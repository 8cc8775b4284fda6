"""Runs of many episodes: learning, evaluation, records, checkpoints, resuming."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan import distribute
from keras_qan.experiments import baselines, origin, statistics
from keras_qan.experiments.episode import (
    EpisodeRunner,
    EpisodeSpec,
    learn_from_result,
    make_call,
    write_records,
)
from keras_qan.experiments.fit_checkpoint import FitCheckpoint
from keras_qan.experiments.task import Task
from keras_qan.parallel import Executor, LocalExecutor
from keras_qan.qan.callback import QANCallback
from keras_qan.storage import files, run_log
from keras_qan.storage.signals import Stopped, StopRequests
from keras_qan.utils.progress import Progress
from keras_qan.utils.validation import check_integer

__all__ = ["Evaluation", "RunReport", "Stopped", "Task", "run_episodes"]


#: Seeds of evaluations start here; training episodes' seeds stay below.
FIRST_UNSEEN_SEED = 1_000_000


@dataclass(frozen=True)
class Evaluation:
    """Comparison of the learned policy with others.

    Attributes:
      arms: of the comparison, from `keras_qan.experiments.baselines.NAMES`. Defaults to four.
      seeds: number of unseen seeds that each arm is trained with; the same for all. Defaults to 5.
      learning_rates: the initial rates. Defaults to the one that `build_model` compiles with.
    """

    arms: Sequence[str] = ("qan", "random", "constant", "cosine")
    seeds: int = 5
    learning_rates: Sequence[float] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Raise ValueError for unknown arms, no seeds, or rates out of range."""
        baselines.check_names(self.arms)
        check_integer("seeds", self.seeds, 1)
        _check_rates("learning_rates", self.learning_rates)


@dataclass(frozen=True)
class RunReport:
    """Outcome of a run.

    Attributes:
      rows: the table, as `statistics.compare` gives it; of several workers, the chief has it.
      directory: of the run.
      episodes: training episodes in all.
    """

    rows: list[dict[str, Any]]
    directory: Path
    episodes: int

    def __str__(self) -> str:
        """Return a line for each initial rate and arm, and where the run is."""
        lines = [
            f"from {row['initial_learning_rate']:.4g}, {row['arm']}: log validation loss "
            f"{row['log_val_loss']:.2f} ({row['interval'][0]:.2f} … {row['interval'][1]:.2f}), "
            f"{row['seeds']} seeds"
            for row in self.rows
        ]
        return "\n".join([*lines, f"{self.episodes} training episodes; run: {self.directory}"])


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
    """Let QAN learn over episodes, then compare its policy with other arms.

    The policy is evaluated greedily (ε = 0, frozen), on seeds that no training episode had, and
    each arm starts from the same weights and sees the same batches in the same order. What the
    directory already holds is not done again: a run that was killed is resumed, and ends as it
    would have, to the last bit on one CPU.

    With N workers, episodes are run N at a time with the policy that there is when a round begins,
    and learned from in their order: the same for the same N, another run than one by one. The
    evaluation is the same for any N.

    Args:
      task: the training; with several workers it says its `source`.
      learner: the callback that learns; it must have a directory.
      episodes: training episodes in all, at least 0.
      evaluation: the comparison. Defaults to four arms on five seeds.
      learning_rates: training episodes start with a rate drawn log-uniformly between these two.
        Defaults to the one that `build_model` compiles with.
      seed: training episode e has the seed `seed + e`, evaluations have later ones. Defaults to 0.
      progress: the display of progress. Defaults to none.
      engine: the executor of the episodes. Defaults to this process.
      save_every_epochs: epochs between saves of a training that is not over; 0 for as often as
        takes at most a hundredth of its time; None for never. Trainings that workers run are not
        saved. Defaults to 0.

    Returns:
      The report; `evaluation.json` in the directory holds the same rows.

    Raises:
      ValueError: an argument is out of range, or the learner has no directory.
      Stopped: the process got SIGTERM; everything finished is written.
      OSError: the disk is full; everything finished is written.
      WorkerLostError: another worker of a multi-worker training is gone; everything finished is
        written.
    """
    evaluation = evaluation or Evaluation()
    directory = learner.directory
    if directory is None:
        raise ValueError(
            "run_episodes got a QANCallback without a directory, so the run could not be kept; "
            "write QANCallback('runs/mine')."
        )
    check_integer("episodes", episodes, 0)
    check_integer("seed", seed, 0, FIRST_UNSEEN_SEED // 2 - 1)
    if save_every_epochs is not None:
        check_integer("save_every_epochs", save_every_epochs, 0, hint="None is never.")
    if learning_rates is not None:
        _check_rates("learning_rates", learning_rates)
    progress = progress or Progress()
    workers = distribute.current_worker_group()
    if workers is not None:
        learner.join(workers)
        save_every_epochs = None  # the workers would have to save and resume together
    origin.write(directory, FIRST_UNSEEN_SEED + seed, seed)
    with distribute.lost_worker_is_said(), StopRequests() as stop, progress:
        checkpoint = FitCheckpoint(directory, save_every_epochs, stop.hold)
        runner = EpisodeRunner(task, learner, seed, checkpoint)
        run = _Run(runner, stop, engine or LocalExecutor(), progress, seed)
        run.learn(episodes, learning_rates)
        run.evaluate(evaluation)
    if workers is not None and not workers.is_chief:
        return RunReport([], directory, learner.episodes)
    rows = statistics.compare(
        run_log.read(directory, "episodes"), run_log.read(directory, "epochs")
    )
    _write_json(directory / "evaluation.json", rows)
    return RunReport(rows, directory, learner.episodes)


@dataclass(frozen=True)
class _Run:
    """Learning and evaluating, here or in workers."""

    runner: EpisodeRunner
    stop: StopRequests
    executor: Executor
    progress: Progress
    seed: int

    def learn(self, episodes: int, learning_rates: tuple[float, float] | None) -> None:
        """Run episodes and learn from them until there are so many."""
        learner, epochs = self.runner.learner, self.runner.task.epochs
        self.progress.start("learning", learner.episodes, episodes, epochs)
        if not self.executor.is_here and learner.episodes < episodes:
            self.runner.build_agent()
        while learner.episodes < episodes:
            size = 1 if self.executor.is_here else self.executor.workers
            numbers = range(learner.episodes, min(learner.episodes + size, episodes))
            specs = [self._draw_spec(number, learning_rates) for number in numbers]
            if self.executor.is_here:
                self.runner.run(specs[0], self.progress)
                self.progress.advance()
            else:
                self._learn_from_round(specs)

    def _learn_from_round(self, specs: list[EpisodeSpec]) -> None:
        learner = self.runner.learner
        calls = [
            make_call(spec, self.runner.task, learner, self.seed, stream=spec.number + 1)
            for spec in specs
        ]
        for result in self.executor.map(calls):
            with self.stop.hold():
                learn_from_result(learner, result)
            self.progress.advance()
        # Once a round, so that a run that is resumed begins the next round where this one ended.
        with self.stop.hold():
            learner.save()

    def _draw_spec(self, number: int, learning_rates: tuple[float, float] | None) -> EpisodeSpec:
        seed, rate = self.seed + number, None
        if learning_rates is not None:
            low, high = np.log(learning_rates)
            rate = float(np.exp(np.random.default_rng([seed, 1]).uniform(low, high)))
        return EpisodeSpec("qan", "train", number, seed, rate)

    def evaluate(self, evaluation: Evaluation) -> None:
        """Interleave arms, rates and seeds, so that no arm has the machine to itself."""
        learner, task = self.runner.learner, self.runner.task
        rates: list[float | None] = list(evaluation.learning_rates) or [None]
        pairs = [(number, rate) for number in range(evaluation.seeds) for rate in rates]
        specs = [
            EpisodeSpec(arm, "evaluate", place, FIRST_UNSEEN_SEED + self.seed + number, rate)
            for place, (number, rate) in enumerate(pairs)
            for arm in evaluation.arms
        ]
        left = [
            spec for spec in specs if not learner.has_finished(spec.arm, spec.phase, spec.number)
        ]
        self.progress.start("evaluating", len(specs) - len(left), len(specs), task.epochs)
        if self.executor.is_here:
            for spec in left:
                self.runner.run(spec, self.progress)
                self.progress.advance()
            return
        if not left:
            return
        self.runner.build_agent()
        calls = [make_call(spec, task, learner, self.seed) for spec in left]
        steps = dict.fromkeys(evaluation.arms, 0) | {"qan": learner.state.steps}
        for spec, result in zip(left, self.executor.map(calls), strict=True):
            with self.stop.hold():
                steps[spec.arm] = write_records(learner, result, steps[spec.arm])
            self.progress.advance()


def _check_rates(name: str, rates: Sequence[float]) -> None:
    if any(not (rate > 0.0 and math.isfinite(rate)) for rate in rates):
        raise ValueError(f"{name} is {tuple(rates)}; expected positive, finite learning rates.")
    if list(rates) != sorted(rates):
        raise ValueError(f"{name} is {tuple(rates)}; expected them in ascending order.")


def _write_json(path: Path, value: Any) -> None:
    files.replace(path, json.dumps(files.replace_non_finite(value), indent=1))
