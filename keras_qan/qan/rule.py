"""What one turn of the loop is told and what it did: Python numbers outside, one tensor inside."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_qan.qan.model_access import FitProgress


class Decision(NamedTuple):
    """What one turn did; Python numbers.

    Attributes:
      action: the chosen action's index.
      rate: the learning rate that was assigned (the first optimizer's).
      rate_found: the learning rate before.
      reward: what the decision before this one was worth; not-a-number at the first.
      loss: the mean training loss since the decision before; not-a-number at the first.
      epsilon: the probability of a random action.
      td_loss: the agent's loss; not-a-number where it learned nothing.
      q_values: the estimated value of each action, `[A]`.
    """

    action: int
    rate: float
    rate_found: float
    reward: float
    loss: float
    epsilon: float
    td_loss: float
    q_values: list[float]

    @classmethod
    def of(cls, packed: tf.Tensor) -> Decision:
        """Unpacks what a compiled turn returned: all of it in one tensor, float32 `[7 + A]`."""
        numbers = packed.numpy().tolist()
        action, rate, found, reward, loss, epsilon, td_loss, *q_values = numbers
        return cls(int(action), rate, found, reward, loss, epsilon, td_loss, q_values)


class DecisionContext(NamedTuple):
    """`Moment` and whether the agent learns and explores, as tensors `[]`, float32."""

    progress: tf.Tensor
    num_decisions: tf.Tensor
    num_steps: tf.Tensor
    interval: tf.Tensor
    taken: tf.Tensor
    learns: tf.Tensor
    explore: tf.Tensor

    @classmethod
    def of(cls, moment: FitProgress, learns: bool, explore: bool) -> DecisionContext:
        """Makes them of Python numbers."""
        numbers = tf.constant([*moment, learns, explore], tf.float32)
        return cls(*tf.unstack(numbers))
