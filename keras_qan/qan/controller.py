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

from keras_qan.actions import Action, ActionSet, Cosine, Option, OptionContext, Schedule
from keras_qan.agents import ActionChoice, Agent
from keras_qan.observations import Observation, ObservationContext, loss_history
from keras_qan.observations.loss_history import LossHistory
from keras_qan.qan.descent_check import DescentCheck
from keras_qan.qan.episode import Episode
from keras_qan.qan.interval_loss import mean_of
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.raise_gate import choice_within
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
        self.num_begun = 0
        self._forget_episode()

    def _forget_episode(self) -> None:
        no_state = np.zeros(self._num_features or 0, np.float32)
        self._episode = Episode(no_state, waiting_observation=no_state)

    @property
    def guard(self) -> StepBackGuard:
        """The guard of the episode's step backs."""
        return self._episode.guard

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
        has_few_batches: bool = False,
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
          has_few_batches: whether an epoch is so short that its examples may be learned by heart at
            raised rates. Defaults to False.
        """
        self.abandon()
        self.agent.begin()
        self.num_begun += 1
        episode = self._episode
        episode.may_raise, episode.may_lower, episode.anneals = may_raise, may_lower, anneals
        episode.has_few_batches = has_few_batches
        episode.initial_rates = episode.kept_rates = model.read_rates()
        episode.is_beginning = context.progress == 0.0
        model.motion.begin()
        if model.slope is not None:
            model.slope.open()
            model.slope.begin()
            if model.slope.reason is not None:  # nothing is known: the rate stays as it is
                episode.anneals = False
        if not may_raise:
            model.leave_out_gate()
        if model.gate is not None:
            model.gate.begin(context.progress, has_few_batches)
        if model.window is not None:
            model.window.begin()
        if context.progress > 0.0:  # a resumed training: its rate has fallen already
            episode.share = self._share_at(model, context)
        if model.snapshot is not None:
            model.snapshot.begin()
        return self._act(model, context, explore)

    def hold_still(self) -> None:
        """Hold the rate from here on, along the schedule; only what has diverged is taken back."""
        self._episode.holds_still = True

    @property
    def num_contradictions(self) -> int:
        """The number of times that the loss did not fall as its slopes say: see `DescentCheck`."""
        return self._episode.descent.count

    def start_from(self, loss: float) -> None:
        """Take the loss of the first step, which every later loss is compared with."""
        episode = self._episode
        episode.first_loss = loss if math.isfinite(loss) and loss > 0.0 else 1.0
        episode.descent = DescentCheck(episode.first_loss)

    def start_from_weights(self, model: ModelAccess) -> None:
        """Take the present weights, put back by another than a step back, for the best so far.

        The lower losses on the way that was left do not count against them.
        """
        episode = self._episode
        if model.snapshot is not None:
            model.snapshot.take()
        episode.history = loss_history.with_copy_of_start(episode.history, True)
        episode.guard.forget_best()

    def observe_step(self, loss: float) -> None:
        """Take in the loss of one step, or the mean loss of a call of several."""
        episode = self._episode
        episode.guard.observe_step(loss)
        reason = episode.guard.reason_to_tell()
        if reason is not None:
            warnings.warn(
                "QANCallback takes no more steps back in this training, after "
                f"{episode.guard.count}: {reason}.",
                RuntimeWarning,
                stacklevel=5,
            )

    def start_counting(self, model: ModelAccess) -> None:
        """Count the loss of the last decision from here on: earlier losses do not depend on it."""
        self._take_loss(model)
        self._episode.guard.end_interval()

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
        episode = self._episode
        loss = self._take_loss(model)
        log_loss = loss_history.relative_log(loss, episode.first_loss)
        if not episode.losses.has_steps:  # nothing is known of the interval, good or bad
            log_loss = episode.history.now
        history = loss_history.with_loss(episode.history, log_loss)
        under_way = self._option_under_way(model, context, history)
        # The decision that is credited was the last of its option where another choice followed.
        is_last = episode.start.num_decisions == 1 if credit_is_delayed else under_way is None
        learns = explore and is_last and (episode.is_waiting or not credit_is_delayed)
        reward, td_loss = self._credit(log_loss, context, learns, 1.0, credit_is_delayed)
        if credit_is_delayed:
            episode.waiting_observation = episode.observation
            episode.waiting_action = episode.action
            episode.waiting_number = episode.start.num_decisions
        share = 1.0 / self._decisions_in_part(context)
        smoothed = episode.smoothed[0] + share * (log_loss - episode.smoothed[0])
        episode.smoothed = np.array([smoothed, *episode.smoothed[:2]])
        episode.history = history
        if model.gate is not None and episode.losses.has_steps:
            episode.note_harm(episode.before_shares(model.read_rates()))
        episode.is_waiting = credit_is_delayed
        episode.open_transitions += int(learns)
        outcome = Outcome(reward, loss, td_loss)
        rate_before = self._begin_again(model) if episode.is_beginning else None
        episode.is_beginning = rate_before is not None
        if rate_before is None:
            return self._act(model, context, explore, outcome, under_way)
        decision = self._act(model, context, explore, outcome)
        return decision._replace(
            rate_found=rate_before,
            has_stepped_back=decision.rate < rate_before,
            has_begun_again=True,
        )

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
        episode = self._episode
        interval_loss = mean_of(episode.losses.left_over)
        # Without a step since counting started, the outcome of the last decision is unknown, and
        # counts as no change; a non-finite loss counts as divergence.
        has_steps = episode.losses.left_over[1] > 0.0
        last = episode.last_log_loss()
        loss, final = interval_loss, last
        if final_loss is not None:
            loss = final_loss
            final = loss_history.relative_log(final_loss, episode.first_loss)
        has_diverged = not math.isfinite(loss) and (final_loss is not None or has_steps)
        if has_diverged and model.snapshot is not None:
            model.snapshot.restore()
        earlier_reward, learns = 0.0, explore
        if episode.is_waiting:
            # Two decisions are open. Where the training diverged, the earlier one's outcome is the
            # end; else it is the last training loss, and the later one's the final loss.
            earlier_loss, discount = (final, 0.0) if has_diverged else (last, 1.0)
            is_last = has_diverged or episode.start.num_decisions == 1
            earlier_reward, _ = self._credit(
                earlier_loss, context, explore and is_last, discount, True
            )
            learns = explore and not has_diverged
        reward, td_loss = self._credit(final, context, learns, 0.0, False)
        episode.open_transitions = 0
        episode.is_waiting = False
        rate = float(model.read_rates()[0])
        return Decision(
            action=episode.action,
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
        episode = self._episode
        loss = mean_of(episode.losses.left_over)
        has_steps = episode.losses.left_over[1] > 0.0
        if model.snapshot is None or not has_steps:
            return False
        history = loss_history.with_loss(episode.history, episode.last_log_loss())
        has_jumped = bool(loss_history.has_jumped(history))
        if self._is_plain(loss) and episode.guard.is_too_late(*_steps_of(context)):
            return False
        has_jumped &= episode.guard.allows(loss, has_jumped, model.snapshot.distance)
        if has_jumped and loss_history.is_copy_bad(history):
            model.snapshot.forget()
        if has_jumped or not math.isfinite(loss):
            model.snapshot.restore()
            return True
        return False

    def rates_to_hold(self, model: ModelAccess) -> np.ndarray:
        """Return the learning rates to hold where the training goes on without an end, `[K]`.

        They are the schedule's mean, which keeps the length of the way; or the rates themselves
        where none applied.
        """
        rates = self._episode.before_shares(model.read_rates())
        if self.schedule is None or not self._episode.anneals:
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
        episode = self._episode
        rates = model.read_rates()
        if share != episode.early_share:
            rates = rates * share / episode.early_share
            model.assign_rates(rates)
            episode.early_share = share
        return float(rates[0])

    def abandon(self) -> None:
        """Forget an episode that was broken off, for example by an exception in `fit`."""
        if self._episode.open_transitions:
            self.agent.abandon(self._episode.open_transitions)
        self._forget_episode()

    def observe_validation(self, loss: float) -> None:
        """Take in a validation loss that `fit` reports."""
        episode = self._episode
        log_loss = loss_history.relative_log(loss, episode.first_loss)
        episode.history = loss_history.with_validation(episode.history, log_loss)
        episode.note_validation(float(log_loss))

    def keep_loss(self, model: ModelAccess) -> None:
        """Keep what was counted of the loss before Keras sets its sums back to zero."""
        self._episode.losses.keep(model)

    def begin_epoch(self, model: ModelAccess) -> None:
        """Start from the sums of a new epoch."""
        self._episode.losses.begin_epoch(model)

    def mean_loss(self, model: ModelAccess) -> float:
        """Return the mean training loss since the last decision."""
        return self._episode.losses.read(model)

    # The checkpoint of a running training.

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the state of the running episode by name, without agent and model."""
        return self._episode.arrays()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on with the episode that `arrays` was called in.

        Raises:
          KeyError: an array is missing.
        """
        self._episode.restore(arrays)

    # One turn.

    def _share_at(self, model: ModelAccess, context: DecisionContext) -> float:
        """Return the schedule's share: a cosine's at most where a high rate may do harm for long.

        Few batches, again and again, are learned by heart; raises that nothing limits go too far.
        """
        if self.schedule is None or not self._episode.anneals:
            return 1.0
        share = schedule_share(self.schedule, context)
        if self._episode.has_few_batches or (model.window is not None and model.window.is_blind):
            share = min(share, schedule_share(Cosine(), context))
        return share

    def _begin_again(self, model: ModelAccess) -> float | None:
        """Begin again where the first steps were far too long or short; return their rate.

        Those that were too long are taken back.
        """
        episode, snapshot, first_steps = self._episode, model.snapshot, model.first_steps
        if first_steps is None or model.window is None or snapshot is None:
            return None
        if not episode.losses.has_steps:
            return None
        rates = model.read_rates()
        factor = first_steps.factor(model.window.estimate(), float(episode.history.now))
        factor = min(factor, max(self.rate_bounds[1] / float(np.max(rates)), 1.0))
        if factor == 1.0:
            return None
        if factor < 1.0:
            snapshot.restore()
        model.motion.begin()
        model.window.begin()
        if model.gate is not None:
            model.gate.begin(0.0, episode.has_few_batches)
        model.assign_rates(factor * rates)
        episode.begin_again(factor * episode.before_shares(rates))
        return float(rates[0])

    def _take_loss(self, model: ModelAccess) -> float:
        largest = LARGEST_LOSS * self._episode.first_loss if self.can_step_back else math.inf
        return self._episode.losses.take(model, largest)

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
        episode = self._episode
        reward = float(self.reward(episode.log_loss, log_loss, float(context.num_decisions)))
        episode.log_loss = float(log_loss)
        observation, action = episode.observation, episode.action
        number = episode.start.num_decisions
        if credit_is_delayed:
            observation, action = episode.waiting_observation, episode.waiting_action
            number = episode.waiting_number
        gamma = self.agent.gamma
        so_far = OptionReturn() if number == 1 else episode.option_return
        episode.option_return = so_far.plus(reward, gamma)
        if not learns:
            return reward, math.nan
        discount *= episode.option_return.discount(gamma)
        value = episode.option_return.value
        return reward, float(self.agent.learn(observation, action, value, discount))

    def _option_under_way(
        self, model: ModelAccess, context: DecisionContext, history: LossHistory
    ) -> OptionContext | None:
        """Return the point that the option under way has come to; None where the agent is asked."""
        episode = self._episode
        action = self.actions[episode.action]
        # Where other data came, the rate becomes what it was before them.
        if not isinstance(action, Option) or episode.guard.data_changed:
            return None
        rates = episode.before_shares(model.read_rates())
        state = RateState(rates, episode.kept_rates, episode.initial_rates, history)
        return option_under_way(action, episode.start, state, context)

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
        episode = self._episode
        found = model.read_rates()
        slope = self._slope_estimate(model)
        rates = episode.before_shares(found)
        if episode.guard.data_changed:
            rates = episode.guard.rates_before
            episode.history = loss_history.from_here(episode.history)
            episode.guard.data_changed = False
            if not explore:
                rates = episode.leave_alone(rates)
        state = RateState(rates, episode.kept_rates, episode.initial_rates, episode.history)
        first = option_context(state, context)
        actions = self._action_set.at(first, under_way, episode.action)
        observation = self._observe(model, context, state, slope)
        if under_way is None:
            choice = self.agent.act(observation, explore)
        else:
            choice = ActionChoice(episode.action, np.full(len(self.actions), np.nan), 0.0)
        is_held = False
        if slope is not None and model.gate is None and model.window is not None:
            # The agent reads the slope ratio: where there is none yet it raises nothing.
            is_blind = slope.is_measurable and not slope.is_known
            if is_blind and under_way is None and not explore:
                choice = choice_within(actions, choice, state, context.progress, 1.0)
        if slope is not None and model.gate is not None:
            largest = model.gate.largest_factor(slope, context.progress)
            is_too_low = under_way is None and episode.may_not_hold
            is_too_low = is_too_low and model.gate.is_too_low(slope, context.progress)
            within = choice_within(actions, choice, state, context.progress, largest, is_too_low)
            # An option that goes on holds the rate where it may not raise it so far.
            is_held = under_way is not None and within.action != choice.action
            choice = choice if is_held else within
        outcome = outcome or Outcome()
        is_contradicted = self._is_contradicted(slope, state, context, outcome)
        if is_contradicted:
            state = state._replace(rates=episode.leave_alone(state.rates))
        limits = self._limits(model, context, outcome, state.rates, is_held)
        if not limits.may_step_back and actions.is_step_back(choice.action):
            at = state.rates, state.initial_rates, context.progress
            limits = limits._replace(instead=actions.best_within(choice.q_values, *at))
        effect = apply_action(actions, choice.action, state, context.progress, limits)
        effect = self._note_step_back(effect, state, context, outcome)
        if is_contradicted and model.snapshot is not None:
            # What was learned at raised rates is taken back, where that is little.
            is_best = bool(effect.keeps) or episode.guard.is_too_late(*_steps_of(context))
            effect = effect._replace(restores=effect.restores | (not is_best))
        self._action_set.select(int(effect.action))
        self._apply_to_weights(model, effect)
        episode.share = self._share_at(model, context)
        assigned = effect.state.rates * episode.share * episode.early_share
        model.assign_rates(assigned)
        model.motion.remember(restored=bool(effect.restores))
        self._reopen_slope(
            model,
            context,
            bool(effect.restores) or not np.allclose(assigned, found, rtol=1e-6, atol=0.0),
        )
        if model.window is not None:
            changed = bool(effect.restores) or not np.allclose(effect.state.rates, state.rates)
            model.window.measure_again(context.interval, context.progress, changed)
        episode.kept_rates = effect.state.kept_rates
        episode.history = effect.state.history
        if under_way is None:
            episode.observation, episode.action = observation, int(effect.action)
        start = under_way or first
        episode.start = start._replace(num_decisions=start.num_decisions + 1)
        is_option = isinstance(self.actions[episode.action], Option)
        return Decision(
            action=episode.action,
            rate=float(assigned[0]),
            rate_found=float(found[0]),
            reward=outcome.reward,
            loss=outcome.loss,
            epsilon=float(choice.epsilon),
            td_loss=outcome.td_loss,
            q_values=np.asarray(choice.q_values, float).tolist(),
            has_stepped_back=bool(effect.restores),
            slope=None if slope is None else (slope.ratio, slope.error),
            option_decision=episode.start.num_decisions if is_option else None,
        )

    def _limits(
        self,
        model: ModelAccess,
        context: DecisionContext,
        outcome: Outcome,
        rates: np.ndarray,
        is_held: bool,
    ) -> Limits:
        """Return the limits of a decision, whatever the agent chose.

        Args:
          model: the model in training.
          context: the point of the training.
          outcome: of the decision before.
          rates: the present ones, before shares, `[K]`.
          is_held: whether an option goes on that may not raise the rate so far.
        """
        episode = self._episode
        falls_early = episode.early_share < 1.0
        lowest = LOWEST_RELATIVE_RATE if math.isfinite(outcome.loss) else 0.0
        return Limits(
            may_step_back=self._may_step_back(model, context, outcome),
            must_step_back=episode.is_harmed,
            may_raise=episode.may_raise and not (episode.holds_still or falls_early or is_held),
            may_lower=episode.may_lower and not episode.holds_still,
            # A policy that begins low finds its way up to the rate that it began with.
            highest_rate=0.0 if model.slope is None or falls_early else episode.initial_rates,
            largest_rate=episode.limit_rates(rates),
            lowest_rate=lowest * episode.initial_rates,
            lowest_decayed=LOWEST_DECAYED_RATE * episode.initial_rates,
        )

    def _is_contradicted(
        self,
        slope: SlopeEstimate | None,
        state: RateState,
        context: DecisionContext,
        outcome: Outcome,
    ) -> bool:
        """Return whether the loss does not fall as the slopes say, and the rate may be too high."""
        is_low = bool(np.all(state.rates <= state.initial_rates))
        if slope is None or (self._episode.holds_still and is_low):
            return False
        return self._episode.descent.contradicts(slope, context.taken, outcome.loss)

    def _slope_estimate(self, model: ModelAccess) -> SlopeEstimate | None:
        """Return the slope ratio that state and limit read, and note how high it has been."""
        episode, meter = self._episode, model.window or model.slope
        if meter is None:
            return None
        found = meter.estimate()
        if found.is_known:
            episode.highest_slope = max(episode.highest_slope, found.ratio - found.error)
        return found._replace(highest=episode.highest_slope)

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
        episode = self._episode
        if model.snapshot is None or not episode.losses.has_steps:
            return False
        if episode.holds_still and math.isfinite(outcome.loss):
            return False
        if episode.may_raise and episode.history.now <= episode.history.best:
            return True  # nothing is rolled back, only the rate falls
        if episode.is_harmed:  # no step since the raise is worth keeping
            return episode.guard.is_open
        if self._is_plain(outcome.loss) and episode.guard.is_too_late(*_steps_of(context)):
            return False
        has_jumped = bool(loss_history.has_jumped(episode.history))
        return episode.guard.allows(outcome.loss, has_jumped, model.snapshot.distance)

    def _is_plain(self, loss: float) -> bool:
        """Return whether a loss is finite, and not so high that it can only have diverged."""
        return loss < FAR_ABOVE * self._episode.first_loss

    def _note_step_back(
        self, effect: Effect, state: RateState, context: DecisionContext, outcome: Outcome
    ) -> Effect:
        """Tell the guard of a new best loss or a step back; restore the rates if it gives up."""
        episode = self._episode
        step, num_steps = _steps_of(context)
        if effect.forgets:
            episode.guard.forget_best()
        if effect.keeps:
            episode.guard.note_best(step)
        episode.guard.end_interval()
        if not effect.restores:
            return effect
        is_plain = self._is_plain(outcome.loss) and not episode.is_harmed
        episode.guard.note_step_back(state.rates, step, num_steps, is_plain)
        episode.num_harmed, episode.is_harmed = 0, False
        if not episode.guard.was_in_vain:
            return effect
        return effect._replace(state=effect.state._replace(rates=episode.guard.rates_before))

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
            log_losses=self._episode.smoothed,
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
