"""The gain of workers, and the cost of losing nothing.

    python benchmarks/engine/run.py --part=workers
    python benchmarks/engine/run.py --part=saving

`workers`: QAN learns on digits with one Ray worker and with two, in turns of some episodes each, so
that both have the machine as others leave it. Agent learning is included, starting workers and
compiling are not. `saving`: the share of a run's time that goes into records and checkpoints.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from absl import app, flags

from keras_qan import parallel
from keras_qan.experiments.episode import EpisodeRunner
from keras_qan.experiments.fit_checkpoint import FitCheckpoint
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.experiments.runner import Task, _Run
from keras_qan.parallel.ray import _connect
from keras_qan.storage import checkpoint, run_log
from keras_qan.storage.signals import StopRequests
from keras_qan.utils.progress import Progress

RESULTS = Path(__file__).parent


def workers(turns: int, episodes: int, epochs: int) -> dict[str, Any]:
    """Episodes a second of one worker and of two, turn by turn."""
    import ray

    experiment = LearningRateExperiment(epochs=epochs, threads=1, engine="ray")
    task = experiment.task()
    _connect(ray, 3, "")  # one cluster for both
    rows = []
    with tempfile.TemporaryDirectory() as name:
        engines = {n: parallel.make_executor("ray", n, threads=1) for n in (1, 2)}
        runs = {n: _run(task, experiment, Path(name) / str(n), each) for n, each in engines.items()}
        done = dict.fromkeys(engines, 0)

        def play(number: int, count: int) -> float:
            done[number] += count
            started = time.perf_counter()
            runs[number].learn(done[number], None)
            return time.perf_counter() - started

        for number in engines:
            play(number, 2 * number)  # workers start, everything is compiled
        for pid in [os.getpid(), *(pid for each in engines.values() for pid in each.pids)]:
            os.setpriority(os.PRIO_PROCESS, pid, 10)  # others are at work on this machine too
        for turn in range(turns):
            order = (1, 2) if turn % 2 == 0 else (2, 1)
            for number in order:
                cpu, seconds = time.process_time(), play(number, episodes)
                rows.append(
                    {
                        "turn": turn,
                        "workers": number,
                        "episodes_per_second": episodes / seconds,
                        "learner_cpu_seconds_per_episode": (time.process_time() - cpu) / episodes,
                        "load": os.getloadavg()[0],
                    }
                )
                print(rows[-1], flush=True)
        for each in engines.values():
            each.close()
    ray.shutdown()
    speed = {
        n: np.array([row["episodes_per_second"] for row in rows if row["workers"] == n])
        for n in engines
    }
    gains = speed[2] / speed[1]
    return {
        "rows": rows,
        "gain": float(speed[2].mean() / speed[1].mean()),
        "gains": gains.tolist(),
        "median_gain": float(np.median(gains)),
    }


def _run(
    task: Task, experiment: LearningRateExperiment, folder: Path, played_by: parallel.Executor
) -> _Run:
    """A run that only learns."""
    stop = StopRequests()
    runner = EpisodeRunner(task, experiment.learner(folder), 3, FitCheckpoint(folder, 0, stop.hold))
    return _Run(runner, stop, played_by, Progress(), 3)


class _Timed:
    """Adds up the time that calls of a function take."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return self.function(*arguments, **more)
        finally:
            self.seconds += time.perf_counter() - started


def saving(episodes: int, epochs: int) -> dict[str, Any]:
    """The share of the time of a run at its defaults that goes into writing."""
    experiment = LearningRateExperiment(epochs=epochs)
    task = experiment.task()
    with tempfile.TemporaryDirectory() as name:
        run = _run(task, experiment, Path(name) / "run", parallel.LocalExecutor())
        learner = run.runner.learner
        run.learn(1, None)  # compiles
        write, log = _Timed(checkpoint.write_next), _Timed(run_log.RunLog.write)
        checkpoint.write_next = write  # type: ignore[assignment]
        run_log.RunLog.write = lambda self: log(self)  # type: ignore[method-assign]
        started = time.perf_counter()
        run.learn(1 + episodes, None)
        seconds = time.perf_counter() - started
        arrays = learner.agent.arrays()
        rows = learner.agent._replay.capacity  # type: ignore[attr-defined]
        full = {
            n: np.resize(a, (rows, *a.shape[1:])) if n.startswith("replay/") and a.ndim else a
            for n, a in arrays.items()
        }
        one = []
        for _ in range(5):
            began = time.perf_counter()
            write.function(Path(name) / "full", "agent", full, {})
            one.append(time.perf_counter() - began)
    return {
        "episodes": episodes,
        "seconds": seconds,
        "checkpoints": write.seconds,
        "records": log.seconds,
        "share": (write.seconds + log.seconds) / seconds,
        "full_memory_bytes": int(sum(np.asarray(a).nbytes for a in full.values())),
        "full_memory_seconds": float(np.median(one)),
        "full_memory_share": float(np.median(one)) / (seconds / episodes),
    }


def main(arguments: list[str]) -> None:
    """Measures a part and writes it down."""
    del arguments
    given = flags.FLAGS
    if given.part == "workers":
        found = workers(given.turns, given.episodes, given.epochs)
    else:
        found = saving(given.episodes, given.epochs)
    print(json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1))
    (RESULTS / f"{given.part}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_enum("part", "workers", ["workers", "saving"], "what is measured")
    flags.DEFINE_integer("turns", 4, "of each number of workers")
    flags.DEFINE_integer("episodes", 8, "in a turn")
    flags.DEFINE_integer("epochs", 10, "of an episode: the script's default")
    app.run(main)
