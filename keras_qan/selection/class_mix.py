"""Mini-batches by class: a queue of classes, each a slot of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from keras_qan.registry import configurable
from keras_qan.selection.actions import Push
from keras_qan.selection.labels import class_labels
from keras_qan.selection.selector import Choice, Selector
from keras_qan.selection.source import Source
from keras_qan.selection.timeline import Timeline
from keras_qan.selection.walks import Orders, Walks

#: The original's 12 of 128 for each of ten slots; what is left over goes to the newest.
_SHARE_OF_SLOTS = 15 / 16


class Script(Protocol):
    """Which classes are pushed when no agent does it.

    Attributes:
      every: batches between pushes, at least 1.
    """

    every: int

    def classes(self, pushes: tf.Tensor, num_classes: int, seed: tf.Tensor) -> tf.Tensor:
        """The class of each push: int64 `[S]` for numbers of pushes, int64 `[S]` from 0."""
        ...


@configurable
class Cycle:
    """Class after class in turn: class-alternating sampling.

    Args:
      every: batches between pushes, at least 1.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = _checked_every("Cycle", every)

    def classes(self, pushes: tf.Tensor, num_classes: int, seed: tf.Tensor) -> tf.Tensor:
        """0, 1, 2, … and again."""
        del seed
        return pushes % num_classes


@configurable
class Draw:
    """A class at random at each push: what an agent that has learned nothing would do.

    Args:
      every: batches between pushes, at least 1.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = _checked_every("Draw", every)

    def classes(self, pushes: tf.Tensor, num_classes: int, seed: tf.Tensor) -> tf.Tensor:
        """Every class with the same probability; a function of the seed and the push."""
        return _high_bits(_mixed(_mixed(seed) + pushes), 33) % num_classes


class ClassMix(Selector):
    """Batches from a queue of classes: the newest has the largest share (Fu's original code).

    An action pushes a class into a queue of `slots`, and the oldest drops out. Each slot has a
    fixed share of the batch; in the original the newest of ten has 20 of 128 examples and the
    others 12 each. The examples of a class are walked over without replacement; after the last one
    they are walked over again in another order. At first the slots hold the classes in turn, from
    class 0 as the newest.

    With `unbiased`, an example of class c weighs N_c / N · B / (examples of c in the batch), so
    that each class that is in the batch counts as in the data. A class that is not in it is
    missing all the same.

    Args:
      dataset: single examples, (x, y) or (x, y, sample_weight), with integer or one-hot classes y;
        any other structure with `label`.
      num_classes: C, at least 2.
      batch_size: B, at least `slots`.
      slots: S, classes in the queue, at least 1.
      newest: examples of the newest slot; by default what is left when the slots share 15/16 of
        the batch in whole numbers (20 of 128). The others share the rest, which must be divisible.
      script: `Cycle()` or `Draw()`, to push classes without an agent.
      label: from an example, as the dataset gives it, to its class.
      unbiased: whether batches carry weights.
      seed: what the orders follow from, at least 0.

    Attributes:
      num_classes: C.
      slot_sizes: examples of each slot, newest first, S of them.

    Raises:
      TypeError: the dataset is none, or holds sparse tensors.
      ValueError: an argument is out of range, a class has no examples or fewer than a slot's
        share, or the labels are no classes.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        num_classes: int,
        batch_size: int,
        *,
        slots: int = 10,
        newest: int | None = None,
        script: Script | None = None,
        label: Callable[..., Any] | None = None,
        unbiased: bool = False,
        seed: int = 0,
    ) -> None:
        if num_classes < 2:
            raise ValueError(
                f"ClassMix got num_classes={num_classes}; expected at least 2. With one class "
                "there is nothing to choose; use selection.Uniform."
            )
        self.slot_sizes = _slot_sizes(batch_size, slots, newest)
        source = Source(dataset)
        labels = class_labels(source, num_classes, label)
        _check_enough(np.bincount(labels, minlength=num_classes), max(self.slot_sizes))
        super().__init__(
            source,
            batch_size,
            walks=Walks(labels, source.num_examples),
            groups=tuple(f"class {number}" for number in range(num_classes)),
            num_counters=num_classes,
            unbiased=unbiased,
            seed=seed,
        )
        self.num_classes = num_classes
        self.script = script
        self._first_slots = [slot % num_classes for slot in range(slots)]  # newest first
        self._pushes = Timeline([[float(c)] for c in reversed(self._first_slots)])
        slot_of = np.repeat(np.arange(slots), self.slot_sizes)
        within = np.concatenate([np.arange(size) for size in self.slot_sizes])
        with tf.device("/cpu:0"):
            self._slot_of = tf.constant(slot_of, tf.int64)  # [B]
            self._within = tf.constant(within, tf.int64)  # [B]
            self._sizes = tf.constant(self.slot_sizes, tf.int64)  # [S]

    def actions(self) -> tuple[Push, ...]:
        """Pushing each class, C of them.

        Raises:
          ValueError: a script pushes the classes already.
        """
        if self.script is not None:
            raise ValueError(
                f"This ClassMix follows {type(self.script).__name__}(); expected no script where "
                "an agent is to push the classes. Leave script= out."
            )
        return tuple(Push(number).bound_to(self) for number in range(self.num_classes))

    def push(self, label: int | tf.Tensor) -> None:
        """Pushes a class into the queue; it shows `staleness` batches later.

        Args:
          label: from 0 to C - 1.
        """
        value = tf.cast(tf.reshape(label, [1]), tf.float64)
        self._pushes.append(value, self._from())

    def queue(self, number: tf.Tensor) -> tf.Tensor:
        """The classes of the slots at a batch, newest first, int64 `[S]`."""
        if self.script is None:
            return tf.cast(self._pushes.last(number)[::-1, 1], tf.int64)
        # After p pushes the slots hold pushes p - 1, p - 2, … and then what was there at first.
        age = tf.range(len(self.slot_sizes), dtype=tf.int64)
        done = number // self.script.every
        push = done - 1 - age
        first = tf.gather(tf.constant(self._first_slots, tf.int64), tf.maximum(age - done, 0))
        pushed = self.script.classes(tf.maximum(push, 0), self.num_classes, self._seed.read_value())
        return tf.where(push >= 0, pushed, first)

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: Orders) -> Choice:
        slots = self.queue(number)  # [S]
        seed = self._seed.read_value()
        # A class in several slots: each slot takes up where the ones before it ended.
        same = tf.cast(slots[:, tf.newaxis] == slots[tf.newaxis, :], tf.int64)
        earlier = tf.linalg.band_part(same, -1, 0) - tf.linalg.band_part(same, 0, 0)
        offset = tf.linalg.matvec(earlier, self._sizes)  # [S]
        label = tf.gather(slots, self._slot_of)  # [B]
        position = tf.gather(counters, label) + tf.gather(offset, self._slot_of) + self._within
        indices, orders = self._walks.take(orders, seed, label, position)
        taken = tf.scatter_nd(slots[:, tf.newaxis], self._sizes, [self.num_classes])  # [C]
        share = tf.cast(self._walks.sizes, tf.float32) / self.num_examples
        weight = share * self.batch_size / tf.cast(taken, tf.float32)  # [C]
        # Mixed within the batch, so that each replica of a strategy gets some of every class.
        key = tf.stack([-1 - seed, number])
        mixed = tf.argsort(tf.random.stateless_uniform([self.batch_size], key))
        return Choice(
            tf.gather(indices, mixed),
            tf.gather(weight, tf.gather(label, mixed)),
            counters + taken,
            orders,
        )

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        del indices
        return tf.cast(counted, tf.float32)

    def _forget(self) -> None:
        self._pushes.reset()

    def _state(self) -> dict[str, tf.Variable]:
        return super()._state() | {"pushes": self._pushes.rows}


