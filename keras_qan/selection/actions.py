"""Actions on the selection: they leave the learning rate alone and assign to the selector."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, TypeVar

from keras_qan.actions import Action
from keras_qan.storage.serialization import configurable

if TYPE_CHECKING:
    from keras_qan.selection.base import Selector

_Self = TypeVar("_Self", bound="SelectionAction")


class SelectionAction(Action):
    """What all actions on a selection share.

    They are actions like any other (`next_rate`), and what they do beside it is `select`: it is
    called within the compiled decision, only if the action was chosen. A selector is no plain
    data, so an action that is read from a run's directory has to be bound to one again.
    """

    needs_selector = True

    def bound_to(self: _Self, selector: Selector) -> _Self:
        """The same action, acting on that selector.

        Raises:
          ValueError: the selector is of a kind that knows no such action, or has not the class.
        """
        self._check_fits(selector)
        if self.needs_losses:
            selector.note_losses()
        bound = copy.copy(self)
        bound.selector = selector
        return bound

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:  # noqa: ARG002
        """The learning rate stays as it is."""
        return rate

    def select(self) -> None:
        """Changes what comes next.

        Raises:
          ValueError: it is not bound to a selector.
        """
        if self.selector is None:
            raise ValueError(
                f"{type(self).__name__} is not bound to a selector; expected one of "
                "selector.actions(), or bound_to(selector)."
            )
        self._select(self.selector)

    def _select(self, selector: Any) -> None:
        raise NotImplementedError

    #: The selector's method that it calls.
    steers = ""

    #: Whether it goes by the losses of the examples.
    needs_losses = False

    def _check_fits(self, selector: Any) -> None:
        if not hasattr(selector, self.steers):
            raise ValueError(
                f"{type(self).__name__} cannot act on {type(selector).__name__}; expected a "
                f"selector with a method {self.steers!r}. Use the selector's own actions()."
            )


@configurable
class Push(SelectionAction):
    """Pushes a class into the queue of a `ClassMix`: the original's raw action.

    Args:
      label: the class, at least 0.
    """

    def __init__(self, label: int) -> None:
        if label < 0 or int(label) != label:
            raise ValueError(f"Push got label={label}; expected a class number of at least 0.")
        self.label = int(label)

    steers = "push"

    def _check_fits(self, selector: Any) -> None:
        super()._check_fits(selector)
        if self.label >= selector.num_classes:
            raise ValueError(
                f"Push({self.label}) got a selector of {selector.num_classes} classes; expected "
                f"one with more than {self.label}. Use data with the same classes as before."
            )

    def _select(self, selector: Any) -> None:
        selector.push(self.label)


@configurable
class PushHardest(SelectionAction):
    """Pushes the class of the highest recent loss into the queue of a `ClassMix`."""

    steers = "push_hardest"
    needs_losses = True

    def _select(self, selector: Any) -> None:
        selector.push_hardest()


@configurable
class PushRarest(SelectionAction):
    """Pushes the class that the queue of a `ClassMix` holds least of.

    From a queue that holds each class once, it pushes class after class: nothing is lost by it.
    """

    steers = "push_rarest"

    def _select(self, selector: Any) -> None:
        selector.push_rarest()


@configurable
class Press(SelectionAction):
    """Multiplies the selection pressure of a `LossRank`.

    Args:
      factor: above 0; 1 leaves the pressure as it is.
    """

    def __init__(self, factor: float) -> None:
        if not (factor > 0.0 and math.isfinite(factor)):
            raise ValueError(f"Press got factor={factor}; expected a finite number above 0.")
        self.factor = float(factor)

    steers = "press"

    def _select(self, selector: Any) -> None:
        selector.press(self.factor)


@configurable
class Drop(SelectionAction):
    """Sets which share of the below-average examples a `Prune` drops.

    Args:
      ratio: in [0, 1).
    """

    def __init__(self, ratio: float) -> None:
        if not 0.0 <= ratio < 1.0:
            raise ValueError(f"Drop got ratio={ratio}; expected a share in [0, 1).")
        self.ratio = float(ratio)

    steers = "drop"

    def _select(self, selector: Any) -> None:
        selector.drop(self.ratio)
