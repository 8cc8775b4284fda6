"""The mean training loss between two decisions, out of sums that Keras sets back at each epoch."""

from __future__ import annotations

import tensorflow as tf

from keras_qan import steered
from keras_qan.steered import Student


class IntervalLoss:
    """Counts losses from where it was last asked.

    An interval's losses are a difference of Keras's running sums plus what was kept of epochs that
    ended within it.

    Attributes:
      counted: total and count that stood in Keras's sums when counting began, float32 `[2]`.
      left_over: total and count kept of epochs that ended since, float32 `[2]`.
    """

    def __init__(self) -> None:
        self.counted = tf.Variable(tf.zeros([2]), trainable=False)
        self.left_over = tf.Variable(tf.zeros([2]), trainable=False)

    def reset(self) -> None:
        """Forgets all that was counted."""
        for variable in (self.counted, self.left_over):
            variable.assign(tf.zeros_like(variable))

    def keep(self, student: Student) -> None:
        """Keeps what was counted before Keras sets its sums back to zero."""
        self.left_over.assign(self._since(steered.loss_sums(student)))
        self.counted.assign(tf.zeros([2]))

    def mean(self, student: Student) -> float:
        """The mean loss so far; not-a-number where no step was taken."""
        total, count = self._since(steered.loss_sums(student)).numpy()
        return float(total / count) if count else float("nan")

    def take(self, student: Student, largest: tf.Tensor | None) -> tf.Tensor:
        """The mean loss so far, `[]`, in a compiled function; counting starts anew.

        Args:
          student: the model in training.
          largest: above it, or where it is no number, a loss is taken out of Keras's sums; None
            to leave them alone.
        """
        sums = steered.loss_sums(student)
        since = self._since(sums)
        loss = since[0] / since[1]
        if largest is not None:
            # Beside a sum that is no number, or is beyond all others, Keras's float32 would not
            # tell the losses that follow. The epoch's mean goes on without what was set back.
            usable = tf.math.is_finite(sums[0]) & (loss < largest)
            usable |= tf.equal(since[1], 0.0)
            steered.clear_loss_sums(student, ~usable)
            sums = tf.where(usable, sums, tf.zeros([2]))
        self.counted.assign(sums)
        self.left_over.assign(tf.zeros([2]))
        return loss

    def _since(self, sums: tf.Tensor) -> tf.Tensor:
        """Total and count of the losses since the last call of `take`, float32 `[2]`."""
        # A smaller count than was seen means that somebody set the sums back in between.
        before = tf.where(sums[1] >= self.counted[1], self.counted, tf.zeros([2]))
        return sums - before + self.left_over
