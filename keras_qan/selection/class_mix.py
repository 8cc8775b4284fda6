"""Mini-batches by class: a queue of classes, each a slot of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.selection.actions import Push, PushHardest, PushRarest
from keras_qan.selection.base import Selector
from keras_qan.selection.labels import class_labels
from keras_qan.selection.loss_table import ClassLosses
from keras_qan.selection.observations import ClassExtremes
from keras_qan.selection.pipeline import ExampleChooser, ExampleSource
from keras_qan.selection.push_schedules import PushSchedule
from keras_qan.selection.stream_state import DelayedValues, EpochSampler, Orders

#: The original's 12 of 128 for each of ten slots; what is left over goes to the newest.
_SHARE_OF_SLOTS = 15 / 16

#: What is added to losses before their logarithms are taken.
_LEAST_LOSS = 1e-3


class ClassMix(Selector):
    """Batches from a queue of classes: the newest has the largest share (Fu's original code).

    An action pushes a class into a queue of `slots`, and the oldest drops out. Each slot has a
    fixed share of the batch; in the original the newest of ten has 20 of 128 examples and the
    others 12 each. The examples of a class are walked over without replacement; after the last one
    they are walked over again in another order. At first the slots hold the classes in turn, from
    class 0 as the newest.

    Nothing keeps a class in the queue, and a class that drops out is forgotten by the model. With
    `least`, each batch holds so many examples of every class, and the slots share the rest.

    With `unbiased`, an example of class c weighs N_c / N · B / (examples of c in the batch), so
    that each class that is in the batch counts as in the data. A class that is not in it is
    missing all the same.

    Args:
      dataset: single examples, (x, y) or (x, y, sample_weight), with integer or one-hot classes y;
        any other structure with `label`.
      num_classes: C, at least 2.
      batch_size: B, at least `slots` + C · `least`.
      slots: S, classes in the queue, at least 1.
      newest: examples of the newest slot; by default what is left when the slots share 15/16 of
        the batch in whole numbers (20 of 128). The others share the rest, which must be divisible.
      least: examples of every class in each batch, whatever the queue holds; 0 in the original.
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
        least: int = 0,
        script: PushSchedule | None = None,
        label: Callable[..., Any] | None = None,
        unbiased: bool = False,
        seed: int = 0,
    ) -> None:
        if num_classes < 2:
            raise ValueError(
                f"ClassMix got num_classes={num_classes}; expected at least 2. With one class "
                "there is nothing to choose; use selection.Uniform."
            )
        if least < 0 or int(least) != least:
            raise ValueError(
                f"ClassMix got least={least}; expected a number of examples of every class in each "
                "batch, at least 0."
            )
        self.slot_sizes = _slot_sizes(batch_size, slots, newest, num_classes * least)
        source = ExampleSource(dataset)
        labels = class_labels(source, num_classes, label)
        _check_enough(np.bincount(labels, minlength=num_classes), max(*self.slot_sizes, least))
        super().__init__(
            source,
            batch_size,
            walks=EpochSampler(labels, source.num_examples),
            groups=tuple(f"class {number}" for number in range(num_classes)),
            num_counters=num_classes,
            unbiased=unbiased,
            seed=seed,
        )
        self.num_classes = num_classes
        self.script = script
        self._first_slots = [slot % num_classes for slot in range(slots)]  # newest first
        self._pushes = DelayedValues([[float(c)] for c in reversed(self._first_slots)])
        # What every batch holds of each class is as if it had a slot of its own, for good.
        sizes = [*self.slot_sizes, *[least] * (num_classes if least else 0)]
        slot_of = np.repeat(np.arange(len(sizes)), sizes)
        within = np.concatenate([np.arange(size) for size in sizes])
        self.least = int(least)
        self._losses = ClassLosses(num_classes)
        with tf.device("/cpu:0"):
            self._label_of = tf.constant(labels.astype(np.min_scalar_type(num_classes - 1)))  # [N]
            self._slot_of = tf.constant(slot_of, tf.int64)  # [B]
            self._within = tf.constant(within, tf.int64)  # [B]
            self._sizes = tf.constant(sizes, tf.int64)  # [S], or [S + C]
            self._every_class = tf.range(num_classes if least else 0, dtype=tf.int64)

    def actions(self) -> tuple[Push, ...]:
        """The original's: pushing each class, C of them. An agent does better with `moves()`.

        Raises:
          ValueError: a script pushes the classes already.
        """
        self._check_no_script()
        return tuple(Push(number).bound_to(self) for number in range(self.num_classes))

    def moves(self) -> tuple[PushHardest | PushRarest, ...]:
        """Pushing the class of the highest loss, or the one that the queue holds least of.

        Raises:
          ValueError: a script pushes the classes already.
        """
        self._check_no_script()
        return PushHardest().bound_to(self), PushRarest().bound_to(self)

    def observations(self) -> tuple[ClassExtremes]:
        """The two classes that `moves` would push, bound to this selector."""
        return (ClassExtremes().bound_to(self),)

    def _check_no_script(self) -> None:
        if self.script is not None:
            raise ValueError(
                f"This ClassMix follows {type(self.script).__name__}(); expected no script where "
                "an agent is to push the classes. Leave script= out."
            )

    def push(self, label: int | tf.Tensor) -> None:
        """Pushes a class into the queue; it shows `staleness` batches later.

        Args:
          label: from 0 to C - 1.
        """
        value = tf.cast(tf.reshape(label, [1]), tf.float64)
        self._pushes.append(value, self._position.first_to_shape())

    def push_hardest(self) -> None:
        """Pushes the class of the highest recent loss; where none is known, class 0."""
        self.push(self._hardest())

    def push_rarest(self) -> None:
        """Pushes the class that the queue holds least of, the longest ago among equals."""
        self.push(self._rarest())

    def _hardest(self) -> tf.Tensor:
        means = self._losses.means.read_value()
        return tf.argmax(tf.where(tf.math.is_nan(means), -1.0, means))

    def _rarest(self) -> tf.Tensor:
        share, age = self._in_queue()
        # Shares differ by whole examples, which weigh more than any age.
        return tf.argmin(100.0 * self.batch_size * share - age)

    def _in_queue(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Each class's share of batches to come, and the pushes since its last, float32 `[C]`.

        The latter is a share of the queue's length: 1 or more for a class that has dropped out.
        """
        count = len(self.slot_sizes)
        classes = tf.cast(self._pushes.rows.read_value()[::-1, 1], tf.int32)  # [L], newest first
        is_there = tf.one_hot(classes, self.num_classes)  # [L, C]
        sizes = tf.constant(self.slot_sizes, tf.float32)[:, tf.newaxis]
        share = (tf.reduce_sum(is_there[:count] * sizes, axis=0) + self.least) / self.batch_size
        length = classes.shape[0]
        age = tf.range(length, dtype=tf.float32)[:, tf.newaxis] / count
        return share, tf.reduce_min(tf.where(is_there > 0.0, age, length / count), axis=0)

    def extremes(self) -> tf.Tensor:
        """What `ClassExtremes` shows, float32 `[6]`."""
        means = self._losses.means.read_value()
        is_known = tf.logical_not(tf.math.is_nan(means))
        known = tf.where(is_known, means, 0.0)
        average = tf.reduce_sum(known) / tf.maximum(tf.reduce_sum(tf.cast(is_known, tf.float32)), 1)
        relative = tf.math.log((known + _LEAST_LOSS) / (average + _LEAST_LOSS))
        relative = tf.where(is_known, relative, 0.0)
        share, age = self._in_queue()
        both = tf.stack([self._hardest(), self._rarest()])
        parts = [tf.gather(part, both) for part in (relative, share * self.num_classes, age)]
        return tf.reshape(tf.stack(parts, axis=1), [6])

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

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: Orders) -> ExampleChooser:
        slots = tf.concat([self.queue(number), self._every_class], axis=0)  # [S], or [S + C]
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
        return ExampleChooser(
            tf.gather(indices, mixed),
            tf.gather(weight, tf.gather(label, mixed)),
            counters + taken,
            orders,
        )

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        del indices
        return tf.cast(counted, tf.float32)

    def _learn(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        self._losses.update(tf.cast(tf.gather(self._label_of, indices), tf.int32), losses)

    def _loss_of_all(self) -> tf.Tensor:
        return self._losses.over_all(tf.cast(self._walks.sizes, tf.float32) / self.num_examples)

    def _forget(self) -> None:
        self._pushes.reset()
        self._losses.reset()

    def _state(self) -> dict[str, tf.Variable]:
        return super()._state() | {
            "pushes": self._pushes.rows,
            "class_losses": self._losses.means,
        }


def _slot_sizes(
    batch_size: int, slots: int, newest: int | None, reserved: int = 0
) -> tuple[int, ...]:
    """Examples of each slot, newest first, where so many of the batch are reserved."""
    batch_size -= reserved
    if slots < 1 or batch_size < slots:
        of_which = f" of which least= reserves {reserved}" if reserved else ""
        raise ValueError(
            f"ClassMix got slots={slots} and batch_size={batch_size + reserved}{of_which}; "
            "expected at least one slot, and a batch with an example for each. Choose fewer slots, "
            "or a larger batch."
        )
    if newest is None:
        others = max(1, int(_SHARE_OF_SLOTS * batch_size / slots))
        return (batch_size - (slots - 1) * others, *[others] * (slots - 1))
    left = batch_size - newest
    if newest < 1 or left < slots - 1 or (slots > 1 and left % (slots - 1)):
        raise ValueError(
            f"ClassMix got newest={newest} with batch_size={batch_size + reserved} and "
            f"slots={slots}, which "
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
