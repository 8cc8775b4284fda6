"""Limits of step backs: they answer facts, and leave a training alone that they do not help."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

#: Standard errors of the difference of two mean losses that a rise has to exceed, where many
#: losses are known.
STANDARD_ERRORS = 3.0

#: More of them for each degree of freedom that a noise estimate lacks: few losses vary by chance.
MORE_FOR_FEW = 2.5

#: Losses since the snapshot without which nothing is known of their noise.
FEWEST_LOSSES = 4

#: The way of the weights since the snapshot, in sizes of their own, that no training takes that
#: goes well: a jump of the loss is then the rate's doing, however few losses are known.
LONG_WAY = 1.0

#: Losses on each side of the snapshot that are looked at.
MOST_LOSSES = 64

#: The last losses up to the snapshot, where the loss may have fallen fast.
LATEST_LOSSES = 8

#: Step backs in a row, without a new lowest loss between them, before they are given up.
MOST_IN_A_ROW = 8

#: The largest share of a training's steps that step backs may take back.
LARGEST_SHARE_LOST = 0.1

#: The share, and the most steps, that they may take back of a short training.
SHORT_SHARE_LOST, SHORT_STEPS_LOST = 0.25, 40

#: The lowest rate that a step back leads to, relative to the one that the user compiled with.
LOWEST_RELATIVE_RATE = 1e-5

#: The lowest rate that other actions lead to, likewise; a schedule's share comes on top.
LOWEST_DECAYED_RATE = 1e-3


class Rise(NamedTuple):
    """The difference of the losses since the snapshot and those up to it.

    They are logarithms where all losses are positive: noise is then a factor.

    Attributes:
      height: the difference of the means.
      error: its standard error.
      threshold: standard errors above which it is no chance.
    """

    height: float
    error: float
    threshold: float

    @property
    def is_clear(self) -> bool:
        """True where the noise between batches does not explain the rise."""
        return self.height > self.threshold * self.error


class StepLosses:
    """The losses of the last steps up to the snapshot, and of those since.

    A step's loss is that of the weights before its update, so the first loss after a snapshot, or
    after a roll-back to it, is one of the snapshot's weights.
    """

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=MOST_LOSSES)
        self._since: deque[float] = deque(maxlen=MOST_LOSSES)
        self._is_of_snapshot = True

    def add(self, loss: float) -> None:
        """Add the loss of a step, or the mean loss of a call of several."""
        if math.isfinite(loss):
            (self._before if self._is_of_snapshot else self._since).append(loss)
        self._is_of_snapshot = False

    def keep(self) -> None:
        """Note that the present weights became the snapshot."""
        self._before.extend(self._since)
        self.restore_weights()

    def restore_weights(self) -> None:
        """Note that the snapshot was restored: the losses since are of no weights that are left."""
        self._since.clear()
        self._is_of_snapshot = True

    def forget_snapshot(self) -> None:
        """Note that the training's first weights took the snapshot's place."""
        self._before.clear()
        self.restore_weights()

    def rise(self, size: int) -> Rise | None:
        """Compare the last losses with those up to the snapshot, by the difference of their means.

        Args:
          size: the number of the last losses to take; at least `FEWEST_LOSSES` are.

        Returns:
          The rise, or None where too few losses are known.
        """
        since = np.array(self._since)[-max(size, FEWEST_LOSSES) :]
        before = np.array(self._before)
        if len(since) < FEWEST_LOSSES or not len(before):
            return None
        if min(since.min(), before.min()) > 0.0:
            since, before = np.log(since), np.log(before)
        # Few losses may be alike by chance: the larger of both variances is that of both.
        variance = max(_variance(since), _variance(before))
        error = math.sqrt(variance * (1.0 / len(since) + 1.0 / len(before)))
        degrees = len(since) + len(before) - 2
        threshold = STANDARD_ERRORS * (1.0 + MORE_FOR_FEW / degrees)
        return Rise(float(since.mean() - before.mean()), error, threshold)

    def are_above_snapshot(self, size: int) -> bool:
        """Return whether the last losses are above those right before the snapshot, beyond noise.

        The noise is that of neighbours, as losses before a snapshot fall.

        Args:
          size: the number of the last losses to take; at least `FEWEST_LOSSES` are.
        """
        since = np.array(self._since)[-max(size, FEWEST_LOSSES) :]
        before = np.array(self._before)[-LATEST_LOSSES:]
        if min(len(since), len(before)) < FEWEST_LOSSES:
            return False
        if min(since.min(), before.min()) > 0.0:
            since, before = np.log(since), np.log(before)
        error = math.sqrt(sum(_noise(part) ** 2 / len(part) for part in (since, before)))
        degrees = len(since) + len(before) - 2
        threshold = STANDARD_ERRORS * (1.0 + MORE_FOR_FEW / degrees)
        return bool(since.mean() - before.mean() > threshold * error)

    def bar(self) -> float:
        """Return the loss above which the snapshot's weights are as bad as those since.

        It is halfway to the losses since, and beyond the noise of single losses. Infinite where too
        few losses are known.
        """
        since, before = np.array(self._since), np.array(self._before)
        if min(len(since), len(before)) < FEWEST_LOSSES:
            return math.inf
        are_positive = min(since.min(), before.min()) > 0.0
        if are_positive:
            since, before = np.log(since), np.log(before)
        level = float(before.mean())
        bar = level + max(STANDARD_ERRORS * _noise(before), 0.5 * (float(since.mean()) - level))
        return math.exp(min(bar, 700.0)) if are_positive else bar

    def as_data(self) -> list[float]:
        """Return what it holds as numbers."""
        counts = [float(self._is_of_snapshot), float(len(self._before))]
        return [*counts, *self._before, *self._since]

    def restore(self, data: list[float]) -> None:
        """Take over what `as_data` gave."""
        self._is_of_snapshot = bool(data[0])
        self._before.extend(data[2 : 2 + int(data[1])])
        self._since.extend(data[2 + int(data[1]) :])


def _most_lost(num_steps: int) -> float:
    """Return the most steps of a training that step backs may take back."""
    short = min(SHORT_SHARE_LOST * num_steps, SHORT_STEPS_LOST)
    return max(LARGEST_SHARE_LOST * num_steps, short)


def _variance(losses: np.ndarray) -> float:
    return float(np.var(losses, ddof=1)) if len(losses) > 1 else 0.0


def _noise(losses: np.ndarray) -> float:
    """Return the deviation of losses beside any trend, by the differences of neighbours."""
    return math.sqrt(float(np.mean(np.diff(losses) ** 2)) / 2.0)


class StepBackGuard:
    """Decides whether a step back is allowed.

    A finite loss must have risen beyond the noise between batches, or jumped on steps as large as
    the weights themselves. They are given up after `MOST_IN_A_ROW` step backs without a new lowest
    loss, once a tenth of the training's steps is lost to them, or where the first loss of the
    restored weights is as high: lower rates do not help, so the rate was not the cause.

    Attributes:
      losses: of the steps around the snapshot.
      is_open: False once step backs are given up for the rest of the training.
      count: step backs that restored weights so far.
      was_in_vain: whether the last one was the last of a row that did not lower the loss.
      data_changed: whether the weights that the last one restored have a loss as high as those that
        it took back: other data came, and the rate is not to blame.
    """

    def __init__(self) -> None:
        self.losses = StepLosses()
        self.is_open = True
        self.count = 0
        self.was_in_vain = False
        self.data_changed = False
        self._has_told = False
        self._bar = math.inf
        self._size = 0
        self._in_a_row = 0
        self._rates_before: Any = None
        self._kept_at = 0
        self._steps_lost = 0

    def observe_step(self, loss: float) -> None:
        """Take in the loss of one step, or the mean loss of a call of several."""
        if loss > self._bar:
            self.data_changed, self.is_open = True, False
        self._bar = math.inf
        self.losses.add(loss)
        self._size += 1

    def end_interval(self) -> None:
        """Start counting the losses of another interval."""
        self._size = 0

    def allows(self, loss: float, has_jumped: bool, way: Callable[[], float]) -> bool:
        """Return whether a step back is allowed after an interval.

        Args:
          loss: its mean loss.
          has_jumped: whether that is far above the lowest and the first one.
          way: returns ‖w - w₀‖ / ‖w₀‖, where w₀ are the weights of the snapshot.
        """
        if not math.isfinite(loss):
            return True
        if not self.is_open:
            return False
        rise = self.losses.rise(self._size)
        if rise is not None and rise.is_clear:
            return True
        return has_jumped and way() > LONG_WAY

    def is_above_snapshot(self) -> bool:
        """Return whether the losses of the interval are above the snapshot's beyond noise."""
        return self.losses.are_above_snapshot(self._size)

    def is_too_late(self, step: int, num_steps: int) -> bool:
        """Return whether a step back would by itself take back more steps than all may.

        Args:
          step: steps done.
          num_steps: steps in the training, as far as is known.
        """
        return step - self._kept_at > _most_lost(num_steps)

    def note_best(self, step: int) -> None:
        """Note that the present weights became the snapshot, after so many steps."""
        self.losses.keep()
        self._kept_at = step
        self._in_a_row = 0

    def forget_best(self) -> None:
        """Note that the training's first weights took the snapshot's place."""
        self.losses.forget_snapshot()

    def note_step_back(self, rates: Any, step: int, num_steps: int, is_plain: bool) -> None:
        """Note a step back that restored weights.

        Args:
          rates: the rates that it found, `[K]`.
          step: steps done.
          num_steps: steps in the training, as far as is known.
          is_plain: whether the loss is finite, and not so high that it can only have diverged.
        """
        if self._in_a_row == 0:
            self._rates_before = rates
        self._bar = self.losses.bar()
        self.losses.restore_weights()
        self.count += 1
        self._in_a_row = self._in_a_row + 1 if is_plain else 0
        self._steps_lost += max(step - self._kept_at, 0)
        self._kept_at = step
        self.was_in_vain = is_plain and self._in_a_row >= MOST_IN_A_ROW
        if self.was_in_vain or (is_plain and self._steps_lost > _most_lost(num_steps)):
            self.is_open = False

    def reason_to_tell(self) -> str | None:
        """Return why step backs were given up, once; None before and after."""
        if self.is_open or self._has_told:
            return None
        self._has_told = True
        if self.data_changed:
            return (
                "on the data that came since, the weights of the lowest loss are as bad, so that "
                "the rate is not the cause, and is held. Shuffle the data"
            )
        if self.was_in_vain:
            return (
                "the loss rises again at lower rates, so that the rate is not its cause. Shuffle "
                "the data, or use larger batches"
            )
        return "they have taken back a tenth of its steps. Compile with a lower learning rate"

    @property
    def rates_before(self) -> Any:
        """The rates before the present row of step backs, `[K]`."""
        return self._rates_before

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its state by name, for a checkpoint of a running training."""
        numbers: list[float] = [self.is_open, self.was_in_vain, self.count, self._in_a_row]
        numbers += [self._size, self._kept_at, self._steps_lost]
        rates = np.zeros(0) if self._rates_before is None else np.asarray(self._rates_before)
        return {
            "guard": np.array(numbers, float),
            "guard_losses": np.array(self.losses.as_data()),
            "guard_rates": rates,
            "guard_bar": np.array([self._bar, self.data_changed]),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave; files of earlier versions hold none of it."""
        if "guard" not in arrays:
            return
        is_open, was_in_vain, *counts = arrays["guard"].tolist()
        self.is_open, self.was_in_vain = bool(is_open), bool(was_in_vain)
        self.count, self._in_a_row, self._size, self._kept_at, self._steps_lost = map(int, counts)
        self.losses.restore(arrays["guard_losses"].tolist())
        rates = arrays["guard_rates"]
        self._rates_before = rates if rates.size else None
        bar, data_changed = arrays.get("guard_bar", (math.inf, 0.0))
        self._bar, self.data_changed = float(bar), bool(data_changed)
        self._has_told = not self.is_open
