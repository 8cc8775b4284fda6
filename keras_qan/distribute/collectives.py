"""Collective operations of the workers of one training."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


class WorkerGroup:
    """The workers that train one model in step, under a multi-worker strategy.

    The constructor and every method are collective: all workers have to call them, in the same
    order, or all wait.

    Args:
      strategy: the strategy that they share.

    Attributes:
      size: number of workers.
      index: number of this worker; the chief is 0.
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
        # TensorFlow gathers in the order of the devices' names, which is not documented.
        found = np.argsort(self.gather(tf.constant(self.index)).numpy())
        if (found != np.arange(self.size)).any():
            self._order = found
            self._compiled.clear()

    @property
    def is_chief(self) -> bool:
        """True if this process holds the agent and writes the run directory."""
        return self.index == 0

    @functools.cached_property
    def scratch(self) -> Path:
        """A temporary folder of this process, for files that only the chief keeps."""
        self._scratch = tempfile.TemporaryDirectory(prefix="keras_qan_worker_")
        return Path(self._scratch.name)

    def gather(self, values: tf.Tensor) -> tf.Tensor:
        """Gather the values of all workers.

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
        """Return each worker's numbers, float64 `[W, ...]`, the chief's first.

        Args:
          numbers: of this worker, `[...]`; of the same shape on each.
        """
        return np.asarray(self.gather(tf.constant(numbers, tf.float64)).numpy())

    def broadcast(self, value: Any) -> Any:
        """Return the chief's value on every worker.

        Args:
          value: plain JSON data; ignored on other workers than the chief.
        """
        text = json.dumps(value).encode() if self.is_chief else b""
        length = int(self.gather(tf.constant(len(text)))[0])
        # Padded to whole pages, so that few lengths are compiled.
        length += -length % 4096
        padded = tf.constant(list(text.ljust(length, b" ")), tf.int32)
        chiefs = self.gather(padded)[0].numpy()
        return json.loads(bytes(chiefs.astype("uint8")))

    def check_equal(self, name: str, *numbers: float) -> None:
        """Check that all workers hold the same numbers.

        Args:
          name: name of the numbers, for the message.
          *numbers: this worker's.

        Raises:
          RuntimeError: on every worker, where those of one differ from the chief's.
        """
        found = self.gather(tf.constant(numbers, tf.float64)).numpy()
        for index, row in enumerate(found):
            if row.tobytes() != found[0].tobytes():
                raise RuntimeError(
                    f"Worker {index} has {name} = {row.tolist()} and the chief has "
                    f"{found[0].tolist()}; expected the same, as they train one model. Give every "
                    "worker the same code, seed, data and callbacks, and start again from the "
                    "last checkpoint."
                )


_current: WorkerGroup | None = None


def worker_group_of(strategy: tf.distribute.Strategy) -> WorkerGroup | None:
    """Return the workers of a strategy; None if there is one process.

    Args:
      strategy: any of TensorFlow's.
    """
    global _current
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None
    if _current is None or _current.strategy is not strategy:
        group = WorkerGroup(strategy)
        if group.size == 1:
            return None
        # TensorFlow lets a process join one cluster in its life.
        _current = group
    return _current


def current_worker_group() -> WorkerGroup | None:
    """Return the workers that this process has joined, if any."""
    return _current


#: How TensorFlow's error begins where a meeting of the workers cannot take place.
_ABORTED = "Collective ops is aborted by: "


class WorkerLostError(RuntimeError):
    """Another worker of the training is gone, and the rest cannot continue."""


@contextlib.contextmanager
def lost_worker_is_said() -> Iterator[None]:
    """Say what to do where TensorFlow finds another worker gone.

    Returns:
      A context manager, for all that the workers do together.

    Raises:
      WorkerLostError: so it is; TensorFlow's own error is its cause.
    """
    try:
        yield
    except tf.errors.OpError as error:
        _, found, reason = str(error).partition(_ABORTED)
        reason = reason.partition("\n")[0].rstrip(":")
        if _current is None or not found:
            raise
        raise WorkerLostError(
            f"Worker {_current.index} has lost another one of the {_current.size} that train one "
            f"model (TensorFlow says: {reason}); expected all until the "
            "end. The rest cannot continue without it: stop them, and start all again with the "
            "same directory (--resume); what was finished is kept."
        ) from error


def worker_directory(directory: Path) -> Path:
    """Return the directory itself on the chief, and a temporary one on other workers.

    Several workers run the same program, and only the chief writes the run directory.

    Args:
      directory: of the run.
    """
    group = current_worker_group()
    if group is None or group.is_chief or directory.is_relative_to(group.scratch):
        return directory
    return Path(tempfile.mkdtemp(dir=group.scratch))
