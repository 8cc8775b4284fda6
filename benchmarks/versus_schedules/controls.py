"""An agent that keeps the states it saw, and can be shown other trainings' states instead."""

from __future__ import annotations

import numpy as np

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
        self.seen = np.zeros((MOST_DECISIONS, self._sizes[0]), np.float32)
        self.begin(None, 0)

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:
        """As DQN does, from its own state or a foreign one."""
        number = min(self.count, MOST_DECISIONS - 1)
        self.seen[number] = observation
        self.count += 1
        if self.bank is not None:
            row = np.random.default_rng([self.seed_of_bank, number]).integers(len(self.bank))
            observation = self.bank[row, number]
        return super().act(observation, explore)

    def begin(self, bank: np.ndarray | None, seed: int) -> None:
        """Before a training: which bank, if any."""
        self.count, self.seed_of_bank = 0, seed
        self.bank = bank if bank is not None and len(bank) else None
        self.seen[:] = 0.0
