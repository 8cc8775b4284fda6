"""The schedule of decisions, in optimizer steps, whatever Keras's hooks count in."""

from __future__ import annotations

import math
from typing import Any

from keras_qan.qan.controller import PARTS_OF_TRAINING
from keras_qan.qan.rule import DecisionContext

#: Steps between decisions while the length of the training is not known yet.
STEPS_WHILE_LENGTH_UNKNOWN = 25


#: Parts that a training with dense first decisions is divided into.
DENSE_PARTS = 24

#: Names of counters in what earlier versions wrote.
_FORMER_NAMES = {"_decide_every": "_asked", "_next_call": "_look_at"}

#: By which share the steps done may grow between two of the first decisions.
DENSE_GROWTH = 0.5


def dense_interval(step: int, num_steps: int, shortest: int = 2) -> int:
    """Return the steps from a decision to the next, where the first ones lie close together.

    Two steps at least, as the first loss after a decision is not its doing; then half of what is
    done already, up to a twenty-fourth of the training.
    """
    longest = max(shortest, round(num_steps / DENSE_PARTS))
    return min(max(shortest, math.ceil(DENSE_GROWTH * step)), longest)


def dense_decisions(num_steps: int, shortest: int = 2) -> list[int]:
    """Return the steps of a training after which a decision is taken; the first is 0.

    A last interval is at least half as long as those before it.
    """
    steps = [0]
    while True:
        interval = dense_interval(steps[-1], num_steps, shortest)
        following = steps[-1] + interval
        if num_steps - following < max(interval / 2, shortest):
            return steps
        steps.append(following)


