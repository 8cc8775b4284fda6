"""Warnings of other callbacks that set the learning rate in the same `fit`."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import keras

#: Callbacks of Keras that set the learning rate.
CONFLICTING = ("ReduceLROnPlateau", "LearningRateScheduler")


class ConflictDetector:
    """Warn of callbacks that set the learning rate too, once in a `fit`.

    Args:
      own: the callback that they are in conflict with.
    """

    def __init__(self, own: keras.callbacks.Callback) -> None:
        self._own = own
        self._has_warned = False

    def check_neighbours(self) -> None:
        """Warn of callbacks beside ours whose kind sets the rate; to be called from a hook."""
        self._has_warned = False
        for neighbour in callbacks_of_same_fit():
            if neighbour is not self._own and type(neighbour) is type(self._own):
                self._warn(
                    "There are two QANCallbacks in the same fit: both set the learning rate, and "
                    "each would take what the other does for its own doing."
                )
            kind = next((name for name in CONFLICTING if name in class_names(neighbour)), None)
            if kind is not None:
                self._warn(
                    f"{kind} sets the learning rate in the same fit as QANCallback: they will "
                    "overrule each other."
                )

    def compare(self, left: float, found: float) -> None:
        """Warn where the rate is not the one that QAN left."""
        if not math.isclose(found, left, rel_tol=1e-5):
            self._warn(
                f"QAN left the learning rate at {left:.6g} and found it at {found:.6g}: another "
                "callback sets it too (ReduceLROnPlateau, LearningRateScheduler?)."
            )

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{what} Leave one of them out.", UserWarning, stacklevel=5)


def class_names(value: object) -> set[str]:
    """Return the names of an object's class and of the classes above it."""
    return {cls.__name__ for cls in type(value).__mro__}


def callbacks_of_same_fit() -> list[Any]:
    """Return the callbacks beside ours; Keras tells a callback its model but not its neighbours."""
    frame = inspect.currentframe()
    while frame is not None:
        container = frame.f_locals.get("self")
        if isinstance(container, keras.callbacks.CallbackList):
            return list(container.callbacks)
        frame = frame.f_back
    return []
