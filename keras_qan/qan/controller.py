"""The mean training loss between two decisions, out of sums that Keras sets back at each epoch.

One turn of the loop: losses → reward → replay → learning → state → action → learning rate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.actions import Action, Schedule
from keras_qan.actions.learning_rate import ActionSet
from keras_qan.agents import Agent
from keras_qan.observations import Observation, ObservationContext, loss_history
from keras_qan.observations.loss_history import LOG_LOSS_BOUNDS, LossHistory
from keras_qan.qan import model_access
from keras_qan.qan.model_access import FitProgress, ModelAccess
from keras_qan.qan.rewards import Reward
from keras_qan.qan.rule import Decision, DecisionContext


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

    def keep(self, student: ModelAccess) -> None:
        """Keeps what was counted before Keras sets its sums back to zero."""
        self.left_over.assign(self._since(model_access.loss_sums(student)))
        self.counted.assign(tf.zeros([2]))

    def mean(self, student: ModelAccess) -> float:
        """The mean loss so far; not-a-number where no step was taken."""
        total, count = self._since(model_access.loss_sums(student)).numpy()
        return float(total / count) if count else float("nan")

    def take(self, student: ModelAccess, largest: tf.Tensor | None) -> tf.Tensor:
        """The mean loss so far, `[]`, in a compiled function; counting starts anew.

        Args:
          student: the model in training.
          largest: above it, or where it is no number, a loss is taken out of Keras's sums; None
            to leave them alone.
        """
        sums = model_access.loss_sums(student)
        since = self._since(sums)
        loss = since[0] / since[1]
        if largest is not None:
            # Beside a sum that is no number, or is beyond all others, Keras's float32 would not
            # tell the losses that follow. The epoch's mean goes on without what was set back.
            usable = tf.math.is_finite(sums[0]) & (loss < largest)
            usable |= tf.equal(since[1], 0.0)
            model_access.clear_loss_sums(student, ~usable)
            sums = tf.where(usable, sums, tf.zeros([2]))
        self.counted.assign(sums)
        self.left_over.assign(tf.zeros([2]))
        return loss

    def _since(self, sums: tf.Tensor) -> tf.Tensor:
        """Total and count of the losses since the last call of `take`, float32 `[2]`."""
        # A smaller count than was seen means that somebody set the sums back in between.
        before = tf.where(sums[1] >= self.counted[1], self.counted, tf.zeros([2]))
        return sums - before + self.left_over


__all__ = [
    "LOG_LOSS_BOUNDS",
    "PARTS_OF_TRAINING",
    "Controller",
    "Decision",
    "FitProgress",
    "ModelAccess",
]


#: Above so many times the first loss, a loss is taken out of Keras's running sums where a training
#: can be set back.
LARGEST_LOSS = 100.0


#: A fixed part of the training, in decisions, over which the log loss is smoothed and its slope
#: taken: a twentieth of it.
PARTS_OF_TRAINING = 20


class Controller:
    """Lets an agent steer one training after another.

    It knows its parts by their protocols alone, and outlives every model: `begin`, `decide` and
    `end` take the student as an argument, and are compiled once for each shape of student.

    A step's loss is that of the weights *before* its update. So the first loss after a decision
    says nothing of it: `mark` leaves it out of the count, and where every step has a decision of
    its own (`delayed`), a decision is credited one decision later.

    Args:
      agent: what decides.
      actions: what it can choose among.
      observations: what its state is made of.
      reward: what its decisions are worth.
      rate_bounds: the lowest and the highest learning rate that is ever assigned; with a
        schedule, before it is applied.
      schedule: what the rate that the actions lead to is multiplied by, at the middle of the
        interval that follows. State and actions know the rate before it is multiplied.
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
        self.schedule = schedule
        self.agent = agent
        self.actions = tuple(actions)
        self.observations = tuple(observations)
        self.reward = reward
        self.rate_bounds = rate_bounds
        self._open_transitions = 0
        self._is_waiting = False
        self._built_for: int | None = None
        self._repertoire = ActionSet(self.actions, rate_bounds)

    def build(self, num_kernels: int) -> None:
        """Makes the variables of the agent and of an episode for so many watched kernels.

        Raises:
          ValueError: the agent was built for another state size.
        """
        num_features = sum(part.size(num_kernels) for part in self.observations)
        self.agent.build(num_features, len(self.actions))
        if self._built_for is not None:
            known = int(self._observation.shape[0])
            if known != num_features:
                raise ValueError(
                    f"The state of {num_kernels} watched kernels has {num_features} numbers, and "
                    f"that of {self._built_for} before had {known}. Watch as many layers as "
                    "before, or make a new QANCallback."
                )
            return
        self._built_for = num_kernels

        def scalar() -> tf.Variable:
            return tf.Variable(0.0, trainable=False)

        with tf.device("/cpu:0"):
            self._observation = tf.Variable(tf.zeros([num_features]), trainable=False)
            self._action = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._waiting_observation = tf.Variable(tf.zeros([num_features]), trainable=False)
            self._waiting_action = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._first_loss, self._log_loss = scalar(), scalar()
            self._smoothed = tf.Variable(tf.zeros([3]), trainable=False)
            self._initial_rates = tf.Variable(tf.zeros([0]), shape=[None], trainable=False)
            self._kept_rates = tf.Variable(tf.zeros([0]), shape=[None], trainable=False)
            self._track = tf.Variable(tf.stack(loss_history.start()), trainable=False)
            self._share = tf.Variable(1.0, trainable=False)
            self._losses = IntervalLoss()
        self._begin = _compiled(self._begin_graph)
        self._decide = _compiled(self._decide_graph)
        self._end = _compiled(self._end_graph)
        self._mark = _compiled(self._mark_graph)

    @property
    def can_step_back(self) -> bool:
        """Whether a training can be set back."""
        return self._repertoire.step_back is not None

    # What the callback calls.

    def begin(self, student: ModelAccess, moment: FitProgress, explore: bool) -> Decision:
        """Starts an episode: the first decision, before the first step.

        Args:
          student: the model in training.
          moment: the training's length.
          explore: whether to act at random with probability ε and to learn.
        """
        self.abandon()
        rates = [float(rate.numpy()) for rate in student.rates]
        self._initial_rates.assign(rates)
        self._kept_rates.assign(rates)
        packed = self._begin(student, DecisionContext.of(moment, False, explore))
        return Decision.of(packed)

    def start_from(self, loss: float) -> None:
        """Notes the loss of the first step, which every later loss is compared with."""
        usable = loss if np.isfinite(loss) and loss > 0.0 else 1.0
        self._first_loss.assign(usable)

    def mark(self, student: ModelAccess) -> None:
        """Counts the loss of the last decision from here on: what came before was not its doing."""
        self._mark(student)

    def decide(
        self, student: ModelAccess, moment: FitProgress, explore: bool, delayed: bool = False
    ) -> Decision:
        """One turn: reward and learning for the last decision, then the next one.

        Args:
          student: the model in training.
          moment: where in the training.
          explore: whether to act at random with probability ε and to learn.
          delayed: whether no step lies between decisions whose loss was not already fixed, so that
            it is the decision before the last that is credited.
        """
        learns = explore and (self._is_waiting or not delayed)
        packed = self._decide(student, DecisionContext.of(moment, learns, explore), delayed=delayed)
        self._is_waiting = delayed
        self._open_transitions += int(learns)
        return Decision.of(packed)

    def end(
        self,
        student: ModelAccess,
        moment: FitProgress,
        explore: bool,
        final_loss: float | None = None,
    ) -> Decision:
        """Closes an episode: reward and learning for its last decision.

        `keep_loss` comes before it: by now Keras's sums may be those of the validation. Where the
        training can be set back and its last losses have jumped, the weights that it ends with are
        those of the lowest loss.

        Args:
          student: the model in training.
          moment: the training's length.
          explore: whether to learn.
          final_loss: the loss that the last reward is reckoned to; not-a-number where the training
            diverged; None for the mean training loss since the last decision.
        """
        given = final_loss is not None
        loss = tf.constant(final_loss if given else 0.0, tf.float32)
        terms = DecisionContext.of(moment._replace(progress=1.0), explore, explore)
        packed = self._end(student, terms, loss, tf.constant(given), delayed=self._is_waiting)
        self._open_transitions = 0
        self._is_waiting = False
        return Decision.of(packed)

    def abandon(self) -> None:
        """Forgets an episode that was broken off, for example by an exception in `fit`."""
        if self._open_transitions:
            self.agent.abandon(self._open_transitions)
        self._open_transitions = 0
        self._is_waiting = False
        if self._built_for is not None:
            self._losses.reset()
            self._smoothed.assign(tf.zeros_like(self._smoothed))
            self._log_loss.assign(0.0)
            self._first_loss.assign(1.0)
            self._remember(loss_history.start())
            self._share.assign(1.0)

    def hear_validation(self, loss: float) -> None:
        """Takes in a validation loss that `fit` reports."""
        log_loss = loss_history.relative_log(tf.constant(loss, tf.float32), self._first_loss)
        self._remember(loss_history.with_validation(self._recall(), log_loss))

    def arrays(self) -> dict[str, np.ndarray]:
        """What it knows of the running episode, beside the agent and the student, by name."""
        found = {name: np.array(variable.numpy()) for name, variable in self._notes().items()}
        found["open_transitions"] = np.asarray(self._open_transitions)
        found["is_waiting"] = np.asarray(self._is_waiting)
        return found

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Goes on with the episode that `arrays` was called in.

        Raises:
          KeyError: an array is missing.
        """
        for name, variable in self._notes().items():
            variable.assign(arrays[name])
        self._open_transitions = int(arrays["open_transitions"])
        self._is_waiting = bool(arrays["is_waiting"])

    def _notes(self) -> dict[str, tf.Variable]:
        return {
            "observation": self._observation,
            "action": self._action,
            "waiting_observation": self._waiting_observation,
            "waiting_action": self._waiting_action,
            "first_loss": self._first_loss,
            "log_loss": self._log_loss,
            "smoothed": self._smoothed,
            "initial_rates": self._initial_rates,
            "kept_rates": self._kept_rates,
            "track": self._track,
            "share": self._share,
            "counted": self._losses.counted,
            "left_over": self._losses.left_over,
        }

    def keep_loss(self, student: ModelAccess) -> None:
        """Keeps what was counted of the loss before Keras sets its sums back to zero."""
        self._losses.keep(student)

    def mean_loss(self, student: ModelAccess) -> float:
        """The mean training loss since the last decision."""
        return self._losses.mean(student)

    # What is compiled.

    def _begin_graph(self, student: ModelAccess, terms: DecisionContext) -> tf.Tensor:
        nothing = tf.constant(np.nan)
        model_access.assign(student.initial, student.saved[: len(student.initial)])
        zeros = [tf.zeros_like(kernel) for kernel in student.kernels]
        if student.motion:
            for room, values in enumerate((student.kernels, zeros, student.kernels)):
                model_access.assign(student.motion[room::3], values)
        return self._act(student, terms, reward=nothing, loss=nothing, td_loss=nothing)

    def _decide_graph(
        self, student: ModelAccess, terms: DecisionContext, delayed: bool
    ) -> tf.Tensor:
        loss = self._interval_loss(student)
        log_loss = loss_history.relative_log(loss, self._first_loss)
        reward, td_loss = self._credit(log_loss, terms, tf.constant(1.0), delayed)
        if delayed:
            self._wait()
        share = 1.0 / tf.maximum(terms.num_decisions / PARTS_OF_TRAINING, 1.0)
        now = self._smoothed[0] + share * (log_loss - self._smoothed[0])
        self._smoothed.assign(tf.concat([now[tf.newaxis], self._smoothed[:2]], axis=0))
        self._remember(loss_history.with_loss(self._recall(), log_loss))
        return self._act(student, terms, reward, loss, td_loss)

    def _end_graph(
        self,
        student: ModelAccess,
        terms: DecisionContext,
        final_loss: tf.Tensor,
        is_given: tf.Tensor,
        delayed: bool,
    ) -> tf.Tensor:
        interval_loss = self._losses.left_over[0] / self._losses.left_over[1]
        loss = tf.where(is_given, final_loss, interval_loss)
        # Without a step since the losses were marked, nothing is known of the last decision; that
        # it was neither good nor bad is not the same as a loss that is no number.
        has_steps = self._losses.left_over[1] > 0.0
        relative = functools.partial(loss_history.relative_log, first_loss=self._first_loss)
        last = tf.where(has_steps, relative(interval_loss), self._log_loss)
        final = tf.where(is_given, relative(final_loss), last)
        if self.can_step_back:
            memory = loss_history.with_loss(self._recall(), last)
            jumped = loss_history.has_jumped(memory)
            model_access.discredit(student, loss_history.is_copy_bad(memory))
            diverged = ~tf.math.is_finite(loss) & (is_given | has_steps)
            model_access.restore(student, jumped | diverged)
        earlier_reward = tf.constant(0.0)
        if delayed:
            # Two decisions are open. Where the training diverged, the earlier one's outcome is the
            # end; else it is the last training loss, and the later one's the final loss.
            has_diverged = tf.logical_and(is_given | has_steps, ~tf.math.is_finite(loss))
            goes_on = 1.0 - tf.cast(has_diverged, tf.float32)
            earlier_loss = tf.where(has_diverged, final, last)
            earlier_reward, _ = self._credit(earlier_loss, terms, goes_on, delayed)
            terms = terms._replace(learns=terms.learns * goes_on)
        reward, td_loss = self._credit(final, terms, tf.constant(0.0), delayed=False)
        rate = tf.cast(student.rates[0], tf.float32)
        action = tf.cast(self._action, tf.float32)
        return tf.stack([action, rate, rate, reward + earlier_reward, loss, 0.0, td_loss])

    def _mark_graph(self, student: ModelAccess) -> None:
        self._interval_loss(student)

    def _recall(self) -> LossHistory:
        return LossHistory(*tf.unstack(self._track))

    def _remember(self, memory: LossHistory) -> None:
        self._track.assign(tf.stack(memory))

    def _wait(self) -> None:
        """The last decision's outcome is not known yet: it waits while the next one is taken."""
        self._waiting_observation.assign(self._observation)
        self._waiting_action.assign(self._action)

    def _interval_loss(self, student: ModelAccess) -> tf.Tensor:
        """The mean loss since the last call; counting starts anew."""
        largest = LARGEST_LOSS * self._first_loss if self.can_step_back else None
        return self._losses.take(student, largest)

    def _credit(
        self, log_loss: tf.Tensor, terms: DecisionContext, discount: tf.Tensor, delayed: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reward of the last decision (the waiting one if `delayed`), and what is learned of it."""
        reward = self.reward(self._log_loss.value(), log_loss, terms.num_decisions)
        self._log_loss.assign(log_loss)
        observation = self._waiting_observation if delayed else self._observation
        action = self._waiting_action if delayed else self._action
        td_loss = tf.cond(
            terms.learns > 0.0,
            lambda: self.agent.learn(observation.value(), action.value(), reward, discount),
            lambda: tf.constant(np.nan, tf.float32),
        )
        return reward, td_loss

    def _act(
        self,
        student: ModelAccess,
        terms: DecisionContext,
        reward: tf.Tensor,
        loss: tf.Tensor,
        td_loss: tf.Tensor,
    ) -> tf.Tensor:
        """Observes, chooses, and assigns the learning rate."""
        found = tf.stack([tf.cast(rate, tf.float32) for rate in student.rates])  # [K]
        rates = found if self.schedule is None else found / self._share
        initial_rates = tf.reshape(self._initial_rates, [len(student.rates)])
        memory = self._recall()
        is_copy_bad = loss_history.is_copy_bad(memory)
        situation = ObservationContext(
            kernels=[tf.convert_to_tensor(kernel) for kernel in student.kernels],
            rate=rates[0],
            initial_rate=initial_rates[0],
            progress=terms.progress,
            log_losses=self._smoothed.value(),
            pace=tf.maximum(terms.num_decisions / PARTS_OF_TRAINING, 1.0),
            track=memory,
            motion=model_access.mean_motion(student, terms.taken),
            optimizer=tf.convert_to_tensor(student.optimizer, tf.float32),
            num_steps=terms.num_steps,
            interval=terms.interval,
        )
        observation = tf.concat([part(situation) for part in self.observations], axis=0)
        # Weights that are no longer numbers must not reach the agent's parameters.
        observation = tf.where(tf.math.is_finite(observation), observation, 0.0)
        choice = self.agent.act(observation, terms.explore > 0.0)
        model_access.note_motion(student)
        repertoire = self._repertoire
        action = repertoire.with_step_back_forced(choice.action, loss_history.has_jumped(memory))
        steps_back = repertoire.is_step_back(action)
        repertoire.select(action)
        kept_rates = tf.reshape(self._kept_rates, rates.shape)
        kept_rates = tf.where(memory.now <= memory.best, rates, kept_rates)
        chosen = repertoire.next_rates(action, rates, kept_rates, initial_rates, terms.progress)
        if self.can_step_back:
            memory = loss_history.with_copy_of_start(memory, is_copy_bad)
            model_access.discredit(student, is_copy_bad)
            self._keep_or_restore(student, steps_back, memory)
            self._kept_rates.assign(tf.where(steps_back, chosen, kept_rates))
        assigned = chosen if self.schedule is None else chosen * self._next_share(terms)
        model_access.assign_rates(student, assigned)
        self._remember(loss_history.with_rate(memory, rates[0], chosen[0], steps_back))
        model_access.assign(student.motion[0::3], student.kernels if student.motion else [])
        self._observation.assign(observation)
        self._action.assign(action)
        head = [tf.cast(action, tf.float32), assigned[0], found[0], reward, loss]
        return tf.concat([tf.stack([*head, choice.epsilon, td_loss]), choice.q_values], axis=0)

    def _next_share(self, terms: DecisionContext) -> tf.Tensor:
        """The schedule's share for the interval that follows, `[]`."""
        assert self.schedule is not None
        middle = terms.progress + 0.5 * terms.interval / terms.num_steps
        # A share of zero could not be divided by at the next decision.
        share = tf.maximum(self.schedule(tf.minimum(middle, 1.0)), 1e-6)
        self._share.assign(share)
        return share

    def _keep_or_restore(
        self, student: ModelAccess, steps_back: tf.Tensor, memory: LossHistory
    ) -> None:
        """Copies the weights of the lowest loss so far, and restores the copy on a step back."""
        is_best = memory.now <= memory.best

        def keep() -> tf.Tensor:
            model_access.assign(student.copies, student.saved)
            return tf.constant(True)

        tf.cond(is_best, keep, lambda: tf.constant(False))
        model_access.restore(student, steps_back & ~is_best)


def _compiled(function: Callable[..., Any]) -> Any:
    # Wrapped, so that TensorFlow's warning of frequent tracing counts each controller by itself.
    return tf.function(functools.partial(function), autograph=False)
