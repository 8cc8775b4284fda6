"""When decisions are due: counted in optimizer steps, whatever Keras's hooks count in."""

from __future__ import annotations

from keras_qan.controller import PARTS_OF_TRAINING

#: Steps between decisions while the length of the training is not known yet.
STEPS_WHILE_LENGTH_UNKNOWN = 25


class Pace:
    """The rhythm of one training.

    A decision is due every `every` steps. At the first call after a decision the losses are to be
    marked instead: what was counted until then was fixed before the decision could show.

    Args:
      decide_every: steps between decisions, or None for a twentieth of the training.

    Attributes:
      every: steps between decisions.
      num_decisions: how many the training holds, as far as is known.
      step: steps done.
    """

    def __init__(self, decide_every: int | None) -> None:
        self._asked = decide_every
        self.every = decide_every or STEPS_WHILE_LENGTH_UNKNOWN
        self.num_decisions = PARTS_OF_TRAINING
        self.step = 0
        self._num_steps: int | None = None
        self._epoch_start = 0
        self._last_decision = 0
        self._look_at = 1
        self._call_every = 1

    @property
    def knows_length(self) -> bool:
        """Whether the number of steps in the training is known."""
        return self._num_steps is not None

    def set_length(self, steps_an_epoch: int, num_epochs: int) -> None:
        """Notes how long the training is."""
        self._num_steps = max(steps_an_epoch * num_epochs, 1)
        self.every = self._asked or max(1, round(self._num_steps / PARTS_OF_TRAINING))
        self.num_decisions = max(1, round(self._num_steps / self.every))

    def begin_epoch(self) -> None:
        """Batches are counted from zero again."""
        self._epoch_start = self.step

    @property
    def steps_in_epoch(self) -> int:
        """Steps done in the present epoch."""
        return self.step - self._epoch_start

    def advance(self, batch: int) -> bool:
        """Counts the steps up to a batch.

        Args:
          batch: Keras's index of the last batch done, from 0 in each epoch.

        Returns:
          Whether anything is to be done now.
        """
        if self.step == 0:
            self._call_every = batch + 1
        self.step = self._epoch_start + batch + 1
        return self.step >= self._look_at

    def wants_decision(self) -> bool:
        """Whether a decision is due, and enough of the training is left for it to show."""
        if self.step < self._last_decision + self.every:
            return False
        left = None if self._num_steps is None else self._num_steps - self.step
        return left is None or left >= max(self.every / 2, 1)

    def wants_mark(self) -> bool:
        """Whether the losses of the last decision are to be counted from here."""
        return self.step < self._last_decision + self.every

    @property
    def is_delayed(self) -> bool:
        """Whether every call of Keras's hook brings a decision, so that none falls in between."""
        return self.every <= self._call_every

    def decided(self) -> None:
        """Notes that a decision was taken at this step."""
        self._last_decision = self.step
        self._look_at = self.step + 1

    def marked(self) -> None:
        """Notes that the losses were marked: nothing is to be done before the next decision."""
        self._look_at = self._last_decision + self.every

    def progress(self) -> float:
        """The share of the training that is done; 0 while its length is unknown."""
        return 0.0 if self._num_steps is None else min(self.step / self._num_steps, 1.0)
