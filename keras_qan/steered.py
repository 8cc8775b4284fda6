"""What the controller reads and writes of a model in training, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_qan.observations import NUM_MOTIONS, motion


class Mirrors(NamedTuple):
    """The same variables on further devices, and further workers; nothing where there is one.

    A distribution strategy's own variables are no arguments for a compiled function, which would
    go on with those of the first model that it was called with: theirs are told apart by shape
    alone. So the controller is given each device's.

    Attributes:
      rates: for each learning rate, the same on the other devices.
      loss_totals: the other devices' sums of losses, each `[]`.
      loss_counts: and numbers of examples.
      team: the workers, where there are several.
    """

    rates: Sequence[Sequence[tf.Variable]] = ()
    loss_totals: Sequence[tf.Variable] = ()
    loss_counts: Sequence[tf.Variable] = ()
    team: Any = None


class Student(NamedTuple):
    """What the controller reads and writes of the model in training: TensorFlow variables.

    Attributes:
      kernels: the watched kernels, each `[..., I, J]`.
      rates: the optimizers' learning rates, each `[]`.
      loss_total: the sum of the losses of the epoch's examples so far, `[]`.
      loss_count: their number, `[]`.
      motion: room for each watched kernel's values at the last decision, how they moved before it,
        and their values when the training began: three variables for each, of its shape. Empty
        where no observation asks for it.
      saved: all that a step back restores: weights and optimizer slots. Empty where no action is
        a `StepBack`.
      copies: room for a copy of each of them.
      initial: room for the weights that the training began with: a copy of the first ones of
        `saved`.
      velocities: slots that a step back sets to zero instead: steps, which carry the learning rate
        that led astray.
      optimizer: whether it scales its gradients (1 or 0), and log(1 / (1 - momentum)), `[2]`.
      mirrors: the rates and sums of further devices; `saved` and `copies` hold those of all.
    """

    kernels: list[tf.Variable]
    rates: list[tf.Variable]
    loss_total: tf.Variable
    loss_count: tf.Variable
    motion: Sequence[tf.Variable] = ()
    saved: Sequence[tf.Variable] = ()
    copies: Sequence[tf.Variable] = ()
    initial: Sequence[tf.Variable] = ()
    velocities: Sequence[tf.Variable] = ()
    optimizer: Any = (1.0, 0.0)
    mirrors: Mirrors = Mirrors()


class Moment(NamedTuple):
    """Where in a training a decision is taken.

    Attributes:
      progress: the share of the training's steps that are done, in [0, 1].
      num_decisions: how many decisions the episode holds, as far as is known.
      num_steps: how many steps, as far as is known.
      interval: steps to the next decision.
      taken: steps since the last decision.
    """

    progress: float
    num_decisions: int
    num_steps: int
    interval: int
    taken: int


def assign(variables: Sequence[tf.Variable], values: Sequence[Any]) -> None:
    """Assigns value by value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(tf.convert_to_tensor(value))


def assign_rates(student: Student, rates: tf.Tensor) -> None:
    """Assigns the learning rates, `[K]`, on every device."""
    mirrors = student.mirrors.rates or [()] * len(student.rates)
    for number, (rate, others) in enumerate(zip(student.rates, mirrors, strict=True)):
        for variable in (rate, *others):
            variable.assign(tf.cast(rates[number], variable.dtype))


def loss_sums(student: Student) -> tf.Tensor:
    """Total and count of the epoch's losses on all devices of all workers, float32 `[2]`."""
    mirrors = student.mirrors
    parts = [
        tf.stack([tf.cast(total, tf.float32), tf.cast(count, tf.float32)])
        for total, count in zip(
            (student.loss_total, *mirrors.loss_totals),
            (student.loss_count, *mirrors.loss_counts),
            strict=True,
        )
    ]
    own = tf.add_n(parts) if len(parts) > 1 else parts[0]
    return own if mirrors.team is None else tf.reduce_sum(mirrors.team.gather(own), axis=0)


def clear_loss_sums(student: Student, condition: tf.Tensor) -> None:
    """Sets the epoch's sums back to zero on every device where the condition holds."""
    mirrors = student.mirrors
    own = (student.loss_total, student.loss_count)
    for variable in (*own, *mirrors.loss_totals, *mirrors.loss_counts):
        variable.assign(tf.where(condition, tf.zeros_like(variable), variable))


def restore(student: Student, condition: tf.Tensor) -> None:
    """Sets weights and slots back to their copies, without speed, where the condition holds."""

    def restore() -> tf.Tensor:
        assign(student.saved, student.copies)
        assign(student.velocities, [tf.zeros_like(each) for each in student.velocities])
        return tf.constant(True)

    tf.cond(condition, restore, lambda: tf.constant(False))


def discredit(student: Student, condition: tf.Tensor) -> None:
    """Takes the first weights for the copied ones where the condition holds."""

    def replace() -> tf.Tensor:
        assign(student.copies[: len(student.initial)], student.initial)
        return tf.constant(True)

    tf.cond(condition, replace, lambda: tf.constant(False))


def mean_motion(student: Student, taken: tf.Tensor) -> tf.Tensor:
    """The mean motion of the watched kernels, float32 `[3]`; zeros where nobody asks for it."""
    if not student.motion:
        return tf.zeros([NUM_MOTIONS])
    rooms = [tf.reshape(tf.cast(room, tf.float32), [-1]) for room in student.motion]
    kernels = [tf.reshape(tf.cast(kernel, tf.float32), [-1]) for kernel in student.kernels]
    parts = [
        motion(
            kernel,
            before=rooms[3 * number],
            last=rooms[3 * number + 1],
            start=rooms[3 * number + 2],
            steps=tf.maximum(taken, 1.0),
        )
        for number, kernel in enumerate(kernels)
    ]
    return tf.add_n(parts) / len(parts)


def note_motion(student: Student) -> None:
    """Notes how the watched kernels came where they are, before they may be set back."""
    for number, kernel in enumerate(student.kernels if student.motion else ()):
        before, moved = student.motion[3 * number : 3 * number + 2]
        moved.assign(tf.convert_to_tensor(kernel) - before)
