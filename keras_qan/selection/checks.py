"""What can be wrong with a selector's arguments, and with the data of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_qan.selection.source import Source


def check_arguments(name: str, source: Source, batch_size: int, seed: int) -> None:
    """Raises ValueError for a batch size or seed that is out of range."""
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise ValueError(
            f"{name} got batch_size={batch_size}; expected an integer of at least 1, for example "
            "128."
        )
    if batch_size > source.num_examples:
        raise ValueError(
            f"{name} got batch_size={batch_size} for {source.num_examples} examples; expected a "
            "batch of no more than there are. Choose a smaller batch_size."
        )
    check_seed(name, seed)


def check_seed(name: str, seed: int) -> None:
    """Raises ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"{name} got seed={seed}; expected an integer of at least 0.")


def check_place_for_weights(name: str, spec: Any, unbiased: bool) -> None:
    """Raises ValueError where weights are wanted and the examples have no place for them."""
    if unbiased and not (isinstance(spec, tuple) and len(spec) in (2, 3)):
        raise ValueError(
            f"{name} is to carry weights, and the examples are {spec}; expected (x, y) or "
            "(x, y, sample_weight), so that a sample_weight has a place. Map them to that first, "
            "or set unbiased=False."
        )


def foreign_batches(name: str, trained: int, newest: int) -> str:
    """Says that steps were trained on batches that the selector did not make.

    Args:
      name: of the selector's class.
      trained: the number of the first batch that is not its own.
      newest: that of the last one that it made, -1 for none.
    """
    if newest < 0:
        return (
            f"{name} was told of a training step, but has made no batch: fit's data did not come "
            "from it. Pass selector.dataset() to fit, with "
            "steps_per_epoch=selector.steps_per_epoch."
        )
    return (
        f"{name} was told of training steps on batches {trained} and later, and the last one that "
        f"it made is {newest}: fit's data did not come from it alone, or somebody else iterated "
        "over its dataset at the same time. Pass selector.dataset() itself to fit, and use a "
        "selector for one training at a time."
    )
