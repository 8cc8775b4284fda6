"""Schedules that push classes into a `ClassMix` without an agent."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check_integer


class PushSchedule(Protocol):
    """A sequence of classes to push.

    Attributes:
      every: batches between pushes, at least 1.
    """

    every: int

    def classes(self, pushes: tf.Tensor, num_classes: int, seed: tf.Tensor) -> tf.Tensor:
        """Return the class of each push, int64 `[S]`.

        Args:
          pushes: their numbers from 0, int64 `[S]`.
          num_classes: how many there are.
          seed: of the stream, int64 `[]`.
        """
        ...


@configurable
class Cycle:
    """Class after class in turn: class-alternating sampling.

    Args:
      every: batches between pushes, at least 1. Defaults to 1.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = check_integer("every", every, 1)

    def classes(self, pushes: tf.Tensor, num_classes: int, seed: tf.Tensor) -> tf.Tensor:
        """Return 0, 1, 2, … and again; see `PushSchedule.classes`."""
        del seed
        return pushes % num_classes


@configurable
class Draw:
    """A class at random at each push, as by an agent that has learned nothing.

    Args:
      every: batches between pushes, at least 1. Defaults to 1.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = check_integer("every", every, 1)

    def classes(self, pushes: tf.Tensor, num_classes: int, seed: tf.Tensor) -> tf.Tensor:
        """Return any class with the same probability; see `PushSchedule.classes`.

        It is a function of the seed and the push.
        """
        # Each seed begins elsewhere, by a step that no number of pushes reaches.
        return _high_bits(_mixed(seed * 5851543109873147353 + pushes), 33) % num_classes


def _mixed(value: tf.Tensor) -> tf.Tensor:
    """A pseudorandom number for each int64: the finalizer of SplitMix64 (Steele 2014)."""
    value += -7046029254386353131
    value = tf.bitwise.bitwise_xor(value, _high_bits(value, 30)) * -4658895280553007687
    value = tf.bitwise.bitwise_xor(value, _high_bits(value, 27)) * -7723592293110705685
    return tf.bitwise.bitwise_xor(value, _high_bits(value, 31))


def _high_bits(value: tf.Tensor, shift: int) -> tf.Tensor:
    """The bits above so many, as a number of at least 0."""
    kept = tf.constant(2 ** (64 - shift) - 1, tf.int64)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, tf.constant(shift, tf.int64)), kept)
