"""An agent that keeps the states it saw, and can be shown other trainings' states instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.agents import DQN, ActionChoice

#: Decisions of one training that can be kept.
MOST_DECISIONS = 64


class Witness(DQN):
    """A DQN that notes its states; with a bank, it sees a random row of the bank instead.

    The bank holds the states of other trainings of the same task, decision by decision: what is
    shown is right in time, and wrong in everything that is particular to the training.
    """

    def prepare(self) -> None:
        """Makes room; `build` comes first."""
        assert self._sizes is not None
        shape = [MOST_DECISIONS, self._sizes[0]]
        self.seen = tf.Variable(tf.zeros(shape), trainable=False)
        self.count = tf.Variable(0, trainable=False)
        self.seed_of_bank = tf.Variable(0, trainable=False)
        self.bank = tf.Variable(tf.zeros([0, *shape]), shape=[None, *shape], trainable=False)

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:
        """As DQN does, from its own state or a foreign one."""
        number = tf.minimum(self.count, MOST_DECISIONS - 1)
        self.seen.scatter_nd_update([[number]], [observation])
        self.count.assign_add(1)
        size = tf.shape(self.bank)[0]

        def foreign() -> tf.Tensor:
            draw = [self.seed_of_bank, number]
            row = tf.random.stateless_uniform([], draw, 0, size, tf.int32)
            return self.bank[row, number]

        shown = tf.cond(size > 0, foreign, lambda: observation)
        return super().act(shown, explore)

    def begin(self, bank: np.ndarray | None, seed: int) -> None:
        """Before a training: which bank, if any."""
        self.count.assign(0)
        self.seed_of_bank.assign(seed)
        empty: Any = np.zeros([0, *self.seen.shape], np.float32)
        self.bank.assign(empty if bank is None else bank)
