"""Warnings of other callbacks that set the learning rate in the same `fit`."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_qan.utils.callback_list import running_callback_lists

#: Callbacks of Keras that set the learning rate.
CONFLICTING = ("ReduceLROnPlateau", "LearningRateScheduler")

#: Callbacks of Keras that save the model, and with it the learning rate.
SAVERS = ("ModelCheckpoint", "OrbaxCheckpoint")

#: Callbacks of Keras that write an epoch's logs and change nothing.
REPORTERS = (keras.callbacks.CSVLogger, keras.callbacks.TensorBoard)


class ConflictDetector:
    """Warn of callbacks that set the learning rate too, once in a `fit`.

    Args:
      own: the callback that they are in conflict with.
    """

    def __init__(self, own: keras.callbacks.Callback) -> None:
        self._own = own
        self._has_warned = False

    def check_neighbours(self) -> None:
        """Warn of callbacks beside ours whose kind sets the rate; to be called from a hook.

        Raises:
          ValueError: ours stands among them twice.
        """
        self._has_warned = False
        neighbours = callbacks_of_same_fit()
        if sum(neighbour is self._own for neighbour in neighbours) > 1:
            raise ValueError(
                "The same QANCallback stands twice among the callbacks of this fit; expected it "
                "once. Leave one of them out."
            )
        for neighbour in neighbours:
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


def move_reporters_behind(own: keras.callbacks.Callback) -> None:
    """Move Keras's own reporters behind ours, so that they see what we add to an epoch's logs.

    To be called from `on_train_begin`: every callback before ours has begun by then.
    """
    found = next(running_callback_lists(), None)
    if found is None or own not in found.callbacks:
        return
    neighbours = found.callbacks
    before = neighbours[: neighbours.index(own)]
    reporters = [each for each in before if type(each) in REPORTERS]
    for reporter in reporters:
        neighbours.remove(reporter)
    place = neighbours.index(own) + 1
    neighbours[place:place] = reporters


class AfterSaving(keras.callbacks.Callback):
    """Stands behind the callbacks that save the model at the end of an epoch.

    Args:
      resume: called then.
    """

    def __init__(self, resume: Callable[[], None]) -> None:
        super().__init__()
        self._resume = resume

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """The model is saved."""
        self._resume()


def surround_savers(own: keras.callbacks.Callback, resume: Callable[[], None]) -> bool:
    """Move the checkpoints of Keras right behind ours, and a call of `resume` behind them.

    A file of weights alone holds the optimizer's learning rate as well, and `load_weights` sets it.

    To be called from `on_train_begin`, as `move_reporters_behind`.

    Args:
      own: our callback.
      resume: called at the end of an epoch, after the model was saved.

    Returns:
      Whether there are any.
    """
    found = next(running_callback_lists(), None)
    if found is None or own not in found.callbacks:
        return False
    neighbours = found.callbacks
    place = neighbours.index(own)
    savers = [
        [each for each in part if any(name in class_names(each) for name in SAVERS)]
        for part in (neighbours[:place], neighbours[place:])
    ]
    if not any(savers):
        return False
    for saver in itertools.chain(*savers):
        neighbours.remove(saver)
    place = neighbours.index(own) + 1
    # Those that have begun come first: Keras goes on with the next place.
    neighbours[place:place] = [*savers[0], *savers[1], AfterSaving(resume)]
    return True


def callbacks_of_same_fit() -> list[Any]:
    """Return the callbacks beside ours; Keras tells a callback its model but not its neighbours."""
    found = next(running_callback_lists(), None)
    return [] if found is None else list(found.callbacks)
