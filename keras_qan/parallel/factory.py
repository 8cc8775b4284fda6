"""Executors by name, and TensorFlow's threads."""

from __future__ import annotations

import os

from keras_qan.parallel.call import Executor
from keras_qan.parallel.local import LocalExecutor
from keras_qan.parallel.processes import ProcessExecutor

#: The names that `make_executor` knows.
EXECUTORS = ("local", "ray")


def make_executor(
    name: str = "local", workers: int = 1, ray_address: str = "", threads: int | None = None
) -> Executor:
    """Return an executor, whose workers start with the first task; use it in a `with` statement.

    Args:
      name: "local" for this machine (one worker is this very process), or "ray". Defaults to
        "local".
      workers: tasks that run at once, at least 1. Defaults to 1.
      ray_address: of a Ray cluster. Defaults to one of its own on this machine.
      threads: that TensorFlow uses in each worker. Results agree to the last bit only among
        workers, and with this process, that have as many. Defaults to as many as in this process.

    Raises:
      ImportError: Ray is asked for and not installed.
      ValueError: there is no such executor, or a number is out of range.
    """
    if name not in EXECUTORS:
        raise ValueError(f"engine is {name!r}; expected one of {', '.join(EXECUTORS)}.")
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1.")
    is_ray = name == "ray"
    if ray_address and not is_ray:
        raise ValueError(f"ray_address is {ray_address!r}; expected it with engine=ray alone.")
    if not is_ray and workers == 1:
        return LocalExecutor()
    if threads is None:
        threads = count_threads()
    if not is_ray:
        return ProcessExecutor(workers, threads)
    from keras_qan.parallel.ray import RayExecutor

    return RayExecutor(workers, threads, ray_address)


def count_threads() -> int:
    """Return how many threads TensorFlow computes an operation with in this process."""
    import tensorflow as tf

    count = tf.config.threading.get_intra_op_parallelism_threads()
    return count or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count


def set_threads(threads: int) -> None:
    """Set the threads that TensorFlow computes with here; before anything else uses it.

    Args:
      threads: how many; 0 to leave them as they are.

    Raises:
      ValueError: TensorFlow has begun with another number.
    """
    import tensorflow as tf

    if threads in (0, tf.config.threading.get_intra_op_parallelism_threads()):
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise ValueError(
            f"threads is {threads}, and TensorFlow has begun already; expected to set it first in "
            "the process. Leave it at 0, or run the script."
        ) from error
