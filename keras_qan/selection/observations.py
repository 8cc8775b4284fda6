"""Observations of a selection, as parts of an agent's state."""

from __future__ import annotations

from typing import Any

from keras_qan.observations import Observation
from keras_qan.selection.actions import SelectorBound
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check_integer


@configurable
class SelectionState(SelectorBound, Observation):
    """A selector's summary: shares of the groups in the latest batches, and its settings.

    Args:
      numbers: how many numbers the summary has: `selector.summary_size`.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, numbers: int) -> None:
        hint = "Pass the summary_size of a selector that tells groups of examples apart."
        self.numbers = check_integer("numbers", numbers, 1, hint=hint)

    def _check_fits(self, selector: Any) -> None:
        super()._check_fits(selector)
        if selector.summary_size != self.numbers:
            raise ValueError(
                f"The summary of this {type(selector).__name__} has {selector.summary_size} "
                f"numbers; expected a summary of {self.numbers} numbers. Use a selector of the "
                "same kind, with as many classes."
            )

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return the size of the selector's summary."""
        return self.numbers

    def __call__(self, context: Any) -> Any:  # noqa: ARG002
        """Return float32 `[numbers]`.

        Raises:
          ValueError: it is not bound to a selector.
        """
        return self._require_selector().summary().numpy()


@configurable
class ClassExtremes(SelectorBound, Observation):
    """The hardest and the rarest class of a `ClassMix`, whichever they are.

    One value function serves all classes, also of data with another number of them. Of the class
    with the highest recent loss, and of the one that the queue holds least of, three numbers each:
    log(its loss / the mean of all classes), its share in the batches to come times C, and the
    pushes since it was last pushed, as a share of the queue's length.
    """

    needs_losses = True

    def size(self, num_kernels: int) -> int:  # noqa: ARG002
        """Return 6."""
        return 6

    def __call__(self, context: Any) -> Any:  # noqa: ARG002
        """Return float32 `[6]`.

        Raises:
          ValueError: it is not bound to a selector.
        """
        return self._require_selector().extremes().numpy()
