"""Progress bars for episodes and epochs; silent where nobody watches."""

from __future__ import annotations

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
        self._bars.reset(self._epochs)
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, _: self._bars.update(self._epochs, completed=epoch + 1)
        )


def for_terminal() -> Progress:
    """Return bars on a terminal, nothing elsewhere."""
    from rich.console import Console

    return Bars() if Console().is_terminal else Progress()
