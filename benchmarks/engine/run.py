"""The gain of workers, and the cost of losing nothing.

    python benchmarks/engine/run.py --part=workers --pin
    python benchmarks/engine/run.py --part=bare --pin
    python benchmarks/engine/run.py --part=policy
    python benchmarks/engine/run.py --part=saving

`workers`: QAN learns on digits with one Ray worker and with two, in turns of some episodes each, so
that both have the machine as others leave it. Agent learning is included, starting workers and
compiling are not. `bare`, its control: the same trainings by `fit` alone in one process and in two,
which are asked once a turn. `--pin` binds each worker to a core of its own; the process that learns
may use all. `policy`: the populations of a policy's training in this process and on two local
workers, the same ones in each turn; and a fit of the network, in which workers wait. `saving`: the
share of a run's time that goes into records and checkpoints.
"""

from __future__ import annotations

import functools
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
import tensorflow as tf
from absl import app, flags

from keras_qan import parallel
from keras_qan.experiments.episode import EpisodeRunner
from keras_qan.experiments.fit_checkpoint import FitCheckpoint
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.experiments.model_factory import ModelFactory
from keras_qan.experiments.runner import Task, _Run
from keras_qan.parallel import Call
from keras_qan.parallel.processes import ProcessExecutor
from keras_qan.parallel.ray import _connect
from keras_qan.pretraining import train as policy_training
from keras_qan.pretraining.populations import calls_for, make_training, populations
from keras_qan.pretraining.tasks import TRAINING
from keras_qan.storage import checkpoint, run_log
from keras_qan.storage.signals import StopRequests
from keras_qan.utils.progress import Progress

RESULTS = Path(__file__).parent


def workers(turns: int, episodes: int, epochs: int, pin: bool, nice: int) -> dict[str, Any]:
    """Episodes a second of one worker and of two, turn by turn."""
    import ray

    experiment = LearningRateExperiment(epochs=epochs, threads=1, engine="ray")
    task = experiment.task()
    tf.config.list_logical_devices()  # this process begins before the line that is for its workers
    os.environ["TF_NUM_INTEROP_THREADS"] = "1" if pin else "0"
    _connect(ray, 3, "")  # one cluster for both
    with tempfile.TemporaryDirectory() as name:
        engines = {n: parallel.make_executor("ray", n, threads=1) for n in (1, 2)}
        runs = {n: _run(task, experiment, Path(name) / str(n), each) for n, each in engines.items()}
        done = dict.fromkeys(engines, 0)

        def play(number: int, count: int) -> None:
            done[number] += count
            runs[number].learn(done[number], None)

        rows = _in_turns(engines, play, turns, episodes, pin, nice)
        for each in engines.values():
            each.close()
    ray.shutdown()
    return _gains(rows)


