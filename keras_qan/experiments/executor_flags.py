"""Flags that several experiments share: the executor of their trainings, and its threads."""

from __future__ import annotations

from dataclasses import dataclass

from keras_qan.experiments.flags import flag
from keras_qan.parallel import EXECUTORS, Executor, make_executor, set_threads
from keras_qan.utils.validation import check, check_integer


@dataclass(frozen=True)
class ExecutorFlags:
    """Fields that say where trainings are run.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    engine: str = flag(
        "what runs the trainings: local (this machine) or ray (pip install -e .[ray])", "local"
    )
    workers: int = flag("trainings run at once, each by a process of its own if above 1", 1)
    ray_address: str = flag("of a Ray cluster; by default one of its own on this machine", "")

    def __post_init__(self) -> None:
        check_integer("workers", self.workers, 1)
        check(
            self.engine in EXECUTORS and (not self.ray_address or self.engine == "ray"),
            "engine",
            self.engine,
            f"one of {', '.join(EXECUTORS)}, and an address with ray alone",
            hint=f"ray_address is {self.ray_address!r}.",
        )

    def make_executor(self) -> Executor:
        """Return the executor; use it in a `with` statement.

        Raises:
          ImportError: Ray is asked for and not installed.
        """
        return make_executor(self.engine, self.workers, self.ray_address)


@dataclass(frozen=True)
class ThreadFlags:
    """The field that says how many threads TensorFlow uses.

    Raises:
      ValueError: it is out of range.
    """

    threads: int = flag(
        "CPU threads of each training; 0 for one for each core. Results agree to the last bit for "
        "the same number only",
        0,
    )

    def __post_init__(self) -> None:
        check_integer("threads", self.threads, 0)

    def use_threads(self) -> None:
        """Set TensorFlow's threads, if so many are asked for; before anything else uses it.

        Raises:
          ValueError: TensorFlow has begun with another number.
        """
        set_threads(self.threads)
