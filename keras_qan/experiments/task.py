"""A training that can be repeated from a seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_qan.parallel import Call
from keras_qan.selection import Selector


@dataclass(frozen=True)
class Task:
    """A training that can be repeated from a seed.

    Attributes:
      build_model: seed → compiled model; its initial weights follow from the seed.
      train: seed → training batches; their order follows from the seed.
      validation: what rewards and choices look at.
      epochs: of one training, at least 1.
      test: what is looked at once, after an evaluation's training; None if there is none.
      selector: what chooses the batches of the arms that have its actions, anew from the seed in
        each training; the other arms are trained on `train`.
      steps: optimizer steps in an epoch of those arms; None for as many as hold all examples once.
      source: how another process makes this task: a function that returns it, and its arguments.
        Needed where trainings are run by several workers.
    """

    build_model: Callable[[int], keras.Model]
    train: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    epochs: int
    test: tf.data.Dataset | None = None
    selector: Selector | None = None
    steps: int | None = None
    source: Call | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a training of no epochs."""
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; expected at least 1.")

    @functools.cached_property
    def _pipeline(self) -> tf.data.Dataset:
        assert self.selector is not None
        return self.selector.dataset()

    def selected(self) -> tf.data.Dataset:
        """The selector's batches: one pipeline for all trainings."""
        return self._pipeline