def _mixed(value: tf.Tensor) -> tf.Tensor:
    """A number that looks random for each int64: the finalizer of SplitMix64 (Steele 2014)."""
    value += -7046029254386353131
    value = tf.bitwise.bitwise_xor(value, _high_bits(value, 30)) * -4658895280553007687
    value = tf.bitwise.bitwise_xor(value, _high_bits(value, 27)) * -7723592293110705685
    return tf.bitwise.bitwise_xor(value, _high_bits(value, 31))


def _high_bits(value: tf.Tensor, shift: int) -> tf.Tensor:
    """The bits above so many, as a number of at least 0."""
    kept = tf.constant(2 ** (64 - shift) - 1, tf.int64)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, tf.constant(shift, tf.int64)), kept)


def _slot_sizes(batch_size: int, slots: int, newest: int | None) -> tuple[int, ...]:
    """Examples of each slot, newest first."""
    if slots < 1 or batch_size < slots:
        raise ValueError(
            f"ClassMix got slots={slots} and batch_size={batch_size}; expected at least one slot, "
            "and a batch with an example for each. Choose fewer slots, or a larger batch."
        )
    if newest is None:
        others = max(1, int(_SHARE_OF_SLOTS * batch_size / slots))
        return (batch_size - (slots - 1) * others, *[others] * (slots - 1))
    left = batch_size - newest
    if newest < 1 or left < slots - 1 or (slots > 1 and left % (slots - 1)):
        raise ValueError(
            f"ClassMix got newest={newest} with batch_size={batch_size} and slots={slots}, which "
            f"leaves {left} examples for {slots - 1} slots; expected the same number, at least 1, "
            "for each. Choose newest so that batch_size - newest is a multiple of slots - 1."
        )
    return (newest, *[left // max(slots - 1, 1)] * (slots - 1))


def _check_enough(counts: np.ndarray, share: int) -> None:
    short = np.flatnonzero(counts < share)
    if short.size:
        raise ValueError(
            f"ClassMix got {counts[short[0]]} examples of class {short[0]} "
            f"({short.size} of {len(counts)} classes have too few); expected at least {share}, the "
            "newest slot's share of a batch, so that one slot need not hold an example twice. "
            "Choose a smaller batch_size, a smaller newest=, or leave the class out."
        )


def _checked_every(name: str, every: int) -> int:
    if every < 1 or int(every) != every:
        raise ValueError(
            f"{name} got every={every}; expected a number of batches between pushes, at least 1."
        )
    return int(every)
