"""The end of a training that comes early: its rate falls by the losses, not by `epochs`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from keras_qan.actions import Cosine
from keras_qan.qan.conflicts import class_names

#: The share of `EarlyStopping`'s patience without a lower loss after which the fall begins.
WAIT = 0.4

#: The length of the fall, as a share of the patience.
FALL = 0.5

#: Epochs that are averaged where validation losses are compared.
WINDOW = 4

#: A validation loss has risen if its logarithm did so by this much, and by so many standard errors.
CLEAR_RISE, CLEAR_ERRORS = 0.1, 5.0

#: The share of the rate that the fall of an overfitted training begins with.
FIRST_SHARE = 0.25

#: The share that the rate falls to.
LOWEST_SHARE = 1e-3


class EarlyFall:
    """A fall of the rate that begins before its calendar says."""

    #: What a step back to the best weights is for.
    reason: str

    def __init__(self) -> None:
        self._epochs_falling = 0

    @property
    def falls_from_here(self) -> bool:
        """True right after the epoch with which the fall begins."""
        return self._epochs_falling == 1

    def end_epoch(self, training_loss: float | None, validation_loss: float | None) -> float:
        """Return the share of the rate for the next epoch.

        Args:
          training_loss: the epoch's.
          validation_loss: the epoch's; None where it was not validated.
        """
        raise NotImplementedError


class EarlyEnd(EarlyFall):
    """The fall of the rate in a `fit` that `EarlyStopping` will end before its last epoch.

    The end of the calendar of `epochs` will seldom be reached: the rate falls to zero along a
    cosine over half of the patience, once the loss has not improved for two fifths of it. The fall
    begins from the weights of the lowest validation loss.

    Args:
      patience: of the `EarlyStopping` callback, in epochs.
    """

    reason = "before the learning rate falls to its end"

    def __init__(self, patience: int) -> None:
        super().__init__()
        self._wait = max(1, round(WAIT * patience))
        self._length = max(1, round(FALL * patience))
        self._best = math.inf
        self._is_validated = False
        self._epochs_without = 0

    def end_epoch(self, training_loss: float | None, validation_loss: float | None) -> float:
        """Return the share of the rate for the next epoch.

        Args:
          training_loss: the epoch's, which counts while there was no validation.
          validation_loss: the epoch's; None where it was not validated.
        """
        loss = validation_loss
        if validation_loss is not None and not self._is_validated:
            self._is_validated, self._best = True, math.inf
        elif not self._is_validated:
            loss = training_loss
        if self._epochs_falling:
            self._epochs_falling += 1
        else:
            self._epochs_without += 1
            if loss is not None and loss < self._best:
                self._epochs_without, self._best = 0, loss
            self._epochs_falling = int(self._epochs_without >= self._wait)
        return _share(self._epochs_falling, self._length)


class Overfitting(EarlyFall):
    """The fall of the rate in a `fit` that learns its examples by heart.

    The validation loss has risen and the training loss has fallen since the best epochs: by a tenth
    in the mean of four epochs, and beyond doubt beside the noise from epoch to epoch. From there
    the rate falls from a quarter to zero along a cosine over four epochs, from the weights of the
    lowest validation loss. Losses that are not positive are never taken for overfitting.
    """

    reason = (
        "as the validation loss rises while the training loss falls; the learning rate falls to "
        "its end, and EarlyStopping would save what is left of the epochs"
    )

    def __init__(self) -> None:
        super().__init__()
        self._validation: list[float] = []
        self._training: list[float] = []

    def end_epoch(self, training_loss: float | None, validation_loss: float | None) -> float:
        """Return the share of the rate for the next epoch.

        Args:
          training_loss: the epoch's.
          validation_loss: the epoch's; None where it was not validated.
        """
        if self._epochs_falling:
            self._epochs_falling += 1
        elif training_loss is not None and validation_loss is not None:
            if not math.isfinite(training_loss + validation_loss):
                return 1.0
            self._training.append(training_loss)
            self._validation.append(validation_loss)
            self._epochs_falling = int(self._has_turned())
        return _share(self._epochs_falling, WINDOW, FIRST_SHARE)

    def _has_turned(self) -> bool:
        if len(self._validation) < 2 * WINDOW or min(self._validation) <= 0.0:
            return False
        losses = np.log(self._validation)
        means = np.convolve(losses, np.full(WINDOW, 1.0 / WINDOW), mode="valid")
        best = int(np.argmin(means[:-WINDOW]))
        rise = means[-1] - means[best]
        # Second differences tell the noise beside any trend: their variance is six times its own.
        noise = np.diff(losses[-3 * WINDOW :], n=2)
        error = math.sqrt(float(np.mean(noise**2)) / 6.0 * 2.0 / WINDOW)
        fell = np.mean(self._training[-WINDOW:]) < np.mean(self._training[best : best + WINDOW])
        return bool(fell and rise > max(CLEAR_RISE, CLEAR_ERRORS * error))


def _share(epochs_falling: int, length: int, first: float = 1.0) -> float:
    """Return the share of the rate after so many epochs of a fall that begins with `first`."""
    if not epochs_falling:
        return 1.0
    progress = min(epochs_falling / (length + 1), 1.0)
    return max(first * float(Cosine()(progress)), LOWEST_SHARE)


class Stopper(NamedTuple):
    """An `EarlyStopping` among the callbacks of a `fit`.

    Attributes:
      patience: in epochs.
      first_epoch: the first epoch that it looks at.
    """

    patience: int
    first_epoch: int = 0

    def can_stop(self, epoch: int, num_epochs: float) -> bool:
        """Return whether it may end a `fit` before its last epoch.

        Args:
          epoch: the first of the `fit`.
          num_epochs: the one after its last; infinity where that is not known.
        """
        return max(epoch, self.first_epoch) + self.patience < num_epochs - 1


def stoppers_of(callbacks: list[Any]) -> list[Stopper]:
    """Return what is known of each `EarlyStopping` among the callbacks of a `fit`."""
    found = []
    for callback in callbacks:
        if "EarlyStopping" not in class_names(callback):
            continue
        patience = getattr(callback, "patience", None)
        # A class of the user's may have that name, and count in its own way.
        if isinstance(patience, int | float | np.number):
            first_epoch = getattr(callback, "start_from_epoch", None) or 0
            found.append(Stopper(int(patience), int(first_epoch)))
    return found


def patience_of(stoppers: list[Stopper], epoch: int, num_epochs: float) -> int | None:
    """Return the shortest patience of those that may end a `fit` early; None without any.

    Args:
      stoppers: of the `fit`.
      epoch: its first epoch.
      num_epochs: the one after its last; infinity where that is not known.
    """
    found = [each.patience for each in stoppers if each.can_stop(epoch, num_epochs)]
    return min(found, default=None)
