"""The protocol of actions: one choice of an agent, as arithmetic on the learning rate."""

from __future__ import annotations

import abc
from typing import Any, TypeVar

_Self = TypeVar("_Self")


class Action(abc.ABC):
    """One choice of an agent; subclass it for an action of your own.

    Attributes:
      factor: the factor by which it multiplies the rate. Defaults to 1.
      steps_back: whether it rolls weights and optimizer slots back to those of the lowest loss.
        Defaults to False. The controller takes the first such action by itself where the loss has
        jumped or is non-finite.
      selector: the selector of mini-batches that it acts on, if any. Defaults to None.
      needs_selector: whether it does nothing without a selector. Defaults to False.
    """

    factor: float = 1.0
    steps_back: bool = False
    selector: Any = None
    needs_selector: bool = False

    @abc.abstractmethod
    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:
        """Return the learning rate that follows.

        Args:
          rate: the present learning rates, a float array `[K]`: one for each optimizer.
          initial_rate: those that `fit` began with, `[K]`.
          progress: the share of the training's steps that are done, a float in [0, 1].

        Returns:
          `[K]`; the controller keeps it within its bounds.
        """

    def rate_after_step_back(self, rate: Any, kept_rate: Any) -> Any:
        """Return the rate after a roll-back, `[K]`; called where `steps_back` alone.

        Args:
          rate: the present rates, `[K]`.
          kept_rate: those that led to the restored weights, `[K]`.
        """
        del kept_rate
        return rate

    def select(self) -> None:
        """Change which mini-batches come next; nothing by default."""
        return None  # noqa: RET501 - says that this is no abstract method

    def bound_to(self: _Self, selector: Any) -> _Self:
        """Return the action bound to a selector; itself where it does not act on one.

        Args:
          selector: of the mini-batches.
        """
        del selector
        return self