def bare(turns: int, episodes: int, epochs: int, pin: bool) -> dict[str, Any]:
    """Trainings a second of one process and of two that do nothing else, turn by turn."""
    os.environ["TF_NUM_INTEROP_THREADS"] = "1" if pin else "0"
    engines = {n: ProcessExecutor(n, threads=1) for n in (1, 2)}

    def play(number: int, count: int) -> None:
        share = {"count": count // number, "epochs": epochs}
        list(engines[number].map([Call("benchmarks.engine.run:train", share)] * number))

    rows = _in_turns(engines, play, turns, episodes, pin, 0)
    for each in engines.values():
        each.close()
    return _gains(rows)


def policy(turns: int, rounds: int) -> dict[str, Any]:
    """Populations a second in this process and on two workers, turn by turn."""
    training = make_training(0, TRAINING[::4])  # one of each source
    engines = {1: parallel.LocalExecutor(), 2: parallel.make_executor("local", 2)}

    def play(number: int) -> list[Any]:
        return list(populations(training, rounds, engines[number]))

    play(1)  # compiles
    for call in calls_for(training, rounds):
        list(engines[2].map([call, call]))  # one for each worker
    rows, found = [], []
    for turn in range(turns):
        for number in (1, 2) if turn % 2 == 0 else (2, 1):
            pids = getattr(engines[number], "pids", [])
            cpu = [_busy_seconds(), time.process_time(), *map(_cpu_seconds, pids)]
            started = time.perf_counter()
            found.append(play(number))
            seconds = time.perf_counter() - started
            now = [_busy_seconds(), time.process_time(), *map(_cpu_seconds, pids)]
            machine, *own = np.subtract(now, cpu).tolist()
            rows.append(
                {
                    "turn": turn,
                    "workers": number,
                    "episodes_per_second": rounds / seconds,
                    "cpu_seconds_per_population": sum(own) / rounds,
                    "others_busy_cores": (machine - sum(own)) / seconds,
                }
            )
            print(rows[-1], flush=True)
    engines[2].close()
    are_equal = all(
        np.array_equal(one, other)
        for points in found[1:]
        for point, first in zip(points, found[0], strict=True)
        for one, other in zip(point, first, strict=True)
    )
    for point in found[0]:
        training.add(*point)
    started = time.perf_counter()
    training.fit(policy_training.UPDATES)
    seconds = time.perf_counter() - started
    return _gains(rows) | {"seconds_of_a_fit": seconds, "are_equal": are_equal}


@functools.cache
def _task_and_models(epochs: int) -> tuple[Task, ModelFactory]:
    task = LearningRateExperiment(epochs=epochs, threads=1).task()
    return task, ModelFactory(task.build_model, task.validation)


def train(count: int, epochs: int) -> None:
    """What an episode trains, without QAN; in a process that is left for it."""
    task, models = _task_and_models(epochs)
    for seed in range(count):
        models.build(seed).fit(
            task.train(seed),
            validation_data=task.validation,
            epochs=epochs,
            shuffle=False,
            verbose=0,
        )


def _in_turns(
    engines: dict[int, Any],
    play: Callable[[int, int], None],
    turns: int,
    episodes: int,
    pin: bool,
    nice: int,
) -> list[dict[str, Any]]:
    for number in engines:
        play(number, 2 * number)  # workers start, everything is compiled
    for each in engines.values():
        for core, pid in enumerate(each.pids):
            for thread in map(int, os.listdir(f"/proc/{pid}/task")):
                if pin:
                    os.sched_setaffinity(thread, {core})
                os.setpriority(os.PRIO_PROCESS, thread, nice)
    rows = []
    for turn in range(turns):
        for number in (1, 2) if turn % 2 == 0 else (2, 1):
            cpu = [_busy_seconds(), time.process_time(), *map(_cpu_seconds, engines[number].pids)]
            started = time.perf_counter()
            play(number, episodes)
            seconds = time.perf_counter() - started
            now = [_busy_seconds(), time.process_time(), *map(_cpu_seconds, engines[number].pids)]
            machine, here, *there = np.subtract(now, cpu).tolist()
            rows.append(
                {
                    "turn": turn,
                    "workers": number,
                    "episodes_per_second": episodes / seconds,
                    "learner_cpu_seconds_per_episode": here / episodes,
                    "worker_cpu_seconds_per_episode": sum(there) / episodes,
                    "busy_share_of_a_worker": sum(there) / number / seconds,
                    "busy_cores": machine / seconds,
                    "others_busy_cores": (machine - here - sum(there)) / seconds,
                }
            )
            print(rows[-1], flush=True)
    return rows


def _busy_seconds() -> float:
    """Processor time of everything on this machine."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds(pid: int) -> float:
    """Processor time of all threads of another process."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _gains(rows: list[dict[str, Any]]) -> dict[str, Any]:
    one, two = (
        np.array([row["episodes_per_second"] for row in rows if row["workers"] == n])
        for n in (1, 2)
    )
    return {
        "rows": rows,
        "gain": float(two.mean() / one.mean()),
        "gains": (two / one).tolist(),
        "median_gain": float(np.median(two / one)),
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
        found = workers(given.turns, given.episodes, given.epochs, given.pin, given.nice)
    elif given.part == "bare":
        found = bare(given.turns, given.episodes, given.epochs, given.pin)
    elif given.part == "policy":
        found = policy(given.turns, given.episodes)
    else:
        found = saving(given.episodes, given.epochs)
    print(json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1))
    name = given.name or given.part + ("_pinned" if given.pin else "")
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_enum(
        "part", "workers", ["workers", "bare", "policy", "saving"], "what is measured"
    )
    flags.DEFINE_integer("turns", 4, "of each number of workers")
    flags.DEFINE_integer("episodes", 8, "in a turn; populations, where those are made")
    flags.DEFINE_bool("pin", False, "each worker has a core and TensorFlow one thread for all")
    flags.DEFINE_integer("nice", 0, "of the workers; 0 as the process that learns")
    flags.DEFINE_string("name", "", "of the file of the result; by default the part's")
    flags.DEFINE_integer("epochs", 10, "of an episode: the script's default")
    app.run(main)
