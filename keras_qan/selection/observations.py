"""What an agent sees of a selection."""

from __future__ import annotations

import copy
import operator
from typing import TYPE_CHECKING, Any

from keras_qan.observations import Observation
from keras_qan.storage.serialization import configurable

if TYPE_CHECKING:
    from keras_qan.selection.base import Selector


@configurable
class SelectionState(Observation):
    """A selector's own summary as a part of the state: shares of late batches, and its settings.

    Like the actions, one that is read from a run's directory has to be bound to a selector again.

    Args:
      numbers: how many numbers the summary has: `selector.summary_size`.
    """

    needs_selector = True

    def __init__(self, numbers: int) -> None:
        if operator.index(numbers) < 1:
            raise ValueError(
                f"SelectionState got numbers={numbers}; expected at least 1, the summary_size of a "
                "selector that tells groups of examples apart."
            )
        self.numbers = operator.index(numbers)

    def bound_to(self, selector: Selector) -> SelectionState:
        """The same observation, of that selector.

        Raises:
          ValueError: the selector's summary has another size.
        """
        if selector.summary_size != self.numbers:
            raise ValueError(
                f"The state was made for a summary of {self.numbers} numbers, and that of this "
                f"{type(selector).__name__} has {selector.summary_size}. Use a selector of the "
                "same kind and with as many classes."
            )
        bound = copy.copy(self)
        bound.selector = selector
        return bound

    def size(self, num_kernels: int) -> int:  # noqa: ARG002 - the protocol's word
        """As many as the selector's summary has."""
        return self.numbers

    def __call__(self, context: Any) -> Any:  # noqa: ARG002
        """float32 `[numbers]`.

        Raises:
          ValueError: it is not bound to a selector.
        """
        if self.selector is None:
            raise ValueError(
                "SelectionState is not bound to a selector; expected selector.observation(), or "
                "bound_to(selector)."
            )
        return self.selector.summary().numpy()


@configurable
class ClassExtremes(Observation):
    """The hardest and the rarest class of a `ClassMix`, whichever they are.

    What is learned of the hardest class holds for any class that is the hardest: one value function
    for all, also for data with another number of classes. Of the class with the highest recent
    loss, and of the one that the queue holds least of, three numbers each: log(its loss / the mean
    of all classes), its share in the batches to come times C, and the pushes since it was last
    pushed, as a share of the queue's length.
    """

    needs_selector = True

    def bound_to(self, selector: Any) -> ClassExtremes:
        """The same observation, of that selector.

        Raises:
          ValueError: the selector knows no classes.
        """
        if not hasattr(selector, "extremes"):
            raise ValueError(
                f"ClassExtremes cannot see a {type(selector).__name__}; expected a ClassMix. Use "
                "the selector's own observations()."
            )
        selector.note_losses()
        bound = copy.copy(self)
        bound.selector = selector
        return bound

    def size(self, num_kernels: int) -> int:  # noqa: ARG002 - the protocol's word
        """Six."""
        return 6

    def __call__(self, context: Any) -> Any:  # noqa: ARG002
        """float32 `[6]`.

        Raises:
          ValueError: it is not bound to a selector.
        """
        if self.selector is None:
            raise ValueError(
                "ClassExtremes is not bound to a selector; expected one of a ClassMix's "
                "observations(), or bound_to(selector)."
            )
        return self.selector.extremes().numpy()
