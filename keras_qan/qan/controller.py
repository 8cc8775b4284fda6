"""One turn of the loop: losses → reward → learning → state → action → learning rate.

It is ordinary Python on the host: a training has few decisions, and nothing is traced for a new
model.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_qan.actions import Action, ActionSet, Option, OptionContext, Schedule
from keras_qan.agents import ActionChoice, Agent
from keras_qan.observations import Observation, ObservationContext, loss_history
from keras_qan.observations.loss_history import LossHistory
from keras_qan.qan.descent_check import DescentCheck
from keras_qan.qan.interval_loss import IntervalLoss, mean_of
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.rewards import OptionReturn, Reward
from keras_qan.qan.rule import (
    Decision,
    DecisionContext,
    Effect,
    Limits,
    RateState,
    apply_action,
    option_context,
    option_under_way,
    schedule_share,
)
from keras_qan.qan.slope_ratio import LONGEST_WINDOW, SlopeEstimate
from keras_qan.qan.step_back_guard import (
    LOWEST_DECAYED_RATE,
    LOWEST_RELATIVE_RATE,
    StepBackGuard,
)

#: Above this multiple of the first loss, a loss is taken out of Keras's running sums where a
#: training can be rolled back.
LARGEST_LOSS = 100.0

#: A loss of this multiple of the first loss is not noise of batches: it has diverged.
FAR_ABOVE = 10.0

#: The number of parts of a training: over one part the log loss is smoothed and its slope taken.
PARTS_OF_TRAINING = 20


class Outcome(NamedTuple):
    """The outcome of the decision before.

    Attributes:
      reward: its reward. Defaults to not-a-number.
      loss: the mean loss since. Defaults to not-a-number.
      td_loss: the agent's loss. Defaults to not-a-number.
    """

    reward: float = math.nan
    loss: float = math.nan
    td_loss: float = math.nan


class Controller:
    """Let an agent steer one training after another.

    It knows its parts by their protocols alone, and outlives every model: `begin`, `decide` and
    `end` take the model as an argument.

    A step's loss is that of the weights *before* its update. So the first loss after a decision
    says nothing of it: `start_counting` leaves it out, and where every step has a decision of its
    own (`credit_is_delayed`), a decision is credited one decision later.

    While an option lasts, the agent is not asked. Its rewards are added up to one transition, which
    the agent learns when it is over.

    Args:
      agent: the agent that decides.
      actions: the actions that it can choose from.
      observations: the parts of its state.
      reward: the reward of its decisions.
      rate_bounds: the lowest and the highest learning rate that is ever assigned; with a
        schedule, before it is applied.
      schedule: a factor of the rate that the actions lead to, taken at the middle of the
        interval that follows. State and actions know the rate before it is multiplied. Defaults
        to none.

    Attributes:
      num_begun: episodes that began so far.
    """

    def __init__(
        self,
        agent: Agent,
        actions: Sequence[Action],
        observations: Sequence[Observation],
        reward: Reward,
        rate_bounds: tuple[float, float],
        schedule: Schedule | None = None,
    ) -> None:
        self.agent = agent
        self.actions = tuple(actions)
        self.observations = tuple(observations)
        self.reward = reward
        self.rate_bounds = rate_bounds
        self.schedule = schedule
        self._action_set = ActionSet(self.actions, rate_bounds)
        self._num_features: int | None = None
        self._num_kernels = 0
        self._open_transitions = 0
        self.num_begun = 0
        self._forget_episode()

    def _forget_episode(self) -> None:
        size = self._num_features or 0
        self._observation, self._action = np.zeros(size, np.float32), 0
        self._waiting_observation, self._waiting_action = np.zeros(size, np.float32), 0
        self._is_waiting = False
        # Where the action was chosen, and the decisions taken under it; 1 where it is no option.
        self._start = OptionContext(np.zeros(0), np.zeros(0), np.zeros(0), 0.0, 0.0)
        self._waiting_number = 0
        self._return = OptionReturn()
        self._first_loss, self._log_loss = 1.0, 0.0
        self._smoothed = np.zeros(3)
        self._initial_rates = self._kept_rates = np.zeros(0)
        self._history = loss_history.start_history()
        self._share = 1.0
        self._losses = IntervalLoss()
        self._may_raise = self._may_lower = self._anneals = True
        self._early_share = 1.0
        self._highest_slope = 0.0
        self._holds_still = False
        self._descent = DescentCheck()
        self.guard = StepBackGuard()

    def build(self, num_kernels: int) -> None:
        """Tell the agent the size of a state of so many watched kernels.

        Raises:
          ValueError: the agent was built for another state size.
        """
        num_features = sum(part.size(num_kernels) for part in self.observations)
        self.agent.build(num_features, len(self.actions))
        if self._num_features not in (None, num_features):
            raise ValueError(
                f"The state of {num_kernels} watched kernels has {num_features} numbers, and "
                f"that of {self._num_kernels} before had {self._num_features}. Watch as many "
                "layers as before, or make a new QANCallback."
            )
        if self._num_features is None:
            self._num_features, self._num_kernels = num_features, num_kernels
            self._forget_episode()

    @property
    def can_step_back(self) -> bool:
        """True where an action can roll a training back."""
        return self._action_set.can_step_back

    # Calls of the callback.

    def begin(
        self,
        model: ModelAccess,
        context: DecisionContext,
        explore: bool,
        *,
        may_raise: bool = True,
        may_lower: bool = True,
        anneals: bool = True,
    ) -> Decision:
        """Start an episode with the first decision.

        Args:
          model: the model in training.
          context: the training's length, and what of it is done.
          explore: whether to act at random with probability ε and to learn.
          may_raise: whether the rate may rise above the one that it begins with; False for a
            network that is trained already. Defaults to True.
          may_lower: whether the rate may fall but by a step back; False where a rate that was found
            is held. Defaults to True.
          anneals: whether the schedule applies; False where the training's length is not known.
            Defaults to True.
        """
        self.abandon()
        self.num_begun += 1
        self._highest_slope = 0.0
        self._may_raise, self._may_lower, self._anneals = may_raise, may_lower, anneals
        self.guard = StepBackGuard()
        if context.progress > 0.0:  # a resumed training: its rate has fallen already
            self._share = schedule_share(self.schedule if anneals else None, context)
        self._initial_rates = self._kept_rates = model.read_rates()
        model.motion.begin()
        if model.slope is not None:
            model.slope.open()
            model.slope.begin()
            if model.slope.reason is not None:  # nothing is known: the rate stays as it is
                self._anneals, self._share = False, 1.0
        if not may_raise:
            model.leave_out_gate()
        if model.gate is not None:
            model.gate.begin(context.progress)
        if model.snapshot is not None:
            model.snapshot.begin()
        return self._act(model, context, explore)

    def hold_still(self) -> None:
        """Hold the rate from here on, along the schedule; only what has diverged is taken back."""
        self._holds_still = True

    @property
    def holds_still(self) -> bool:
        """True where the rate is held for the rest of the training."""
        return self._holds_still

    def start_from(self, loss: float) -> None:
        """Take the loss of the first step, which every later loss is compared with."""
        self._first_loss = loss if math.isfinite(loss) and loss > 0.0 else 1.0
        self._descent = DescentCheck(self._first_loss)

    def start_from_weights(self, model: ModelAccess) -> None:
        """Take the present weights, put back by another than a step back, for the best so far.

        The lower losses on the way that was left do not count against them.
        """
        if model.snapshot is not None:
            model.snapshot.take()
        self._history = loss_history.with_copy_of_start(self._history, True)
        self.guard.forget_best()

    def observe_step(self, loss: float) -> None:
        """Take in the loss of one step, or the mean loss of a call of several."""
        self.guard.observe_step(loss)
        reason = self.guard.reason_to_tell()
        if reason is not None:
            warnings.warn(
                f"QANCallback takes no more steps back in this training, after {self.guard.count}: "
                f"{reason}.",
                RuntimeWarning,
                stacklevel=5,
            )

    def start_counting(self, model: ModelAccess) -> None:
        """Count the loss of the last decision from here on: earlier losses do not depend on it."""
        self._take_loss(model)
        self.guard.end_interval()

    def decide(
        self,
        model: ModelAccess,
        context: DecisionContext,
        explore: bool,
        credit_is_delayed: bool = False,
    ) -> Decision:
        """Take one turn: reward and learning for the last decision, then the next one.

        Args:
          model: the model in training.
          context: the point of the training.
          explore: whether to act at random with probability ε and to learn.
          credit_is_delayed: whether no step lies between decisions whose loss was not already
            fixed, so that it is the decision before the last that is credited. Defaults to False.
        """
        loss = self._take_loss(model)
        log_loss = loss_history.relative_log(loss, self._first_loss)
        if not self._losses.has_steps:  # nothing is known of the interval, good or bad
            log_loss = self._history.now
        history = loss_history.with_loss(self._history, log_loss)
        under_way = self._option_under_way(model, context, history)
        # The decision that is credited was the last of its option where another choice followed.
        is_last = self._start.num_decisions == 1 if credit_is_delayed else under_way is None
        learns = explore and is_last and (self._is_waiting or not credit_is_delayed)
        reward, td_loss = self._credit(log_loss, context, learns, 1.0, credit_is_delayed)
        if credit_is_delayed:
            self._waiting_observation, self._waiting_action = self._observation, self._action
            self._waiting_number = self._start.num_decisions
        share = 1.0 / self._decisions_in_part(context)
        smoothed = self._smoothed[0] + share * (log_loss - self._smoothed[0])
        self._smoothed = np.array([smoothed, *self._smoothed[:2]])
        self._history = history
        self._is_waiting = credit_is_delayed
        self._open_transitions += int(learns)
        return self._act(model, context, explore, Outcome(reward, loss, td_loss), under_way)

    def end(
        self,
        model: ModelAccess,
        context: DecisionContext,
        explore: bool,
        final_loss: float | None = None,
    ) -> Decision:
        """Close an episode: reward and learning for its last decision.

        `keep_loss` comes before it: by now Keras's sums may be those of the validation.

        Args:
          model: the model in training.
          context: the training's length.
          explore: whether to learn.
          final_loss: the loss that the last reward is reckoned to; not-a-number where the training
            diverged. Defaults to the mean training loss since the last decision.
        """
        interval_loss = mean_of(self._losses.left_over)
        # Without a step since counting started, the outcome of the last decision is unknown, and
        # counts as no change; a non-finite loss counts as divergence.
        has_steps = self._losses.left_over[1] > 0.0
        last = self._last_log_loss()
        loss, final = interval_loss, last
        if final_loss is not None:
            loss, final = final_loss, loss_history.relative_log(final_loss, self._first_loss)
        has_diverged = not math.isfinite(loss) and (final_loss is not None or has_steps)
        if has_diverged and model.snapshot is not None:
            model.snapshot.restore()
        earlier_reward, learns = 0.0, explore
        if self._is_waiting:
            # Two decisions are open. Where the training diverged, the earlier one's outcome is the
            # end; else it is the last training loss, and the later one's the final loss.
            earlier_loss, discount = (final, 0.0) if has_diverged else (last, 1.0)
            is_last = has_diverged or self._start.num_decisions == 1
            earlier_reward, _ = self._credit(
                earlier_loss, context, explore and is_last, discount, True
            )
            learns = explore and not has_diverged
        reward, td_loss = self._credit(final, context, learns, 0.0, False)
        self._open_transitions = 0
        self._is_waiting = False
        rate = float(model.read_rates()[0])
        return Decision(
            action=self._action,
            rate=rate,
            rate_found=rate,
            reward=float(reward + earlier_reward),
            loss=loss,
            epsilon=0.0,
            td_loss=td_loss,
            q_values=[],
        )

    def settle_weights(self, model: ModelAccess, context: DecisionContext) -> bool:
        """Let a training end with the weights of its lowest loss if its last losses have jumped.

        `keep_loss` comes before it, and the last validation after it.

        Args:
          model: the model in training.
          context: the training's length.

        Returns:
          Whether weights were restored.
        """
        loss = mean_of(self._losses.left_over)
        has_steps = self._losses.left_over[1] > 0.0
        if model.snapshot is None or not has_steps:
            return False
        history = loss_history.with_loss(self._history, self._last_log_loss())
        has_jumped = bool(loss_history.has_jumped(history))
        if self._is_plain(loss) and self.guard.is_too_late(*_steps_of(context)):
            return False
        has_jumped &= self.guard.allows(loss, has_jumped, model.snapshot.distance)
        if has_jumped and loss_history.is_copy_bad(history):
            model.snapshot.forget()
        if has_jumped or not math.isfinite(loss):
            model.snapshot.restore()
            return True
        return False

    def _last_log_loss(self) -> Any:
        """Return the log loss of the steps since the last decision; the one before without any."""
        if not self._losses.left_over[1]:
            return self._log_loss
        return loss_history.relative_log(mean_of(self._losses.left_over), self._first_loss)

    def rates_to_hold(self, model: ModelAccess) -> np.ndarray:
        """Return the learning rates to hold where the training goes on without an end, `[K]`.

        They are the schedule's mean, which keeps the length of the way; or the rates themselves
        where none applied.
        """
        rates = model.read_rates() / (self._share * self._early_share)
        if self.schedule is None or not self._anneals:
            return rates
        return rates * float(np.mean(self.schedule(np.linspace(0.0, 1.0, 101))))

    def set_early_share(self, model: ModelAccess, share: float) -> float:
        """Multiply the learning rates by a share, in the place of the last such share.

        Args:
          model: the model in training.
          share: above 0; 1 for none.

        Returns:
          The (first) learning rate that was assigned.
        """
        rates = model.read_rates()
        if share != self._early_share:
            rates = rates * share / self._early_share
            model.assign_rates(rates)
            self._early_share = share
        return float(rates[0])

    def abandon(self) -> None:
        """Forget an episode that was broken off, for example by an exception in `fit`."""
        if self._open_transitions:
            self.agent.abandon(self._open_transitions)
        self._open_transitions = 0
        self._forget_episode()

    def observe_validation(self, loss: float) -> None:
        """Take in a validation loss that `fit` reports."""
        log_loss = loss_history.relative_log(loss, self._first_loss)
        self._history = loss_history.with_validation(self._history, log_loss)

    def keep_loss(self, model: ModelAccess) -> None:
        """Keep what was counted of the loss before Keras sets its sums back to zero."""
        self._losses.keep(model)

    def begin_epoch(self, model: ModelAccess) -> None:
        """Start from the sums of a new epoch."""
        self._losses.begin_epoch(model)

    def mean_loss(self, model: ModelAccess) -> float:
        """Return the mean training loss since the last decision."""
        return self._losses.read(model)

    # The checkpoint of a running training.

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the state of the running episode by name, without agent and model."""
        return {
            "observation": self._observation,
            "action": np.array(self._action, np.int64),
            "waiting_observation": self._waiting_observation,
            "waiting_action": np.array(self._waiting_action, np.int64),
            "option": np.array(
                [
                    self._start.num_decisions,
                    self._start.start_progress,
                    self._waiting_number,
                    *self._return,
                ],
                float,
            ),
            "option_rates": np.asarray(self._start.start_rate, float),
            "first_loss": np.array(self._first_loss),
            "log_loss": np.array(self._log_loss),
            "smoothed": self._smoothed,
            "initial_rates": self._initial_rates,
            "kept_rates": self._kept_rates,
            "track": np.array(self._history),
            "share": np.array(self._share),
            "counted": self._losses.counted,
            "left_over": self._losses.left_over,
            "open_transitions": np.asarray(self._open_transitions),
            "is_waiting": np.asarray(self._is_waiting),
            "limits": np.array(
                [self._may_raise, self._may_lower, self._anneals, self._holds_still]
            ),
            "early_share": np.array(self._early_share),
            "highest_slope": np.array(self._highest_slope),
            "descent": self._descent.array(),
            **self.guard.arrays(),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on with the episode that `arrays` was called in.

        Raises:
          KeyError: an array is missing.
        """
        self._observation, self._action = arrays["observation"], int(arrays["action"])
        self._waiting_observation = arrays["waiting_observation"]
        self._waiting_action = int(arrays["waiting_action"])
        if "option" in arrays:  # not in files of earlier versions
            number, progress, waiting, value, rewards = arrays["option"].tolist()
            self._start = self._start._replace(
                num_decisions=int(number),
                start_rate=arrays["option_rates"],
                start_progress=progress,
            )
            self._waiting_number, self._return = int(waiting), OptionReturn(value, int(rewards))
        self._first_loss, self._log_loss = (float(arrays[n]) for n in ("first_loss", "log_loss"))
        self._smoothed = np.asarray(arrays["smoothed"], float)
        self._initial_rates = np.asarray(arrays["initial_rates"], float)
        self._kept_rates = np.asarray(arrays["kept_rates"], float)
        self._history = LossHistory(*np.asarray(arrays["track"], float))
        self._share = float(arrays["share"])
        self._losses.counted = np.asarray(arrays["counted"], float)
        self._losses.left_over = np.asarray(arrays["left_over"], float)
        self._open_transitions = int(arrays["open_transitions"])
        self._is_waiting = bool(arrays["is_waiting"])
        if "limits" in arrays:  # not in files of earlier versions
            limits = map(bool, arrays["limits"])
            self._may_raise, self._may_lower, self._anneals, self._holds_still = limits
            self._early_share = float(arrays["early_share"])
        self._highest_slope = float(arrays.get("highest_slope", 0.0))
        self._descent = DescentCheck(self._first_loss)
        if "descent" in arrays:
            self._descent.restore(arrays["descent"])
        self.guard.restore(arrays)

    # One turn.

    def _take_loss(self, model: ModelAccess) -> float:
        largest = LARGEST_LOSS * self._first_loss if self.can_step_back else math.inf
        return self._losses.take(model, largest)

    @staticmethod
    def _decisions_in_part(context: DecisionContext) -> float:
        return max(context.num_decisions / PARTS_OF_TRAINING, 1.0)

    def _credit(
        self,
        log_loss: Any,
        context: DecisionContext,
        learns: bool,
        discount: float,
        credit_is_delayed: bool,
    ) -> tuple[float, float]:
        """Return the reward of the last decision (the waiting one if delayed), and the TD loss.

        The reward is added to the return of the decision's option, which is learned if `learns`.
        """
        reward = float(self.reward(self._log_loss, log_loss, float(context.num_decisions)))
        self._log_loss = float(log_loss)
        observation, action, number = self._observation, self._action, self._start.num_decisions
        if credit_is_delayed:
            observation, action = self._waiting_observation, self._waiting_action
            number = self._waiting_number
        gamma = self.agent.gamma
        so_far = OptionReturn() if number == 1 else self._return
        self._return = so_far.plus(reward, gamma)
        if not learns:
            return reward, math.nan
        discount *= self._return.discount(gamma)
        return reward, float(self.agent.learn(observation, action, self._return.value, discount))

    def _option_under_way(
        self, model: ModelAccess, context: DecisionContext, history: LossHistory
    ) -> OptionContext | None:
        """Return the point that the option under way has come to; None where the agent is asked."""
        action = self.actions[self._action]
        # Where other data came, the rate becomes what it was before them.
        if not isinstance(action, Option) or self.guard.data_changed:
            return None
        rates = model.read_rates() / (self._share * self._early_share)
        state = RateState(rates, self._kept_rates, self._initial_rates, history)
        return option_under_way(action, self._start, state, context)

    def _act(
        self,
        model: ModelAccess,
        context: DecisionContext,
        explore: bool,
        outcome: Outcome | None = None,
        under_way: OptionContext | None = None,
    ) -> Decision:
        """Observe, choose, and assign the learning rate.

        Args:
          model: the model in training.
          context: the point of the training.
          explore: whether to act at random with probability ε.
          outcome: of the decision before. Defaults to none.
          under_way: the point of the option that goes on. Defaults to None: the agent chooses.
        """
        found = model.read_rates()
        slope = self._slope_estimate(model)
        rates = found / (self._share * self._early_share)
        if self.guard.data_changed:
            rates, self._history = self.guard.rates_before, loss_history.from_here(self._history)
            self.guard.data_changed = False
            if not explore:
                rates = self._leave_alone(rates)
        state = RateState(
            rates,
            self._kept_rates,
            self._initial_rates,
            self._history,
        )
        first = option_context(state, context)
        actions = self._action_set.at(first, under_way, self._action)
        observation = self._observe(model, context, state, slope)
        if under_way is None:
            choice = self.agent.act(observation, explore)
        else:
            choice = ActionChoice(self._action, np.full(len(self.actions), np.nan), 0.0)
        is_held = False
        if model.gate is not None:
            slope = model.gate.estimate()
            largest = model.gate.largest_factor(slope, context.progress)
            within = self._within(actions, choice, state, context.progress, largest)
            # An option that goes on holds the rate where it may not raise it so far.
            is_held = under_way is not None and within.action != choice.action
            choice = choice if is_held else within
        outcome = outcome or Outcome()
        is_contradicted = self._is_contradicted(slope, context, outcome)
        if is_contradicted:
            state = state._replace(rates=self._leave_alone(state.rates))
        may_step_back, instead = self._may_step_back(model, context, outcome), None
        if not may_step_back and actions.is_step_back(choice.action):
            instead = actions.best_within(
                choice.q_values, state.rates, state.initial_rates, context.progress
            )
        falls_early = self._early_share < 1.0
        limits = Limits(
            may_step_back=may_step_back,
            instead=instead,
            may_raise=self._may_raise and not (self._holds_still or falls_early or is_held),
            may_lower=self._may_lower and not self._holds_still,
            # A policy that begins low finds its way up to the rate that it began with.
            highest_rate=0.0 if model.slope is None or falls_early else self._initial_rates,
            lowest_rate=LOWEST_RELATIVE_RATE * self._initial_rates
            if math.isfinite(outcome.loss)
            else 0.0,
            lowest_decayed=LOWEST_DECAYED_RATE * self._initial_rates,
        )
        effect = apply_action(actions, choice.action, state, context.progress, limits)
        effect = self._note_step_back(effect, state, context, outcome)
        if is_contradicted and model.snapshot is not None:
            # What was learned at raised rates is taken back, where that is little.
            is_best = bool(effect.keeps) or self.guard.is_too_late(*_steps_of(context))
            effect = effect._replace(restores=effect.restores | (not is_best))
        self._action_set.select(int(effect.action))
        self._apply_to_weights(model, effect)
        self._share = schedule_share(self.schedule if self._anneals else None, context)
        assigned = effect.state.rates * self._share * self._early_share
        model.assign_rates(assigned)
        model.motion.remember(restored=bool(effect.restores))
        self._reopen_slope(
            model,
            context,
            bool(effect.restores) or not np.allclose(assigned, found, rtol=1e-6, atol=0.0),
        )
        if model.gate is not None:
            changed = bool(effect.restores) or not np.allclose(effect.state.rates, state.rates)
            model.gate.measure_again(context.interval, context.progress, changed)
        self._kept_rates, self._history = effect.state.kept_rates, effect.state.history
        if under_way is None:
            self._observation, self._action = observation, int(effect.action)
        start = under_way or first
        self._start = start._replace(num_decisions=start.num_decisions + 1)
        is_option = isinstance(self.actions[self._action], Option)
        return Decision(
            action=self._action,
            rate=float(assigned[0]),
            rate_found=float(found[0]),
            reward=outcome.reward,
            loss=outcome.loss,
            epsilon=float(choice.epsilon),
            td_loss=outcome.td_loss,
            q_values=np.asarray(choice.q_values, float).tolist(),
            has_stepped_back=bool(effect.restores),
            slope=None if slope is None else (slope.ratio, slope.error),
            option_decision=self._start.num_decisions if is_option else None,
        )

    def _is_contradicted(
        self, slope: SlopeEstimate | None, context: DecisionContext, outcome: Outcome
    ) -> bool:
        """Return whether the loss does not fall as the slopes say, for the first time."""
        if slope is None or self._holds_still:
            return False
        return self._descent.contradicts(slope, context.taken, outcome.loss)

    def _leave_alone(self, rates: Any) -> Any:
        """Return the compiled rates, or lower ones that were found, to be held from here on."""
        self._holds_still, self._anneals = True, False
        return np.minimum(rates, self._initial_rates)

    @staticmethod
    def _within(
        actions: ActionSet, choice: ActionChoice, state: RateState, progress: float, largest: float
    ) -> ActionChoice:
        """Return a choice, or the next best one where it raises the rate too far.

        Args:
          actions: to choose from.
          choice: the agent's.
          state: the rates before it.
          progress: the share of the training that is done.
          largest: the largest factor that leads above the rate that the training began with.
        """
        rates, initial_rates = state.rates, state.initial_rates
        # Rounding apart, the way back up to that rate is free.
        largest = max(largest, 1.0001 * float(initial_rates[0] / rates[0]))
        at = rates, initial_rates, progress
        if actions.is_step_back(choice.action) or actions.factor(choice.action, *at) <= largest:
            return choice
        best = actions.best_within(choice.q_values, *at, largest)
        return choice if best is None else choice._replace(action=best)

    def _slope_estimate(self, model: ModelAccess) -> SlopeEstimate | None:
        """Return the slope ratio since the rate last changed, and note how high it has been."""
        if model.slope is None:
            return None
        found = model.slope.estimate()
        if found.is_known:
            self._highest_slope = max(self._highest_slope, found.ratio - found.error)
        return found._replace(highest=self._highest_slope)

    @staticmethod
    def _reopen_slope(model: ModelAccess, context: DecisionContext, changed: bool) -> None:
        """Measure the steps before the next decision; go on where the rate is still the same."""
        if model.slope is None:
            return
        wait = max(context.interval - LONGEST_WINDOW - 1, 0)
        if changed or wait:
            model.slope.open(after=wait)
            model.slope.begin()

    def _may_step_back(
        self, model: ModelAccess, context: DecisionContext, outcome: Outcome
    ) -> bool:
        if model.snapshot is None or not self._losses.has_steps:
            return False
        if self._holds_still and math.isfinite(outcome.loss):
            return False
        if self._may_raise and self._history.now <= self._history.best:
            return True  # nothing is rolled back, only the rate falls
        if self._is_plain(outcome.loss) and self.guard.is_too_late(*_steps_of(context)):
            return False
        has_jumped = bool(loss_history.has_jumped(self._history))
        return self.guard.allows(outcome.loss, has_jumped, model.snapshot.distance)

    def _is_plain(self, loss: float) -> bool:
        """Return whether a loss is finite, and not so high that it can only have diverged."""
        return loss < FAR_ABOVE * self._first_loss

    def _note_step_back(
        self, effect: Effect, state: RateState, context: DecisionContext, outcome: Outcome
    ) -> Effect:
        """Tell the guard of a new best loss or a step back; restore the rates if it gives up."""
        step, num_steps = _steps_of(context)
        if effect.forgets:
            self.guard.forget_best()
        if effect.keeps:
            self.guard.note_best(step)
        self.guard.end_interval()
        if not effect.restores:
            return effect
        self.guard.note_step_back(state.rates, step, num_steps, self._is_plain(outcome.loss))
        if not self.guard.was_in_vain:
            return effect
        return effect._replace(state=effect.state._replace(rates=self.guard.rates_before))

    def _observe(
        self,
        model: ModelAccess,
        context: DecisionContext,
        state: RateState,
        slope: SlopeEstimate | None,
    ) -> np.ndarray:
        """Return the agent's state, float32 `[F]`."""
        observed = ObservationContext(
            kernels=model.read_kernels(),
            rate=state.rates[0],
            initial_rate=state.initial_rates[0],
            progress=context.progress,
            log_losses=self._smoothed,
            decisions_in_part=self._decisions_in_part(context),
            history=state.history,
            motion=model.motion.read(context.taken),
            optimizer=model.optimizer,
            num_steps=float(context.num_steps),
            interval=float(context.interval),
            slope=slope,
        )
        parts = [np.asarray(part(observed), np.float32) for part in self.observations]
        # Non-finite weights must not reach the agent's parameters.
        observation = np.concatenate(parts)
        return np.where(np.isfinite(observation), observation, np.float32(0.0))

    @staticmethod
    def _apply_to_weights(model: ModelAccess, effect: Effect) -> None:
        snapshot = model.snapshot
        if snapshot is None:
            return
        if effect.forgets:
            snapshot.forget()
        if effect.keeps:
            snapshot.take()
        if effect.restores:
            snapshot.restore()


def _steps_of(context: DecisionContext) -> tuple[int, int]:
    """Return the steps that are done, and those of the whole training, as far as is known."""
    return round(context.progress * context.num_steps), context.num_steps
