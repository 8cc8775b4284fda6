"""The state of one episode: all that a `Controller` knows of the training that it steers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_qan.actions import OptionContext
from keras_qan.observations import loss_history
from keras_qan.observations.loss_history import LossHistory
from keras_qan.qan.descent_check import DescentCheck
from keras_qan.qan.interval_loss import IntervalLoss, mean_of
from keras_qan.qan.rewards import OptionReturn
from keras_qan.qan.step_back_guard import StepBackGuard

#: log(loss / first loss) of a network that has learned.
LEARNED = -1.0

#: log(loss / first loss) below which few batches may be learned by heart.
LEARNS = -0.5

#: What the rates may then be: a multiple of those that the training began with, or a share of those
#: that led there, where that is more.
FEW_BATCHES_FACTOR, FEW_BATCHES_SHARE = 2.0, 1.0 / 12.0

#: log(validation loss / training loss) below which what is learned holds for other examples too,
#: and the factor by which the limit then grows from epoch to epoch.
SMALL_GAP, GROWTH = 0.1, 2.0

#: log(loss / lowest loss) below which a loss that has jumped has come back, the factor of the raise
#: that did harm, and the decisions in a row after which it is taken for lasting.
HARM, RAISED, LASTING = 0.3, 1.5, 3


def _no_rates() -> np.ndarray:
    return np.zeros(0)


def _no_option() -> OptionContext:
    return OptionContext(_no_rates(), _no_rates(), _no_rates(), 0.0, 0.0)


@dataclasses.dataclass
class Episode:
    """The state of one episode, without agent and model.

    Attributes:
      observation: the agent's state at the last choice, float32 `[F]`.
      action: what was chosen there.
      start: where it was chosen, with the decisions taken under it: 1 where it is no option.
      waiting_observation: the state of the choice before, where its credit is delayed.
      waiting_action: what was chosen there.
      waiting_number: the decisions taken under it.
      is_waiting: whether a choice waits for its credit.
      option_return: the rewards of the option under way.
      open_transitions: transitions that the agent has learned of this episode.
      first_loss: the loss that all later ones are compared with.
      log_loss: log(loss / first loss) that the next reward is reckoned from.
      smoothed: the log loss, smoothed, at this decision and the two before, `[3]`.
      history: the log losses and rates of the decisions.
      losses: the loss since the last decision.
      initial_rates: the learning rates that the training began with, `[K]`.
      kept_rates: those that led to the snapshot, `[K]`.
      share: the schedule's share in the present rates.
      early_share: the share of an early fall in them.
      may_raise: whether the rate may rise above the one that it began with.
      may_lower: whether it may fall but by a step back.
      anneals: whether the schedule applies.
      holds_still: whether the rate is held for the rest of the training.
      has_few_batches: whether an epoch is so short that its examples may be learned by heart.
      largest_rates: the highest rates from here on, before shares, `[K]`; none so far if empty.
      is_beginning: whether no decision has followed the first one, or a new beginning.
      growth: what they are multiplied by while the validation loss is as low as the training loss.
      highest_slope: the highest lower bound of the slope ratio so far.
      descent: whether the loss falls as its slopes say.
      guard: whether step backs are allowed.
      num_harmed: decisions in a row that found a loss that has jumped after a raise, and not come
        back.
      is_harmed: whether it has not for so many that it never will, as where most units have died.
    """

    observation: np.ndarray
    action: int = 0
    start: OptionContext = dataclasses.field(default_factory=_no_option)
    waiting_observation: np.ndarray = dataclasses.field(default_factory=_no_rates)
    waiting_action: int = 0
    waiting_number: int = 0
    is_waiting: bool = False
    option_return: OptionReturn = dataclasses.field(default_factory=OptionReturn)
    open_transitions: int = 0
    first_loss: float = 1.0
    log_loss: float = 0.0
    smoothed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    history: LossHistory = dataclasses.field(default_factory=loss_history.start_history)
    losses: IntervalLoss = dataclasses.field(default_factory=IntervalLoss)
    initial_rates: np.ndarray = dataclasses.field(default_factory=_no_rates)
    kept_rates: np.ndarray = dataclasses.field(default_factory=_no_rates)
    share: float = 1.0
    early_share: float = 1.0
    may_raise: bool = True
    may_lower: bool = True
    anneals: bool = True
    holds_still: bool = False
    has_few_batches: bool = False
    largest_rates: np.ndarray = dataclasses.field(default_factory=_no_rates)
    is_beginning: bool = False
    growth: float = 1.0
    highest_slope: float = 0.0
    descent: DescentCheck = dataclasses.field(default_factory=DescentCheck)
    guard: StepBackGuard = dataclasses.field(default_factory=StepBackGuard)
    num_harmed: int = 0
    is_harmed: bool = False

    @property
    def may_not_hold(self) -> bool:
        """True where a rate that is too low may be raised in the place of holding it.

        The loss is at its lowest, has not fallen far yet, and no few examples are learned by heart.
        """
        falls = LEARNED < self.history.now <= self.history.best
        return bool(falls) and not self.has_few_batches

    def note_harm(self, rates: Any) -> None:
        """Take note of whether the loss has jumped at a raised rate, and has not come back since.

        Args:
          rates: the present ones, before shares, `[K]`.
        """
        is_raised = bool(np.any(rates > RAISED * self.kept_rates))
        is_harmed = is_raised and bool(self.history.now > self.history.best + HARM)
        has_begun = self.num_harmed > 0 or bool(loss_history.has_jumped(self.history))
        self.num_harmed = self.num_harmed + 1 if is_harmed and has_begun else 0
        self.is_harmed = self.num_harmed >= LASTING and self.guard.is_above_snapshot()

    def before_shares(self, rates: Any) -> Any:
        """Return rates before the schedule's share and that of an early fall, as actions know them.

        Args:
          rates: the model's, `[K]`.
        """
        return rates / (self.share * self.early_share)

    def begin_again(self, rates: Any) -> None:
        """Begin with other rates from the initial weights, which have been restored.

        Args:
          rates: before shares, `[K]`.
        """
        self.initial_rates = self.kept_rates = rates
        self.history = loss_history.start_history()
        self.log_loss, self.smoothed = 0.0, np.zeros(3)
        self.guard.forget_best()

    def leave_alone(self, rates: Any) -> Any:
        """Return the rates to be held from here on.

        They are the compiled ones, or lower ones that were found. A network that had learned with
        higher ones before the data changed is left those, until they change again.

        Args:
          rates: the present ones, before shares, `[K]`.
        """
        self.holds_still, self.anneals = True, False
        if self.history.best < LEARNED and self.descent.count < 2:
            return rates
        return np.minimum(rates, self.initial_rates)

    def limit_rates(self, rates: Any) -> Any:
        """Return the highest rates that are allowed, `[K]` or without a limit.

        Raised rates teach a network the few examples that it sees again and again by heart, long
        before the end that the user chose for a training at the compiled rate.

        Args:
          rates: the present ones, before shares, `[K]`.
        """
        if self.has_few_batches and not self.largest_rates.size and self.history.best < LEARNS:
            at_least = FEW_BATCHES_FACTOR * self.initial_rates
            self.largest_rates = np.maximum(at_least, FEW_BATCHES_SHARE * rates)
        return self.growth * self.largest_rates if self.largest_rates.size else np.inf

    def note_validation(self, log_loss: float) -> None:
        """Take in a validation loss: the limit grows while examples are not learned by heart.

        Args:
          log_loss: its logarithm, relative to the first training loss.
        """
        if self.largest_rates.size:
            is_small = log_loss < self.last_log_loss() + SMALL_GAP
            self.growth = GROWTH * self.growth if is_small else 1.0

    def last_log_loss(self) -> Any:
        """Return the log loss of the steps since the last decision; the one before without any."""
        if not self.losses.left_over[1]:
            return self.log_loss
        return loss_history.relative_log(mean_of(self.losses.left_over), self.first_loss)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its state by name, for a checkpoint of a running training."""
        start, limits = self.start, (self.may_raise, self.may_lower, self.anneals, self.holds_still)
        option = start.num_decisions, start.start_progress, self.waiting_number, *self.option_return
        return {
            "observation": self.observation,
            "action": np.array(self.action, np.int64),
            "waiting_observation": self.waiting_observation,
            "waiting_action": np.array(self.waiting_action, np.int64),
            "option": np.array(option, float),
            "option_rates": np.asarray(start.start_rate, float),
            "first_loss": np.array(self.first_loss),
            "log_loss": np.array(self.log_loss),
            "smoothed": self.smoothed,
            "initial_rates": self.initial_rates,
            "kept_rates": self.kept_rates,
            "track": np.array(self.history),
            "share": np.array(self.share),
            "counted": self.losses.counted,
            "left_over": self.losses.left_over,
            "open_transitions": np.asarray(self.open_transitions),
            "is_waiting": np.asarray(self.is_waiting),
            "limits": np.array(limits),
            "has_few_batches": np.array(self.has_few_batches),
            "largest_rates": self.largest_rates,
            "is_beginning": np.array(self.is_beginning),
            "growth": np.array(self.growth),
            "early_share": np.array(self.early_share),
            "highest_slope": np.array(self.highest_slope),
            "descent": self.descent.array(),
            "num_harmed": np.array(self.num_harmed, np.int64),
            **self.guard.arrays(),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave; files of earlier versions hold a part of it.

        Raises:
          KeyError: an array is missing.
        """
        self.observation, self.action = arrays["observation"], int(arrays["action"])
        self.waiting_observation = arrays["waiting_observation"]
        self.waiting_action = int(arrays["waiting_action"])
        if "option" in arrays:
            number, progress, waiting, value, rewards = arrays["option"].tolist()
            self.start = self.start._replace(
                num_decisions=int(number),
                start_rate=arrays["option_rates"],
                start_progress=progress,
            )
            self.waiting_number, self.option_return = (
                int(waiting),
                OptionReturn(value, int(rewards)),
            )
        self.first_loss, self.log_loss = (float(arrays[n]) for n in ("first_loss", "log_loss"))
        self.smoothed = np.asarray(arrays["smoothed"], float)
        self.initial_rates = np.asarray(arrays["initial_rates"], float)
        self.kept_rates = np.asarray(arrays["kept_rates"], float)
        self.history = LossHistory(*np.asarray(arrays["track"], float))
        self.share = float(arrays["share"])
        self.losses.counted = np.asarray(arrays["counted"], float)
        self.losses.left_over = np.asarray(arrays["left_over"], float)
        self.open_transitions = int(arrays["open_transitions"])
        self.is_waiting = bool(arrays["is_waiting"])
        if "limits" in arrays:
            limits = map(bool, arrays["limits"])
            self.may_raise, self.may_lower, self.anneals, self.holds_still = limits
            self.early_share = float(arrays["early_share"])
        self.has_few_batches = bool(arrays.get("has_few_batches", False))
        self.largest_rates = np.asarray(arrays.get("largest_rates", _no_rates()), float)
        self.is_beginning = bool(arrays.get("is_beginning", False))
        self.growth = float(arrays.get("growth", 1.0))
        self.highest_slope = float(arrays.get("highest_slope", 0.0))
        self.descent = DescentCheck(self.first_loss)
        if "descent" in arrays:
            self.descent.restore(arrays["descent"])
        self.num_harmed = int(arrays.get("num_harmed", 0))
        self.guard.restore(arrays)
