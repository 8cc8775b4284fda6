"""Progress of episodes and epochs: bars on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

import keras

from keras_qan.utils.validation import check


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

    def say(self, text: str, is_decision: bool = True) -> None:
        """Tell what was decided, or what an episode came to.

        Args:
          text: a line.
          is_decision: False for a line that only `verbose=2` shows. Defaults to True.
        """

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

    def say(self, text: str, is_decision: bool = True) -> None:
        """Print a decision above the bars."""
        if is_decision:
            self._bars.console.print(text, markup=False, highlight=False)

    def epochs(self) -> keras.callbacks.Callback:
        """Return a callback that moves the epochs' bar."""
        if self._epochs is None:
            return keras.callbacks.Callback()
        self._bars.reset(self._epochs)
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, _: self._bars.update(self._epochs, completed=epoch + 1)
        )


class Lines(Progress):
    """Lines of text, for files and logs: one when a phase begins and ends, and after a silence.

    Args:
      seconds: the longest silence within a `with` block, whatever is computed meanwhile.
      each: whether what every episode came to is told, in place of a count of them. Defaults to
        False.
    """

    def __init__(self, seconds: float, each: bool = False) -> None:
        self._seconds, self._each = seconds, each
        self._began = self._last = time.monotonic()
        self._title, self._done, self._total, self._num_epochs = "", 0, 0, 0
        self._epoch = 0
        self._over = threading.Event()

    def __enter__(self) -> Progress:
        self._over.clear()
        self._began = self._last = time.monotonic()
        threading.Thread(target=self._break_silence, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the lines."""
        self._over.set()

    def start(self, title: str, done: int, total: int, epochs: int) -> None:
        """Begin a phase, with a line."""
        self._title, self._done, self._total, self._num_epochs = title, done, total, epochs
        self._epoch = 0
        self._print_state()

    def advance(self) -> None:
        """Count an episode; a line where one is due, and after the last."""
        self._done += 1
        self._epoch = 0
        is_last = self._done >= self._total
        if not self._each and (is_last or self._silence() >= self._seconds):
            self._print_state()

    def say(self, text: str, is_decision: bool = True) -> None:
        """Print a line."""
        if is_decision or self._each:
            self._print(text)

    def epochs(self) -> keras.callbacks.Callback:
        """Return a callback that notes the epoch, for the lines in the middle of a `fit`."""

        def begin_epoch(number: int, logs: Any = None) -> None:  # noqa: ARG001
            self._epoch = number + 1

        return keras.callbacks.LambdaCallback(on_epoch_begin=begin_epoch)

    def _break_silence(self) -> None:
        while not self._over.wait(max(self._seconds - self._silence(), 0.01)):
            if self._title and self._silence() >= self._seconds:
                self._print_state()

    def _silence(self) -> float:
        return time.monotonic() - self._last

    def _print_state(self) -> None:
        epoch = f", epoch {self._epoch}" if self._epoch else ""
        total = f" of {self._num_epochs}" if epoch and self._num_epochs else ""
        seconds = time.monotonic() - self._began
        self._print(f"{self._title}: {self._done} of {self._total}{epoch}{total}, {seconds:.0f} s")

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        print(text, flush=True)


def for_terminal(seconds: float = 20.0) -> Progress:
    """Return bars on a terminal, lines elsewhere.

    Args:
      seconds: the longest silence of the lines. Defaults to 20.
    """
    from rich.console import Console

    return Bars() if Console().is_terminal else Lines(seconds)


def for_verbosity(verbose: int | str) -> Progress:
    """Return the progress of Keras's `verbose`.

    Args:
      verbose: 0 for none; 1 or "auto" for bars on a terminal, lines elsewhere; 2 for one line an
        episode.

    Raises:
      ValueError: it is something else.
    """
    check(verbose in (0, 1, 2, "auto"), "verbose", verbose, "0, 1, 2 or 'auto'")
    if verbose == 0:
        return Progress()
    return Lines(20.0, each=True) if verbose == 2 else for_terminal()
