"""A training that can be repeated from a seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_qan.parallel import Call
from keras_qan.selection import Selector
from keras_qan.utils.validation import check_integer


@dataclass(frozen=True)
class Task:
    """A training that can be repeated from a seed.

    Attributes:
      build_model: seed → compiled model; its initial weights follow from the seed.
      train: seed → training batches; their order follows from the seed.
      validation: data for rewards and choices.
      epochs: of one training, at least 1.
      test: data that is evaluated once, after an evaluation's training. Defaults to none.
      selector: chooses the batches of the arms that have its actions, anew from the seed in each
        training; the other arms are trained on `train`. Defaults to none.
      steps: optimizer steps in an epoch of those arms. Defaults to as many as hold all examples
        once.
      source: the recipe of this task for another process: a function and its arguments.
        Needed where trainings are run by several workers. Defaults to none.
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
        """Raise ValueError for a training of no epochs."""
        check_integer("epochs", self.epochs, 1)

    @functools.cached_property
    def selected(self) -> tf.data.Dataset:
        """The selector's batches: one pipeline for all trainings."""
        assert self.selector is not None
        return self.selector.dataset()
