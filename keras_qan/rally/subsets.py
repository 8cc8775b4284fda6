"""Nested, stratified subsets of the training examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_qan.data import Examples
from keras_qan.data.stratify import stratified_order

#: Tells the order of the subsets apart from others that are drawn from one seed.
_STREAM = 7


def as_examples(data: Any, name: str) -> Examples:
    """Return the user's data as `Examples`.

    Raises:
      ValueError: it is neither `Examples` nor a pair of arrays, or its labels are no classes.
    """
    if isinstance(data, Examples):
        return data
    if not (isinstance(data, tuple) and len(data) == 2):
        raise ValueError(
            f"Rally got {name}={type(data).__name__}; expected keras_qan.data.Examples or a pair "
            "(x, y) of arrays, since subsets are drawn by class."
        )
    x, y = np.asarray(data[0]), np.asarray(data[1])
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"Rally got {name} with labels of shape {y.shape} and type {y.dtype}; expected one "
            "integer class for each example, with a loss such as SparseCategoricalCrossentropy."
        )
    return Examples(x, y)


class Subsets:
    """The first n examples of one stratified order, so that each subset holds the smaller ones.

    Args:
      examples: all examples.
      seed: of the order.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self._examples = examples
        self._order = stratified_order(examples.y, seed=seed, stream=_STREAM)

    def __len__(self) -> int:
        return len(self._examples)

    def members(self, size: int) -> npt.NDArray[np.int64]:
        """Places of the examples in the subset of that size, int64 `[size]`."""
        return self._order[:size]

    def take(self, size: int) -> Examples:
        """Return the subset of that size."""
        if size == len(self):
            return self._examples
        members = np.sort(self.members(size))
        return Examples(self._examples.x[members], self._examples.y[members])

    def require_trainable(self, size: int, batch_size: int, stage: int) -> None:
        """Raise ValueError for a subset that cannot be trained on."""
        if size > len(self):
            raise ValueError(
                f"Stage {stage} asks for {size} examples, and there are {len(self)}; expected at "
                "most as many. Use 1.0 for all."
            )
        if size < batch_size:
            raise ValueError(
                f"Stage {stage} has {size} examples and a batch has {batch_size}; expected at "
                "least one batch. Give it more examples (a whole number n is n examples, a share "
                "is a float), or choose a smaller batch_size."
            )
        classes = set(np.unique(self._examples.y).tolist())
        missing = sorted(classes - set(np.unique(self._examples.y[self.members(size)]).tolist()))
        if missing:
            raise ValueError(
                f"Stage {stage} has {size} examples and none of class "
                f"{', '.join(map(str, missing[:5]))}; expected at least one of each class. Give it "
                "more examples."
            )
