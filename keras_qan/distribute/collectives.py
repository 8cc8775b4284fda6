"""What the workers of one training tell each other: values from all, and the chief's word."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


class WorkerGroup:
    """The workers that train one model in step, under a multi-worker strategy.

    To make one, and every method, is a meeting: all workers have to call it, in the same order, or
    all wait.

    Args:
      strategy: the strategy that they share.

    Attributes:
      size: how many workers.
      index: which of them this process is; the chief is 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        resolver = strategy.cluster_resolver
        workers = resolver.cluster_spec().as_dict()
        self.strategy = strategy
        self.size = sum(len(workers.get(kind, ())) for kind in ("chief", "worker"))
        ahead = len(workers.get("chief", ())) if resolver.task_type == "worker" else 0
        self.index = ahead + int(resolver.task_id)
        self._replicas = strategy.num_replicas_in_sync // self.size
        self._order: np.ndarray | None = None
        self._compiled: dict[Any, Any] = {}
        # TensorFlow orders what it gathers by names of devices, which is nowhere promised.
        found = np.argsort(self.gather(tf.constant(self.index)).numpy())
        if (found != np.arange(self.size)).any():
            self._order = found
            self._compiled.clear()

    @property
    def is_chief(self) -> bool:
        """Whether the agent and the run directory are this process's."""
        return self.index == 0

    @functools.cached_property
    def scratch(self) -> Path:
        """A folder that goes when the process does, for what the chief alone keeps."""
        self._scratch = tempfile.TemporaryDirectory(prefix="keras_qan_worker_")
        return Path(self._scratch.name)

    def gather(self, values: tf.Tensor) -> tf.Tensor:
        """Each worker's values.

        Args:
          values: this worker's, `[...]`, of the same shape on all.

        Returns:
          `[W, ...]`, the chief's first, the same on all.
        """
        if tf.executing_eagerly():
            form = values.dtype, tuple(values.shape)
            if form not in self._compiled:
                self._compiled[form] = tf.function(functools.partial(self.gather), autograph=False)
            return self._compiled[form](values)

        def meet(own: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_gather(own[tf.newaxis], axis=0)

        # [R, ...]: the replicas of a worker are side by side.
        everyone = self.strategy.run(meet, args=(values,))
        workers = self.strategy.experimental_local_results(everyone)[0][:: self._replicas]
        return workers if self._order is None else tf.gather(workers, self._order)

    def gather_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """Return each worker's numbers, float64 `[W, ...]`, the chief's first."""
        return np.asarray(self.gather(tf.constant(numbers, tf.float64)).numpy())

    def from_chief(self, value: Any) -> Any:
        """The chief's value, on every worker.

        Args:
          value: plain JSON data; what others than the chief give is not looked at.
        """
        text = json.dumps(value).encode() if self.is_chief else b""
        length = int(self.gather(tf.constant(len(text)))[0])
        # In whole pages, so that few lengths have to be compiled.
        length += -length % 4096
        padded = tf.constant(list(text.ljust(length, b" ")), tf.int32)
        chiefs = self.gather(padded)[0].numpy()
        return json.loads(bytes(chiefs.astype("uint8")))

    def agree(self, what: str, *numbers: float) -> None:
        """Makes sure that all workers hold the same numbers.

        Args:
          what: what they are, for the message.
          *numbers: this worker's.

        Raises:
          RuntimeError: on every worker, where those of one differ from the chief's.
        """
        found = self.gather(tf.constant(numbers, tf.float64)).numpy()
        for index, row in enumerate(found):
            if row.tobytes() != found[0].tobytes():
                raise RuntimeError(
                    f"Worker {index} has {what} = {row.tolist()} and the chief has "
                    f"{found[0].tolist()}; expected the same, as they train one model. Give every "
                    "worker the same code, seed, data and callbacks, and start again from the "
                    "last checkpoint."
                )


_present: WorkerGroup | None = None


def worker_group_of(strategy: tf.distribute.Strategy) -> WorkerGroup | None:
    """The team behind a strategy; None where one process does it all."""
    global _present
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None
    if _present is None or _present.strategy is not strategy:
        team = WorkerGroup(strategy)
        if team.size == 1:
            return None
        # TensorFlow lets a process join one team in its life.
        _present = team
    return _present


def current_worker_group() -> WorkerGroup | None:
    """The team that this process has joined, if any."""
    return _present


def directory_here(directory: Path) -> Path:
    """Where this process writes what belongs into a directory: there, or nowhere that stays.

    Several workers run the same program, and only the chief writes the run directory; the others
    write aside, into a folder that goes when they do.
    """
    team = current_worker_group()
    if team is None or team.is_chief or directory.is_relative_to(team.scratch):
        return directory
    return Path(tempfile.mkdtemp(dir=team.scratch))
