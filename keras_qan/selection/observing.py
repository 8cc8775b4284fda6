"""What an agent sees of a selection."""

from __future__ import annotations

import copy
import operator
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_qan.registry import configurable

if TYPE_CHECKING:
    from keras_qan.selection.selector import Selector


@configurable
class SelectionState:
    """A selector's own summary as a part of the state: shares of late batches, and its settings.

    Like the actions, one that is read from a run's directory has to be bound to a selector again.

    Args:
      numbers: how many numbers the summary has: `selector.summary_size`.
    """

    layers: tuple[str | int, ...] | None = ()
    selector: Any = None

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

    def __call__(self, situation: Any) -> tf.Tensor:  # noqa: ARG002 - the protocol's word
        """float32 `[numbers]`.

        Raises:
          ValueError: it is not bound to a selector.
        """
        if self.selector is None:
            raise ValueError(
                "SelectionState is not bound to a selector; expected selector.observation(), or "
                "bound_to(selector)."
            )
        return self.selector.summary()
