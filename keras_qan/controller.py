"""One turn of the loop: losses → reward → replay → learning → state → action → learning rate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.actions import Action
from keras_qan.agents import Agent
from keras_qan.observations import Observation, Situation
from keras_qan.rewards import Reward

#: log(loss / first loss) is kept within these bounds: the upper one is also what a loss that is not
#: a number counts as, so that the penalty for divergence is bounded.
LOG_LOSS_BOUNDS = (-25.0, 2.0)

#: A fixed part of the training, in decisions, over which the log loss is smoothed and its slope
#: taken: a twentieth of it.
PARTS_OF_TRAINING = 20


class Student(NamedTuple):
    """What the controller reads and writes of the model in training: TensorFlow variables.

    Attributes:
      kernels: the watched kernels, each `[..., I, J]`.
      rates: the optimizers' learning rates, each `[]`.
      loss_total: the sum of the losses of the epoch's examples so far, `[]`.
      loss_count: their number, `[]`.
    """

    kernels: list[tf.Variable]
    rates: list[tf.Variable]
    loss_total: tf.Variable
    loss_count: tf.Variable


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
      rate_bounds: the lowest and the highest learning rate that is ever assigned.
    """

    def __init__(
        self,
        agent: Agent,
        actions: Sequence[Action],
        observations: Sequence[Observation],
        reward: Reward,
        rate_bounds: tuple[float, float],
    ) -> None:
        self.agent = agent
        self.actions = tuple(actions)
        self.observations = tuple(observations)
        self.reward = reward
        self.rate_bounds = rate_bounds
        self._open_transitions = 0
        self._is_waiting = False
        self._built_for: int | None = None

    def build(self, num_kernels: int) -> None:
        """Makes the variables of the agent and of an episode for so many watched kernels.

        Raises:
          ValueError: the agent was built for another state size.
        """
        num_features = sum(part.size(num_kernels) for part in self.observations)
        self.agent.build(num_features, len(self.actions))
        if self._built_for is not None:
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
            # The loss since the last decision is counted as a difference of Keras's running sums:
            # what stood there at the decision, and what was left over from epochs since.
            self._counted = tf.Variable(tf.zeros([2]), trainable=False)
            self._left_over = tf.Variable(tf.zeros([2]), trainable=False)
        self._begin = _compiled(self._begin_graph)
        self._decide = _compiled(self._decide_graph)
        self._end = _compiled(self._end_graph)
        self._mark = _compiled(self._mark_graph)

    # What the callback calls.

    def begin(self, student: Student, num_decisions: int, explore: bool) -> Decision:
        """Starts an episode: the first decision, before the first step.

        Args:
          student: the model in training.
          num_decisions: how many decisions the episode will hold, as far as is known.
          explore: whether to act at random with probability ε and to learn.
        """
        self.abandon()
        rates = [float(rate.numpy()) for rate in student.rates]
        self._initial_rates.assign(rates)
        packed = self._begin(*student, self._terms(0.0, num_decisions, False, explore))
        return self._unpack(packed)

    def start_from(self, loss: float) -> None:
        """Notes the loss of the first step, which every later loss is compared with."""
        usable = loss if np.isfinite(loss) and loss > 0.0 else 1.0
        self._first_loss.assign(usable)

    def mark(self, student: Student) -> None:
        """Counts the loss of the last decision from here on: what came before was not its doing."""
        self._mark(student.loss_total, student.loss_count)

    def decide(
        self,
        student: Student,
        progress: float,
        num_decisions: int,
        explore: bool,
        delayed: bool = False,
    ) -> Decision:
        """One turn: reward and learning for the last decision, then the next one.

        Args:
          student: the model in training.
          progress: the share of the training's steps that are done, in [0, 1].
          num_decisions: how many decisions the episode holds.
          explore: whether to act at random with probability ε and to learn.
          delayed: whether no step lies between decisions whose loss was not already fixed, so that
            it is the decision before the last that is credited.
        """
        learns = explore and (self._is_waiting or not delayed)
        terms = self._terms(progress, num_decisions, learns, explore)
        packed = self._decide(*student, terms, delayed=delayed)
        self._is_waiting = delayed
        self._open_transitions += int(learns)
        return self._unpack(packed)

    def end(
        self,
        student: Student,
        num_decisions: int,
        explore: bool,
        final_loss: float | None = None,
    ) -> Decision:
        """Closes an episode: reward and learning for its last decision.

        `keep_loss` comes before it: by now Keras's sums may be those of the validation.

        Args:
          student: the model in training.
          num_decisions: how many decisions the episode holds.
          explore: whether to learn.
          final_loss: the loss that the last reward is reckoned to; not-a-number where the training
            diverged; None for the mean training loss since the last decision.
        """
        given = final_loss is not None
        loss = tf.constant(final_loss if given else 0.0, tf.float32)
        terms = self._terms(1.0, num_decisions, explore, explore)
        packed = self._end(*student, terms, loss, tf.constant(given), delayed=self._is_waiting)
        self._open_transitions = 0
        self._is_waiting = False
        return self._unpack(packed)

    def abandon(self) -> None:
        """Forgets an episode that was broken off, for example by an exception in `fit`."""
        if self._open_transitions:
            self.agent.abandon(self._open_transitions)
        self._open_transitions = 0
        self._is_waiting = False
        if self._built_for is not None:
            for variable in (self._counted, self._left_over, self._smoothed):
                variable.assign(tf.zeros_like(variable))
            self._log_loss.assign(0.0)
            self._first_loss.assign(1.0)

    def keep_loss(self, student: Student) -> None:
        """Keeps what was counted of the loss before Keras sets its sums back to zero."""
        sums = tf.stack([student.loss_total, student.loss_count])
        self._left_over.assign_add(self._since(sums))
        self._counted.assign(tf.zeros([2]))

    def mean_loss(self, student: Student) -> float:
        """The mean training loss since the last decision."""
        total, count = self._since(tf.stack([student.loss_total, student.loss_count])).numpy()
        return float(total / count) if count else float("nan")

    @staticmethod
    def _terms(progress: float, num_decisions: int, learns: bool, explore: bool) -> tf.Tensor:
        return tf.constant([progress, num_decisions, learns, explore], tf.float32)

    @staticmethod
    def _unpack(packed: tf.Tensor) -> Decision:
        numbers = packed.numpy().tolist()
        rate, found, reward, loss, epsilon, td_loss = numbers[1:7]
        return Decision(
            int(numbers[0]), rate, found, reward, loss, epsilon, td_loss, q_values=numbers[7:]
        )

    # What is compiled.

    def _begin_graph(
        self,
        kernels: list[tf.Variable],
        rates: list[tf.Variable],
        loss_total: tf.Variable,
        loss_count: tf.Variable,
        terms: tf.Tensor,
    ) -> tf.Tensor:
        student = Student(kernels, rates, loss_total, loss_count)
        nothing = tf.constant(np.nan)
        return self._act(student, terms, reward=nothing, loss=nothing, td_loss=nothing)

    def _decide_graph(
        self,
        kernels: list[tf.Variable],
        rates: list[tf.Variable],
        loss_total: tf.Variable,
        loss_count: tf.Variable,
        terms: tf.Tensor,
        delayed: bool,
    ) -> tf.Tensor:
        student = Student(kernels, rates, loss_total, loss_count)
        loss = self._interval_loss(loss_total, loss_count)
        log_loss = self._relative_log(loss)
        reward, td_loss = self._credit(log_loss, terms, tf.constant(1.0), delayed)
        if delayed:
            self._wait()
        share = 1.0 / tf.maximum(terms[1] / PARTS_OF_TRAINING, 1.0)
        now = self._smoothed[0] + share * (log_loss - self._smoothed[0])
        self._smoothed.assign(tf.concat([now[tf.newaxis], self._smoothed[:2]], axis=0))
        return self._act(student, terms, reward, loss, td_loss)

    def _end_graph(
        self,
        kernels: list[tf.Variable],
        rates: list[tf.Variable],
        loss_total: tf.Variable,
        loss_count: tf.Variable,
        terms: tf.Tensor,
        final_loss: tf.Tensor,
        is_given: tf.Tensor,
        delayed: bool,
    ) -> tf.Tensor:
        del kernels, loss_total, loss_count
        interval_loss = self._left_over[0] / self._left_over[1]
        loss = tf.where(is_given, final_loss, interval_loss)
        earlier_reward = tf.constant(0.0)
        if delayed:
            # Two decisions are open. Where the training diverged, the earlier one's outcome is the
            # end; else it is the last training loss, and the later one's the final loss.
            goes_on = tf.cast(tf.math.is_finite(loss), tf.float32)
            earlier_loss = self._relative_log(tf.where(goes_on > 0.0, interval_loss, loss))
            earlier_reward, _ = self._credit(earlier_loss, terms, goes_on, delayed)
            terms *= tf.stack([1.0, 1.0, goes_on, 1.0])
        log_loss = self._relative_log(loss)
        reward, td_loss = self._credit(log_loss, terms, tf.constant(0.0), delayed=False)
        rate = tf.cast(rates[0], tf.float32)
        action = tf.cast(self._action, tf.float32)
        return tf.stack([action, rate, rate, reward + earlier_reward, loss, 0.0, td_loss])

    def _mark_graph(self, loss_total: tf.Variable, loss_count: tf.Variable) -> None:
        self._interval_loss(loss_total, loss_count)

    def _wait(self) -> None:
        """The last decision's outcome is not known yet: it waits while the next one is taken."""
        self._waiting_observation.assign(self._observation)
        self._waiting_action.assign(self._action)

    def _since(self, sums: tf.Tensor) -> tf.Tensor:
        """Total and count of the losses since the last decision, float32 `[2]`."""
        sums = tf.cast(sums, tf.float32)
        # A smaller count than was seen means that somebody set the sums back in between.
        before = tf.where(sums[1] >= self._counted[1], self._counted, tf.zeros([2]))
        return sums - before + self._left_over

    def _interval_loss(self, loss_total: tf.Variable, loss_count: tf.Variable) -> tf.Tensor:
        """The mean loss since the last call; counting starts anew."""
        sums = tf.stack([tf.cast(loss_total, tf.float32), tf.cast(loss_count, tf.float32)])
        since = self._since(sums)
        self._counted.assign(sums)
        self._left_over.assign(tf.zeros([2]))
        return since[0] / since[1]

    def _relative_log(self, loss: tf.Tensor) -> tf.Tensor:
        """log(loss / first loss) within LOG_LOSS_BOUNDS; the upper one for what is no number."""
        low, high = LOG_LOSS_BOUNDS
        ratio = tf.maximum(loss / self._first_loss, 1e-30)
        log_ratio = tf.clip_by_value(tf.math.log(ratio), low, high)
        return tf.where(tf.math.is_finite(loss), log_ratio, high)

    def _credit(
        self, log_loss: tf.Tensor, terms: tf.Tensor, discount: tf.Tensor, delayed: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reward of the last decision (the waiting one if `delayed`), and what is learned of it."""
        reward = self.reward(self._log_loss.value(), log_loss, terms[1])
        self._log_loss.assign(log_loss)
        observation = self._waiting_observation if delayed else self._observation
        action = self._waiting_action if delayed else self._action
        td_loss = tf.cond(
            terms[2] > 0.0,
            lambda: self.agent.learn(observation.value(), action.value(), reward, discount),
            lambda: tf.constant(np.nan, tf.float32),
        )
        return reward, td_loss

    def _act(
        self,
        student: Student,
        terms: tf.Tensor,
        reward: tf.Tensor,
        loss: tf.Tensor,
        td_loss: tf.Tensor,
    ) -> tf.Tensor:
        """Observes, chooses, and assigns the learning rate."""
        rates = tf.stack([tf.cast(rate, tf.float32) for rate in student.rates])  # [K]
        initial_rates = tf.reshape(self._initial_rates, [len(student.rates)])
        progress = terms[0]
        situation = Situation(
            kernels=[tf.convert_to_tensor(kernel) for kernel in student.kernels],
            rate=rates[0],
            initial_rate=initial_rates[0],
            progress=progress,
            log_losses=self._smoothed.value(),
            pace=tf.maximum(terms[1] / PARTS_OF_TRAINING, 1.0),
        )
        observation = tf.concat([part(situation) for part in self.observations], axis=0)
        # Weights that are no longer numbers must not reach the agent's parameters.
        observation = tf.where(tf.math.is_finite(observation), observation, 0.0)
        choice = self.agent.act(observation, terms[3] > 0.0)
        outcomes = tf.stack([a.next_rate(rates, initial_rates, progress) for a in self.actions])
        low, high = self.rate_bounds
        chosen = tf.clip_by_value(tf.gather(outcomes, choice.action), low, high)  # [K]
        # Holding a rate that lies outside the bounds is holding it.
        chosen = tf.where(tf.gather(outcomes, choice.action) == rates, rates, chosen)
        for number, rate in enumerate(student.rates):
            rate.assign(tf.cast(chosen[number], rate.dtype))
        self._observation.assign(observation)
        self._action.assign(choice.action)
        head = [tf.cast(choice.action, tf.float32), chosen[0], rates[0], reward, loss]
        return tf.concat([tf.stack([*head, choice.epsilon, td_loss]), choice.q_values], axis=0)


def _compiled(function: Callable[..., Any]) -> Any:
    # Wrapped, so that TensorFlow's warning of frequent tracing counts each controller by itself.
    return tf.function(functools.partial(function), autograph=False)
