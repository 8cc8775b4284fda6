"""Tasks on Ray; nothing else in the package imports it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from keras_qan.parallel.call import Call, format_error
from keras_qan.parallel.worker_pool import WAIT_SECONDS, CallOutcome, WorkerPool

#: Times that a cluster on this machine is started: Ray gives up after half a minute, which is too
#: short where the machine is busy.
_STARTS = 3


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
      ImportError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "engine=ray needs Ray, which is not installed. Install it with "
            "`pip install 'keras-qan[ray]'` (here: pip install -e .[ray]), or use engine=local, "
            "which needs nothing more."
        ) from error
    return ray


class RayExecutor(WorkerPool):
    """Workers that are Ray actors, one CPU each; see `Executor`.

    Args:
      workers: how many, at least 1.
      threads: that TensorFlow uses in each; 0 for as many as there are cores where it runs.
        Defaults to 0.
      address: of a cluster, for example "auto" or "ray://head:10001". Where the process is
        connected to a cluster already, that one is used. Defaults to a cluster of its own on this
        machine, without dashboard and usage reports, which ends with this process.

    Raises:
      ImportError: Ray is not installed.
      ConnectionError: there is no cluster at the address.
      ValueError: a number is out of range, or the cluster has fewer CPUs than workers.
    """

    def __init__(self, workers: int, threads: int = 0, address: str = "") -> None:
        super().__init__(workers)
        self._ray = import_ray()
        self._threads = threads
        self._actor = self._ray.remote(num_cpus=1, max_restarts=0)(_RayWorker)
        self._actors: dict[int, Any] = {}
        self._pids: dict[int, Any] = {}
        self._answers: dict[int, Any] = {}
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _connect(self._ray, workers, address)
        there = self._ray.cluster_resources().get("CPU", 0.0)
        if there < workers:
            self.close()
            raise ValueError(
                f"workers is {workers}, and the Ray cluster has {there:g} CPUs; expected at least "
                "one for each worker. Ask for fewer workers, or add machines."
            )

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers that were started, each on its own machine."""
        return [self._ray.get(pid) for pid in self._pids.values()]

    @property
    def running(self) -> list[int]:
        """Numbers of the workers that were started and not stopped."""
        return list(self._actors)

    def start_worker(self, worker: int) -> None:
        """Start an actor."""
        self._actors[worker] = self._actor.remote(self._threads)
        self._pids[worker] = self._actors[worker].pid.remote()

    def stop_worker(self, worker: int) -> str:
        """Kill an actor with its task."""
        self._answers.pop(worker, None)
        self._pids.pop(worker, None)
        self._ray.kill(self._actors.pop(worker))
        return f"actor {worker} was killed"

    def submit(self, worker: int, call: Call) -> None:
        """Give a task to an actor."""
        self._answers[worker] = self._actors[worker].perform.remote(call.function, call.arguments)

    def wait(self) -> list[tuple[int, CallOutcome]]:
        """Wait until some actor's task is over, or for `WAIT_SECONDS`."""
        workers = {answer: number for number, answer in self._answers.items()}
        ready, _ = self._ray.wait(list(workers), num_returns=1, timeout=WAIT_SECONDS)
        ended = []
        for answer in ready:
            number = workers[answer]
            del self._answers[number]
            try:
                ended.append((number, CallOutcome(*self._ray.get(answer))))
            except self._ray.exceptions.RayError as error:
                self.stop_worker(number)
                ended.append((number, CallOutcome("died", str(error).strip().splitlines()[0])))
        return ended

    def close(self) -> None:
        """Stop all workers, and the cluster if it was started here."""
        super().close()
        if self._is_ours:
            self._ray.shutdown()
            self._is_ours = False


class _RayWorker:
    """Actor that runs tasks."""

    def __init__(self, threads: int) -> None:
        from keras_qan.parallel.worker_main import use_threads

        use_threads(threads)

    def pid(self) -> int:
        """Return the number of its process."""
        return os.getpid()

    def perform(self, function: str, arguments: dict[str, Any]) -> tuple[str, Any]:
        """Run a task and return ("done", result) or ("raised", account)."""
        try:
            return "done", Call(function, arguments).perform()
        except Exception as error:
            return "raised", format_error(error)


def _connect(ray: Any, workers: int, address: str) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    # The processes of a cluster of one's own inherit these; this one has them only meanwhile.
    paths = os.pathsep.join(filter(None, sys.path))
    for attempt in range(1, _STARTS + 1):
        try:
            if address:
                ray.init(address=address, **quiet)
                return
            with _environment(RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=paths):
                ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
            return
        except Exception as error:  # Ray raises whatever comes, a bare Exception where it is slow
            ray.shutdown()
            if address or attempt == _STARTS:
                raise ConnectionError(
                    f"Ray could not be reached with ray_address={address!r}: {error}. Start a "
                    "cluster with `ray start --head` and give its address, or leave ray_address "
                    "out for one on this machine; on a machine that is busy, try again."
                ) from error


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
