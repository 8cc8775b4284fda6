"""Options: actions on the learning rate that last several decisions."""

from __future__ import annotations

import abc
import math
from typing import Any, NamedTuple

import numpy as np

from keras_qan.actions.base import Action
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check_integer, check_number


class OptionContext(NamedTuple):
    """The point of an option at which a decision is due.

    Attributes:
      rate: the present learning rates, `[K]`.
      start_rate: those that the option began with, `[K]`.
      initial_rate: those that `fit` began with, `[K]`.
      progress: the share of the training's steps that are done.
      start_progress: that at which the option began.
      num_decisions: the decisions taken under the option so far. Defaults to 0: this is its first.
      interval: the share of the training's steps up to the next decision. Defaults to 0.
      log_loss: log(loss / first loss) of the last interval. Defaults to 0.
      log_loss_before: that of the interval before. Defaults to 0.
      last_change: log(rate / rate before) of the last decision. Defaults to 0.
    """

    rate: Any
    start_rate: Any
    initial_rate: Any
    progress: float
    start_progress: float
    num_decisions: int = 0
    interval: float = 0.0
    log_loss: float = 0.0
    log_loss_before: float = 0.0
    last_change: float = 0.0

    def since(self, start: OptionContext) -> OptionContext:
        """Return this point as one of the option that began at another.

        Args:
          start: the option's first point, with its decisions so far.
        """
        return self._replace(
            start_rate=start.start_rate,
            start_progress=start.start_progress,
            num_decisions=start.num_decisions,
        )


class Option(Action):
    """An action that lasts several decisions; subclass it for one of your own.

    It is an option of Sutton, Precup & Singh (1999): a policy, `rate_at`, and a termination,
    `is_over`. Both see what happened since it began, as of a semi-Markov option, and can be asked
    at any time: an option remembers nothing itself. While it lasts, the agent is not asked. It ends
    early where the loss has jumped (`loss_history.has_jumped`), for the agent or a step back to
    answer. The agent then learns one transition: state and option of its beginning, and the return
    Σ_{i<k} γⁱ rᵢ of its k decisions, with γᵏ before the value of the state that follows.
    """

    @abc.abstractmethod
    def rate_at(self, context: OptionContext) -> Any:
        """Return the learning rate that follows a decision under the option, `[K]`.

        Args:
          context: the point that it has come to.
        """

    @abc.abstractmethod
    def is_over(self, context: OptionContext) -> bool:
        """Return whether the option ends before the decision that is due, so that there is none.

        Args:
          context: the point that it has come to, after its first decision.
        """

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:
        """Return the rate of its first decision."""
        return self.rate_at(OptionContext(rate, rate, initial_rate, progress, progress))


class _Lasting(Option):
    """An option of a fixed number of decisions."""

    decisions: int

    def is_over(self, context: OptionContext) -> bool:
        """Return whether its decisions are taken."""
        return context.num_decisions >= self.decisions


@configurable
class WarmUp(_Lasting):
    """Lower the learning rate to a share of itself, and raise it along a line (Goyal et al. 2017).

    Args:
      start: what its first decision multiplies the rate by, above 0. Defaults to 0.1.
      factor: the last rate over the one that it was chosen at, above `start`. Defaults to 1.
      decisions: the decisions that it takes, at least 2. Defaults to 4.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, start: float = 0.1, factor: float = 1.0, decisions: int = 4) -> None:
        self.start = check_number("WarmUp's start", start, above=0)
        self.factor = check_number("WarmUp's factor", factor, above=start)
        self.decisions = check_integer("WarmUp's decisions", decisions, 2)

    def rate_at(self, context: OptionContext) -> Any:
        """Return start rate · (start + (factor - start) · share of the way)."""
        share = context.num_decisions / (self.decisions - 1)
        return context.start_rate * (self.start + (self.factor - self.start) * share)


@configurable
class TriangularCycle(_Lasting):
    """Raise the learning rate along a line and let it fall to where it was, to leave a plateau.

    It is one cycle of a triangular schedule (Smith 2017).

    Args:
      factor: the highest rate over the one that it begins with, above 1. Defaults to 4.
      decisions: the decisions that it takes, at least 2. Defaults to 4.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, factor: float = 4.0, decisions: int = 4) -> None:
        self.factor = check_number("TriangularCycle's factor", factor, above=1)
        self.decisions = check_integer("TriangularCycle's decisions", decisions, 2)

    def rate_at(self, context: OptionContext) -> Any:
        """Return start rate · (1 + (factor - 1) · height), whose height is 1 halfway."""
        height = 1.0 - abs(2.0 * (context.num_decisions + 1) / self.decisions - 1.0)
        return context.start_rate * (1.0 + (self.factor - 1.0) * height)