class DecisionSchedule:
    """The schedule of decisions of one training.

    A decision is due every `every` steps. At the first call after a decision counting starts anew
    instead: the losses until then were fixed before the decision could show. Where decisions show
    `staleness` batches late, counting starts so much later, and no interval is so short that
    nothing would be left to count.

    Args:
      decide_every: steps between decisions, or None for a twentieth of the training.
      dense_start: whether the first decisions lie close together (`dense_decisions`), so that a
        rate that is far off is noticed at once; `decide_every` is None then.
      fewest: steps between decisions at least. Defaults to 1.

    Attributes:
      every: steps between decisions; where the start is dense, to the next one.
      num_decisions: how many the training holds, as far as is known.
      step: steps done, those before a resumed `fit` included.
      start: steps done before this `fit`.
    """

    def __init__(
        self,
        decide_every: int | None,
        dense_start: bool = False,
        fewest: int = 1,
    ) -> None:
        self._decide_every = decide_every
        self._dense_start = dense_start
        self._staleness = 0
        self._fewest = fewest
        self._call_every = 1
        self.every = 2 if dense_start else decide_every or STEPS_WHILE_LENGTH_UNKNOWN
        self.every = max(self.every, self._shortest)
        self.num_decisions = PARTS_OF_TRAINING
        self.step = self.start = 0
        self._num_steps: int | None = None
        self._epoch_start = 0
        self._last_decision = 0
        self._next_call = self._count_from

    @property
    def _shortest(self) -> int:
        """The fewest steps between decisions."""
        if not self._staleness:
            return max(self._call_every, self._fewest)
        # Calls until the decision shows, and one more to count its losses.
        return (-(-(1 + self._staleness) // self._call_every) + 1) * self._call_every

    @property
    def _count_from(self) -> int:
        """The step after which every loss is of weights that the last decision shaped."""
        return self._last_decision + 1 + self._staleness

    @property
    def knows_length(self) -> bool:
        """True once the number of steps in the training is known."""
        return self._num_steps is not None

    def set_length(self, steps_an_epoch: int, num_epochs: int, done: int = 0) -> None:
        """Note how long the training is.

        Args:
          steps_an_epoch: steps in each epoch.
          num_epochs: epochs in all, those of a resumed training before this `fit` included.
          done: steps that were done before this `fit`. Defaults to 0.
        """
        self._num_steps = max(steps_an_epoch * num_epochs, 1)
        if done:
            self.step = self.start = self._last_decision = self._epoch_start = done
            self._next_call = self._count_from
        if self._dense_start:
            shortest = max(2, self._shortest)
            self.num_decisions = len(dense_decisions(self._num_steps, shortest))
            return
        self.every = self._decide_every or max(1, round(self._num_steps / PARTS_OF_TRAINING))
        self.every = max(self.every, self._shortest)
        self._count_decisions()
        if self._next_call > self._count_from:
            self._next_call = self._last_decision + self.every

    @property
    def length(self) -> int:
        """The number of steps in the training, as far as is known; else 0."""
        return self._num_steps or 0

    def extend(self, num_steps: int) -> None:
        """Take a training that has begun for so many steps long."""
        self._num_steps = num_steps

    def _count_decisions(self) -> None:
        if self._num_steps is not None:
            # One more where enough of an interval is left, as `wants_decision` has it.
            more = math.floor((self._num_steps - self._fewest_left) / self.every)
            self.num_decisions = max(1, more + 1)

    def note_staleness(self, staleness: int, steps_per_call: int) -> None:
        """Note, before the first step, how many batches late a decision shows.

        Args:
          staleness: batches between a decision and the first one that it shapes.
          steps_per_call: steps between two calls of Keras's hook.

        Raises:
          ValueError: no interval of `decide_every` steps has losses of its own then.
        """
        _check_interval(self._decide_every, staleness)
        self._staleness = staleness
        self._call_every = steps_per_call if staleness else 1
        self.every = max(self.every, self._shortest)
        self._next_call = self._count_from

    def begin_epoch(self) -> None:
        """Count batches from zero again."""
        self._epoch_start = self.step

    @property
    def steps_in_epoch(self) -> int:
        """Steps done in the present epoch."""
        return self.step - self._epoch_start

    def advance(self, batch: int) -> bool:
        """Count the steps up to a batch.

        Args:
          batch: Keras's index of the last batch done, from 0 in each epoch.

        Returns:
          Whether anything is to be done now.
        """
        if self.step == 0:
            self._call_every = batch + 1
            if self._shortest > self.every:
                # No more decisions can be taken than Keras calls.
                self.every = self._shortest
                self._count_decisions()
        self.step = self._epoch_start + batch + 1
        return self.step >= self._next_call

    def wants_decision(self) -> bool:
        """Return whether a decision is due, and enough of the training is left for it to show."""
        if self.step < self._last_decision + self.every:
            return False
        left = None if self._num_steps is None else self._num_steps - self.step
        return left is None or left >= max(self._fewest_left, 1)

    @property
    def _fewest_left(self) -> float:
        """Steps that have to be left for a decision to show: half an interval."""
        return max(self.every / 2, self._staleness + 2 if self._staleness else 0)

    def starts_counting(self) -> bool:
        """Return whether the losses of the last decision count from here."""
        return self.step < self._last_decision + self.every

    @property
    def credit_is_delayed(self) -> bool:
        """True where every call of Keras's hook brings a decision."""
        return self.every <= self._call_every

    def note_decision(self) -> None:
        """Note that a decision was taken at this step."""
        if self._dense_start:
            # While the length is unknown, as if ten times as much were to come as is done.
            length = self._num_steps or 10 * self.step
            self.every = self._dense_interval(length)
        self._last_decision = self.step
        self._next_call = self._count_from

    def _dense_interval(self, length: int) -> int:
        return dense_interval(self.step, length, max(2, self._shortest))

    def counting_started(self) -> None:
        """Note that counting started: nothing is to be done before the next decision."""
        self._next_call = self._last_decision + self.every

    def context(self) -> DecisionContext:
        """Return the context of a decision that is taken now."""
        interval = self.every
        if self._dense_start:
            interval = self._dense_interval(self._num_steps or 10 * max(self.step, 1))
        return DecisionContext(
            progress=self.progress(),
            num_decisions=self.num_decisions,
            num_steps=self._num_steps or STEPS_WHILE_LENGTH_UNKNOWN * PARTS_OF_TRAINING,
            interval=max(interval, self._shortest),
            taken=max(self.step - self._last_decision, 1),
        )

    def as_data(self) -> dict[str, Any]:
        """Return its counters as plain data."""
        return dict(vars(self))

    def restore(self, data: dict[str, Any]) -> None:
        """Take over what `as_data` gave.

        Raises:
          KeyError: a counter is missing.
        """
        known = (
            {"start": 0, "_fewest": 1}
            | data
            | {new: data[old] for new, old in _FORMER_NAMES.items() if old in data}
        )
        vars(self).update({name: known[name] for name in vars(self)})

    def progress(self) -> float:
        """Return the share of the training that is done; 0 while its length is unknown."""
        return 0.0 if self._num_steps is None else min(self.step / self._num_steps, 1.0)


def _check_interval(decide_every: int | None, staleness: int) -> None:
    if staleness and decide_every is not None and decide_every < staleness + 2:
        raise ValueError(
            f"decide_every is {decide_every}, and what is chosen shows {staleness} batches later; "
            f"expected at least {staleness + 2} steps between decisions, so that each has losses "
            "of its own. Decide less often, or use selector.dataset(prefetch=0)."
        )
