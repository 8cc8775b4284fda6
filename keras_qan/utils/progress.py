"""Progress of episodes and epochs: bars on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import keras


class Progress:
    """Progress that nobody watches."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: there are no bars."""

    def start(self, title: str, done: int, total: int, epochs: int) -> None:
        """Begin a phase of `total` episodes, `done` of which are over, of `epochs` each, or 0."""

    def advance(self) -> None:
        """Count an episode that is over."""

    def epochs(self) -> keras.callbacks.Callback:
        """Return a callback that follows the epochs of one `fit`."""
        return keras.callbacks.Callback()


class Bars(Progress):
    """Two rich progress bars: episodes, and the epochs of the present one."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bars: Any = RichProgress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            transient=True,
        )
        self._episodes: Any = None
        self._epochs: Any = None

    def __enter__(self) -> Progress:
        self._bars.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the bars away."""
        self._bars.__exit__(kind, error, trace)

    def start(self, title: str, done: int, total: int, epochs: int) -> None:
        """Begin a phase."""
        for bar in (self._episodes, self._epochs):
            if bar is not None:
                self._bars.remove_task(bar)
        self._episodes = self._bars.add_task(title, completed=done, total=total)
        self._epochs = self._bars.add_task("epochs", total=epochs) if epochs else None

    def advance(self) -> None:
        """Move the episodes' bar."""
        self._bars.advance(self._episodes)

    def epochs(self) -> keras.callbacks.Callback:
        """Return a callback that moves the epochs' bar."""
        if self._epochs is None:
            return keras.callbacks.Callback()
        self._bars.reset(self._epochs)
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, _: self._bars.update(self._epochs, completed=epoch + 1)
        )


class Lines(Progress):
    """Lines of text, no more than one in so many seconds, for files and logs.

    Args:
      seconds: between two lines, at least.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = self._last = time.monotonic()
        self._title, self._done, self._total, self._num_epochs = "", 0, 0, 0

    def start(self, title: str, done: int, total: int, epochs: int) -> None:
        """Begin a phase, with a line."""
        self._title, self._done, self._total, self._num_epochs = title, done, total, epochs
        self._print("")

    def advance(self) -> None:
        """Count an episode; a line where one is due, and after the last."""
        self._done += 1
        if self._done >= self._total or self._is_due():
            self._print("")

    def epochs(self) -> keras.callbacks.Callback:
        """Return a callback that prints where a line is due in the middle of a `fit`."""
        epoch = 0

        def begin_epoch(number: int, logs: Any = None) -> None:  # noqa: ARG001
            nonlocal epoch
            epoch = number + 1

        def end_batch(batch: int, logs: Any = None) -> None:  # noqa: ARG001
            if self._is_due():
                total = f" of {self._num_epochs}" if self._num_epochs else ""
                self._print(f", epoch {epoch}{total}")

        return keras.callbacks.LambdaCallback(
            on_epoch_begin=begin_epoch, on_train_batch_end=end_batch
        )

    def _is_due(self) -> bool:
        return time.monotonic() - self._last >= self._seconds

    def _print(self, more: str) -> None:
        self._last = time.monotonic()
        seconds = self._last - self._began
        print(f"{self._title}: {self._done} of {self._total}{more}, {seconds:.0f} s", flush=True)


def for_terminal(seconds: float = 20.0) -> Progress:
    """Return bars on a terminal, lines elsewhere.

    Args:
      seconds: between two lines, at least. Defaults to 20.
    """
    from rich.console import Console

    return Bars() if Console().is_terminal else Lines(seconds)