@configurable
class RangeTest(Option):
    """Search for the scale: begin low, raise the learning rate while the loss falls, then go back.

    It is a learning rate range test (Smith 2017) that trains on. A decision that finds the loss of
    the last interval above the one before lowers the rate, and is the last one.

    Args:
      start: what its first decision multiplies the rate by, in (0, 1]. Defaults to 0.1.
      factor: what each later one multiplies it by, above 1. Defaults to 3.
      back: what the last one multiplies it by, in (0, 1). Defaults to 0.3.
      decisions: the most decisions that it takes, at least 1. Defaults to 8.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self, start: float = 0.1, factor: float = 3.0, back: float = 0.3, decisions: int = 8
    ) -> None:
        self.start = check_number("RangeTest's start", start, above=0, maximum=1)
        self.factor = check_number("RangeTest's factor", factor, above=1)
        self.back = check_number("RangeTest's back", back, above=0, below=1)
        self.decisions = check_integer("RangeTest's decisions", decisions, 1)

    def rate_at(self, context: OptionContext) -> Any:
        """Return start · rate, then factor · rate; back · rate where the loss has risen."""
        if context.num_decisions == 0:
            return context.rate * self.start
        # The loss of the first interval is that of a lower rate, and says nothing of a higher one.
        has_risen = context.num_decisions > 1 and context.log_loss > context.log_loss_before
        return context.rate * (self.back if has_risen else self.factor)

    def is_over(self, context: OptionContext) -> bool:
        """Return whether the last decision has lowered the rate, or was the last allowed."""
        has_gone_back = context.num_decisions > 2 and context.last_change < 0.0
        return has_gone_back or context.num_decisions >= self.decisions


@configurable
class Anneal(Option):
    """Lower the learning rate along half a cosine: to the training's end, or over some decisions.

    Args:
      share: what of the rate is left at the end, in [0, 1). Defaults to 0.
      decisions: the decisions that it takes, at least 1; `share` is above 0 then, as no factor
        leads away from a rate of zero. Defaults to None: all that are left, by the time.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, share: float = 0.0, decisions: int | None = None) -> None:
        hint = "To anneal to zero over the rest of the training, leave decisions out."
        if decisions is None:
            self.share = check_number("Anneal's share", share, 0, below=1)
        else:
            self.share = check_number("Anneal's share", share, above=0, below=1, hint=hint)
            decisions = check_integer("Anneal's decisions", decisions, 1)
        self.decisions = decisions

    def rate_at(self, context: OptionContext) -> Any:
        """Return the rate at the middle of the next interval, or after so many decisions."""
        if self.decisions is None:
            done = context.progress + 0.5 * context.interval - context.start_progress
            done = np.minimum(done / np.maximum(1.0 - context.start_progress, 1e-9), 1.0)
        else:
            done = (context.num_decisions + 1) / self.decisions
        left = 0.5 * (1.0 + np.cos(math.pi * done))
        return context.start_rate * (self.share + (1.0 - self.share) * left)

    def is_over(self, context: OptionContext) -> bool:
        """Return whether its decisions are taken; never before the end without a number of them."""
        return self.decisions is not None and context.num_decisions >= self.decisions
