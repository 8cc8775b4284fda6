"""Mini-batches by class: a queue of classes, each a slot of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_qan.selection.actions import Push, PushHardest, PushRarest
from keras_qan.selection.base import Selector
from keras_qan.selection.loss_table import ClassLosses
from keras_qan.selection.observations import ClassExtremes, SelectionState
from keras_qan.selection.pipeline import BatchChoice, ExampleSource
from keras_qan.selection.push_schedules import PushSchedule
from keras_qan.selection.stream_state import EpochOrders, EpochSampler
from keras_qan.utils.validation import check, check_integer

#: The original's 12 of 128 for each of ten slots; the rest goes to the newest.
_SHARE_OF_SLOTS = 15 / 16

#: Added to losses before their logarithms are taken.
_LEAST_LOSS = 1e-3

_INSTEAD = (
    "For regression, choose by loss: selection.LossRank or selection.Prune; or "
    "selection.Uniform as a baseline."
)


class ClassMix(Selector):
    """Batches from a queue of classes: the newest has the largest share (Fu's original code).

    An action pushes a class into a queue of `slots`, and the oldest drops out. Each slot has a
    fixed share of the batch; in the original the newest of ten has 20 of 128 examples and the
    others 12 each. The examples of a class are sampled without replacement, epoch after epoch in
    another order. At first the slots hold the classes in turn, from class 0 as the newest.

    Nothing keeps a class in the queue, and a class that drops out is forgotten by the model. With
    `least`, each batch holds so many examples of every class, and the slots share the rest.

    With `unbiased`, an example of class c weighs N_c / N · B / (examples of c in the batch), so
    that each class in the batch counts as in the data. A class that is not in it is missing all
    the same.

    Args:
      dataset: single examples, (x, y) or (x, y, sample_weight), with integer or one-hot classes y;
        any other structure with `label`.
      num_classes: C, at least 2.
      batch_size: B, at least `slots` + C · `least`.
      slots: S, classes in the queue, at least 1. Defaults to 10.
      newest: examples of the newest slot; the others share the rest, which must be divisible.
        Defaults to the remainder when all slots share 15/16 of the batch in whole numbers (20 of
        128).
      least: examples of every class in each batch, whatever the queue holds. Defaults to 0, as in
        the original.
      script: `Cycle()` or `Draw()`, to push classes without an agent. Defaults to none.
      label: from an example, as the dataset gives it, to its class. Defaults to y.
      unbiased: whether batches carry weights. Defaults to False.
      seed: seed of the orders, at least 0. Defaults to 0.

    Attributes:
      num_classes: C.
      slot_sizes: examples of each slot, newest first, S of them.

    Raises:
      TypeError: it is no dataset, or holds sparse tensors.
      ValueError: an argument is out of range, a class has no examples or fewer than a slot's
        share, or the labels are no classes.
    """

    supports = (Push, PushHardest, PushRarest, ClassExtremes, SelectionState)

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
        hint = "With one class there is nothing to choose; use selection.Uniform."
        self.num_classes = check_integer("num_classes", num_classes, 2, hint=hint)
        hint = "It is a number of examples of every class in each batch."
        self.least = check_integer("least", least, 0, hint=hint)
        self.slot_sizes = _slot_sizes(batch_size, slots, newest, num_classes * least)
        source = ExampleSource(dataset)
        labels = _class_labels(source, num_classes, label)
        _check_enough(np.bincount(labels, minlength=num_classes), max(*self.slot_sizes, least))
        super().__init__(
            source,
            batch_size,
            sampler=EpochSampler(labels, source.num_examples),
            groups=tuple(f"class {number}" for number in range(num_classes)),
            num_counters=num_classes,
            unbiased=unbiased,
            seed=seed,
        )
        self.script = script
        self._first_slots = [slot % num_classes for slot in range(slots)]  # newest first
        initial = [[float(label)] for label in reversed(self._first_slots)]
        self._pushes = self._stream.delayed_values("pushes", initial)
        # The least share of each class is a slot of its own, for good.
        sizes = [*self.slot_sizes, *[least] * (num_classes if least else 0)]
        slot_of = np.repeat(np.arange(len(sizes)), sizes)
        self._losses = ClassLosses(num_classes)
        with tf.device("/cpu:0"):
            self._label_of = tf.constant(labels.astype(np.min_scalar_type(num_classes - 1)))  # [N]
            self._slot_of = tf.constant(slot_of, tf.int64)  # [B]
            self._every_class = tf.range(num_classes if least else 0, dtype=tf.int64)

    def actions(self) -> tuple[PushHardest | PushRarest, ...]:
        """Push the class of the highest loss, or the one that the queue holds least of.

        Raises:
          ValueError: a script pushes the classes already.
        """
        self._check_no_script()
        return PushHardest().bound_to(self), PushRarest().bound_to(self)

    def raw_actions(self) -> tuple[Push, ...]:
        """The original's: push each class, C of them. An agent does better with `actions()`.

        Raises:
          ValueError: a script pushes the classes already.
        """
        self._check_no_script()
        return tuple(Push(number).bound_to(self) for number in range(self.num_classes))

    def observations(self) -> tuple[ClassExtremes]:
        """The two classes that `actions` would push, bound to this selector."""
        return (ClassExtremes().bound_to(self),)

    def _check_no_script(self) -> None:
        if self.script is not None:
            raise ValueError(
                f"This ClassMix follows {type(self.script).__name__}(); expected no script where "
                "an agent is to push the classes. Leave script= out."
            )

    def push(self, label: int | tf.Tensor) -> None:
        """Push a class into the queue; it shows `staleness` batches later.

        Args:
          label: from 0 to C - 1.
        """
        value = tf.cast(tf.reshape(label, [1]), tf.float64)
        self._pushes.append(value, self._stream.first_to_shape())

    def push_hardest(self) -> None:
        """Push the class of the highest recent loss; where none is known, class 0."""
        self.push(self._hardest())

    def push_rarest(self) -> None:
        """Push the class that the queue holds least of, the longest ago among equals."""
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
        """Return the six numbers of `ClassExtremes`, float32 `[6]`."""
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
        """Return the classes of the slots at a batch, newest first, int64 `[S]`.

        Args:
          number: of the batch, int64 `[]`.
        """
        if self.script is None:
            return tf.cast(self._pushes.at(number)[::-1, 1], tf.int64)
        # After p pushes the slots hold pushes p - 1, p - 2, … and then the first classes.
        age = tf.range(len(self.slot_sizes), dtype=tf.int64)
        done = number // self.script.every
        push = done - 1 - age
        first = tf.gather(tf.constant(self._first_slots, tf.int64), tf.maximum(age - done, 0))
        seed = self._stream.seed.read_value()
        pushed = self.script.classes(tf.maximum(push, 0), self.num_classes, seed)
        return tf.where(push >= 0, pushed, first)

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: EpochOrders) -> BatchChoice:
        by_slot = tf.gather(tf.concat([self.queue(number), self._every_class], 0), self._slot_of)
        label = tf.where(self._is_off(number), self._as_in_data(number), by_slot)
        label = tf.math.top_k(label, self.batch_size).values  # class by class, [B]
        taken = tf.math.unsorted_segment_sum(tf.ones_like(label), label, self.num_classes)  # [C]
        first = tf.cumsum(taken, exclusive=True, reverse=True)  # place of each class's first
        place = tf.range(self.batch_size, dtype=tf.int64)
        indices, orders = self._stream.sample(
            orders, label, tf.gather(counters - first, label) + place
        )
        weight = self._class_shares() * self.batch_size / tf.cast(taken, tf.float32)  # [C]
        # Mixed within the batch, so that each replica of a strategy gets some of every class.
        key = tf.stack([-1 - self._stream.seed.read_value(), number])
        mixed = tf.argsort(tf.random.stateless_uniform([self.batch_size], key))
        return BatchChoice(
            tf.gather(indices, mixed),
            tf.gather(weight, tf.gather(label, mixed)),
            counters + taken,
            orders,
        )

    def _as_in_data(self, number: tf.Tensor) -> tf.Tensor:
        """Classes of a batch, drawn by their shares in the data, int64 `[B]`."""
        key = tf.stack([self._stream.seed.read_value(), -1 - number])
        drawn = tf.random.stateless_uniform(
            [self.batch_size], key, maxval=self.num_examples, dtype=tf.int32
        )
        return tf.cast(tf.gather(self._label_of, drawn), tf.int64)

    def _class_shares(self) -> tf.Tensor:
        """N_c / N, float32 `[C]`."""
        return tf.cast(self._stream.sampler.sizes, tf.float32) / self.num_examples

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        del indices
        return tf.cast(counted, tf.float32)

    def _learn(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        self._losses.update(tf.cast(tf.gather(self._label_of, indices), tf.int32), losses)

    def _loss_of_all(self) -> tf.Tensor:
        return self._losses.over_all(self._class_shares())

    def _reset(self) -> None:
        self._losses.reset()

    def _state(self) -> dict[str, tf.Variable]:
        return super()._state() | {"class_losses": self._losses.means}


def _slot_sizes(
    batch_size: int, slots: int, newest: int | None, reserved: int = 0
) -> tuple[int, ...]:
    """Examples of each slot, newest first, where some of the batch are reserved."""
    batch_size -= reserved
    of_which = f" of which least= reserves {reserved}" if reserved else ""
    received = f"{slots} with a batch_size of {batch_size + reserved}{of_which}"
    if slots < 1 or batch_size < slots:
        raise ValueError(
            f"slots is {received}; expected at least one slot, and a batch with an example for "
            "each. Choose fewer slots, or a larger batch."
        )
    if newest is None:
        others = max(1, int(_SHARE_OF_SLOTS * batch_size / slots))
        return (batch_size - (slots - 1) * others, *[others] * (slots - 1))
    left = batch_size - newest
    if newest < 1 or left < slots - 1 or (slots > 1 and left % (slots - 1)):
        raise ValueError(
            f"newest is {newest} and slots is {received}, which leaves {left} examples for "
            f"{slots - 1} slots; expected the same number, at least 1, for each. Choose newest so "
            "that batch_size - newest is a multiple of slots - 1."
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


def _class_labels(
    source: ExampleSource, num_classes: int, label: Callable[..., Any] | None
) -> npt.NDArray[np.int64]:
    """Find the class of every example.

    Args:
      source: the examples.
      num_classes: C.
      label: from one example, as the dataset gives it, to its class; None for the second part of
        a tuple `(x, y)` or `(x, y, sample_weight)`.

    Returns:
      int64 `[N]`, each from 0 to C - 1 and each class at least once.

    Raises:
      ValueError: there are no labels, they are no classes, or a class has no example.
    """
    targets = _targets(source) if label is None else _labels_by(label, source)
    labels = _as_classes(targets, num_classes)
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if outside.size:
        raise ValueError(
            f"ClassMix got the label {outside[0]} ({outside.size} examples are outside the range); "
            f"expected classes from 0 to {num_classes - 1}, as num_classes={num_classes}. Pass the "
            "number of classes, or renumber the labels."
        )
    missing = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if missing.size:
        raise ValueError(
            f"ClassMix got no examples of class {', '.join(map(str, missing[:5]))} "
            f"({missing.size} of {num_classes} classes are empty); expected at least one of each. "
            "Pass the number of classes in the data, or check the labels."
        )
    return labels


def _labels_by(label: Callable[..., Any], source: ExampleSource) -> Any:
    def of(index: tf.Tensor) -> Any:
        example = tf.nest.map_structure(lambda part: part[0], source.batch(index[tf.newaxis]))
        return label(*example) if isinstance(example, tuple) else label(example)

    found = tf.data.Dataset.range(source.num_examples).map(of)
    check(
        not tf.nest.is_nested(found.element_spec),
        "The result of label",
        found.element_spec,
        "one tensor: an integer class or a one-hot vector",
    )
    return next(iter(found.batch(source.num_examples))).numpy()


def _targets(source: ExampleSource) -> Any:
    columns = source.columns()
    check(
        isinstance(columns, tuple) and len(columns) > 1 and not tf.nest.is_nested(columns[1]),
        "The examples' structure",
        source.spec,
        "(x, y) or (x, y, sample_weight) with one tensor y of classes",
        "Say where the class is: label=lambda x, y: y['digit'], or "
        "label=lambda example: example['label'].",
    )
    return columns[1].numpy()


def _as_classes(targets: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.int64]:
    is_integer = np.issubdtype(targets.dtype, np.integer) or targets.dtype == np.bool_
    check(
        is_integer or np.issubdtype(targets.dtype, np.floating),
        "The targets' dtype",
        str(targets.dtype),
        "integer classes or one-hot vectors",
        "Number the classes first, for example with keras.layers.StringLookup.",
    )
    shape = targets.shape[1:]
    if shape == (num_classes,):
        check(
            bool((targets >= 0).all()) and np.allclose(targets.sum(axis=1), 1, atol=1e-3),
            "The targets' shape",
            shape,
            "classes, one-hot or as shares, and the rows do not add up to 1",
            _INSTEAD,
        )
        return targets.argmax(axis=1).astype(np.int64)
    check(
        shape in ((), (1,)),
        "The targets' shape",
        shape,
        f"one class for each example, or a one-hot vector of num_classes={num_classes}",
        f"Pass the number of classes that the vectors have. {_INSTEAD}",
    )
    targets = targets.reshape(-1)
    if not is_integer and not (np.isfinite(targets) & (targets == np.rint(targets))).all():
        raise ValueError(
            f"ClassMix got {targets.dtype} targets that are no whole numbers (the first is "
            f"{targets[0]:.6g}); expected classes. {_INSTEAD}"
        )
    return targets.astype(np.int64)
