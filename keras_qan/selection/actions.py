"""Actions on the selection: they leave the learning rate alone and change a selector."""

from __future__ import annotations

import copy
from typing import Any, Protocol, TypeVar

from keras_qan.actions import Action
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check_integer, check_number

_Self = TypeVar("_Self", bound="SelectorBound")


class _Selector(Protocol):
    """Members of a `Selector` that binding uses."""

    supports: tuple[type[SelectorBound], ...]

    def note_losses(self) -> None: ...


class SelectorBound:
    """Base of actions and observations that act on a selector, or observe one.

    A selector is no plain data, so a part that is read from a run's directory has to be bound to
    one again.

    Attributes:
      selector: the selector that it is bound to; None before.
      needs_selector: True; see `Action`.
      needs_losses: whether it goes by the losses of the examples.
    """

    selector: Any = None
    needs_selector = True
    needs_losses = False

    def bound_to(self: _Self, selector: _Selector) -> _Self:
        """Return a copy that is bound to a selector.

        Raises:
          ValueError: it does not fit the selector.
        """
        self._check_fits(selector)
        if self.needs_losses:
            selector.note_losses()
        bound = copy.copy(self)
        bound.selector = selector
        return bound

    def _check_fits(self, selector: Any) -> None:
        if not isinstance(self, selector.supports):
            known = ", ".join(part.__name__ for part in selector.supports)
            raise ValueError(
                f"{type(self).__name__} cannot be bound to {type(selector).__name__}; expected "
                f"one of {known}. Use the selector's own actions() and observations()."
            )

    def _require_selector(self) -> Any:
        """The selector.

        Raises:
          ValueError: it is not bound to one.
        """
        if self.selector is None:
            raise ValueError(
                f"{type(self).__name__} is not bound to a selector; expected one of a selector's "
                "actions() or observations(), or bound_to(selector)."
            )
        return self.selector


class SelectionAction(SelectorBound, Action):
    """Base of actions on a selection.

    They are actions like any other (`next_rate`) with a side effect, `select`, which the
    controller calls if the action was chosen.
    """

    def next_rate(self, rate: Any, initial_rate: Any, progress: Any) -> Any:  # noqa: ARG002
        """Return the learning rate as it is."""
        return rate

    def select(self) -> None:
        """Change the batches to come.

        Raises:
          ValueError: it is not bound to a selector.
        """
        self._act(self._require_selector())

    def _act(self, selector: Any) -> None:
        raise NotImplementedError


@configurable
class Push(SelectionAction):
    """Pushes a class into the queue of a `ClassMix`: the original's raw action.

    Args:
      label: the class, at least 0.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, label: int) -> None:
        self.label = check_integer("label", label, 0)

    def _check_fits(self, selector: Any) -> None:
        super()._check_fits(selector)
        check_integer(
            "label",
            self.label,
            0,
            selector.num_classes - 1,
            hint=f"The selector has {selector.num_classes} classes. Use data with the same "
            "classes as before.",
        )

    def _act(self, selector: Any) -> None:
        selector.push(self.label)


@configurable
class PushHardest(SelectionAction):
    """Pushes the class of the highest recent loss into the queue of a `ClassMix`."""

    needs_losses = True

    def _act(self, selector: Any) -> None:
        selector.push_hardest()


@configurable
class PushRarest(SelectionAction):
    """Pushes the class that the queue of a `ClassMix` holds least of.

    In a queue that holds each class once, it pushes class after class: none is lost.
    """

    def _act(self, selector: Any) -> None:
        selector.push_rarest()


@configurable
class Press(SelectionAction):
    """Multiplies the selection pressure of a `LossRank`.

    Args:
      factor: above 0; 1 leaves the pressure as it is.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, factor: float) -> None:
        self.factor = check_number("factor", factor, above=0)

    def _act(self, selector: Any) -> None:
        selector.press(self.factor)


@configurable
class Drop(SelectionAction):
    """Sets the share of the below-average examples that a `Prune` drops.

    Args:
      ratio: in [0, 1).

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = check_number("ratio", ratio, 0, below=1)

    def _act(self, selector: Any) -> None:
        selector.drop(self.ratio)
