"""Whole trainings of a population, with an action for each member at each decision."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.actions import Action, Schedule, StepBack
from keras_qan.observations import Observation, ObservationContext
from keras_qan.observations import loss_history as history
from keras_qan.observations.dynamics import motion
from keras_qan.observations.loss_history import LossHistory
from keras_qan.pretraining.batched_training import (
    BatchedData,
    BatchedOptimizers,
    BatchedWeights,
    Population,
)
from keras_qan.qan.decision_schedule import dense_decisions

#: The highest log(validation loss / first loss), also of a diverged training.
WORST = 2.0


class ActionChooser(NamedTuple):
    """Choice of the actions of a rollout.

    Attributes:
      q_values: states `[P, F]` → values `[P, A]`.
      override: decision → actions int `[P]`, -1 where the values decide.
    """

    q_values: Callable[[tf.Tensor], tf.Tensor]
    override: Callable[[int], np.ndarray]


class DecisionRow(NamedTuple):
    """One decision of a population.

    Attributes:
      states: float32 `[P, F]`.
      actions: int `[P]`.
      rates: the learning rates after it, `[P]`.
      losses: log(training loss / first loss) of the interval before it, `[P]`.
      free: whether the decision was free, bool `[P]`; a forced step back after a jump of the loss
        is not.
    """

    states: np.ndarray
    actions: np.ndarray
    rates: np.ndarray
    losses: np.ndarray
    free: np.ndarray


class BatchedEpisodes(NamedTuple):
    """P whole trainings of D decisions.

    Attributes:
      decisions: every array with a leading axis `[D]`.
      scores: see `BatchedController.scores`, `[P]`.
    """

    decisions: DecisionRow
    scores: np.ndarray


class Rollout:
    """A training of a population: examples, optimizers and times.

    Args:
      data: the examples.
      optimizers: of the members.
      num_steps: the length of the training.
      seed: of the order of the examples.
      num_validations: the number of reports of the validation loss, at equal distances and the last
        one at the end. Defaults to none.

    Attributes:
      decisions: the steps after which a decision is made.
      validations: the steps after which the validation loss is reported; after a step with both,
        the decision comes first, as in `fit`.
    """

    def __init__(
        self,
        data: BatchedData,
        optimizers: BatchedOptimizers,
        num_steps: int,
        seed: int,
        num_validations: int = 0,
    ) -> None:
        self.data, self.optimizers = data, optimizers
        self.num_steps, self.seed = num_steps, seed
        self.validations = frozenset(
            num_steps * (n + 1) // num_validations for n in range(num_validations)
        )
        self.decisions = dense_decisions(num_steps)


class RolloutState(NamedTuple):
    """State of a population between two decisions; every tensor has a leading axis `[P]`.

    Attributes:
      weights: at the last step.
      snapshot: weights to step back to.
      initial: weights before the first step.
      initial_rates: learning rates before the first decision.
      snapshot_rates: learning rates that led to the snapshot.
      rates: present learning rates.
      loss_history: see `LossHistory`.
      watched: first and last kernel at the last decision.
      change: of the watched kernels in the interval before it.
      initial_watched: watched kernels before the first step.
      first_loss: of the first step.
      interval_loss: mean since the last decision.
    """

    weights: BatchedWeights
    snapshot: BatchedWeights
    initial: BatchedWeights
    initial_rates: tf.Tensor
    snapshot_rates: tf.Tensor
    rates: tf.Tensor
    loss_history: LossHistory
    watched: list[tf.Tensor]
    change: list[tf.Tensor]
    initial_watched: list[tf.Tensor]
    first_loss: tf.Tensor
    interval_loss: tf.Tensor


def branch(state: RolloutState, members: int) -> RolloutState:
    """Repeat each member a number of times, one after the other."""
    return tf.nest.map_structure(lambda value: tf.repeat(value, members, axis=0), state)


class BatchedController:
    """Decisions for a population, by the rules of `Controller` for one model.

    Args:
      population: of the trainings.
      actions: to choose from.
      rate_bounds: the lowest and the highest rate.
      observations: the parts of the state; none of them may read the kernels themselves.
      schedule: factor of every rate, over the share of the training that is done. Defaults to none.
    """

    def __init__(
        self,
        population: Population,
        actions: Sequence[Action],
        rate_bounds: tuple[float, float],
        observations: Sequence[Observation],
        schedule: Schedule | None = None,
    ) -> None:
        self.population = population
        self.actions = tuple(actions)
        self.schedule = schedule
        self.rate_bounds = rate_bounds
        self.observations = tuple(observations)
        self._back = next(
            (n for n, action in enumerate(actions) if isinstance(action, StepBack)), None
        )
        self._observe = tf.function(
            functools.partial(self._observe_graph), autograph=False, jit_compile=True
        )
        self._with_validation = tf.function(
            functools.partial(self._with_validation_graph), autograph=False, jit_compile=True
        )
        self._apply = tf.function(
            functools.partial(self._apply_graph), autograph=False, jit_compile=True
        )

    def run(
        self,
        task: tuple[BatchedData, BatchedWeights],
        optimizers: BatchedOptimizers,
        initial_rates: np.ndarray,
        num_steps: int,
        seed: int,
        chooser: ActionChooser,
        num_validations: int = 0,
    ) -> BatchedEpisodes:
        """Train the population from the first step to the last."""
        data, weights = task
        state = self.initial_state(weights, initial_rates)
        rollout = Rollout(data, optimizers, num_steps, seed, num_validations)
        state, rows = self.train(state, rollout, chooser, 0, len(rollout.decisions))
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        return BatchedEpisodes(DecisionRow(*columns), self.scores(rollout, state))

    def initial_state(self, weights: BatchedWeights, initial_rates: np.ndarray) -> RolloutState:
        """The state of a population before its first step."""
        rates = tf.constant(initial_rates, tf.float32)
        watched = self.population.network.watched_kernels(weights.trainable)
        return RolloutState(
            weights=weights,
            snapshot=weights,
            initial=weights,
            initial_rates=rates,
            snapshot_rates=rates,
            rates=rates,
            loss_history=history.start((self.population.size,)),
            watched=watched,
            change=[tf.zeros_like(w) for w in watched],
            initial_watched=watched,
            first_loss=tf.ones_like(rates),
            interval_loss=tf.ones_like(rates),
        )

    def train(
        self, state: RolloutState, rollout: Rollout, chooser: ActionChooser, first: int, last: int
    ) -> tuple[RolloutState, list[DecisionRow]]:
        """Train from decision `first` to decision `last` (not included).

        Returns:
          The state after, and the decisions.
        """
        steps = [*rollout.decisions, rollout.num_steps]
        rows = []
        for number in range(first, last):
            step, end = steps[number], steps[number + 1]
            taken = max(step - steps[max(number - 1, 0)], 1)
            timing = tf.constant(
                [step / rollout.num_steps, rollout.num_steps, end - step, taken], tf.float32
            )
            state, observed, jumped = self._observe(
                state, rollout.optimizers, timing, tf.constant(number > 0)
            )
            given = chooser.override(number)
            values = chooser.q_values(observed).numpy()
            actions = np.where(given >= 0, given, values.argmax(axis=1))
            forced = jumped.numpy() if self._back is not None else np.zeros(len(actions), bool)
            actions = np.where(forced, self._back or 0, actions)
            state = self._apply(state, rollout.optimizers, tf.constant(actions, tf.int32), timing)
            rows.append(
                DecisionRow(
                    observed.numpy(),
                    actions,
                    state.rates.numpy(),
                    state.loss_history.now.numpy(),
                    ~forced,
                )
            )
            middle = tf.constant((step + end) / 2 / rollout.num_steps, tf.float32)
            share = 1.0 if self.schedule is None else self.schedule(middle)
            state = self._train_interval(state, rollout, state.rates * share, step, end)
        return state, rows

    def _train_interval(
        self, state: RolloutState, rollout: Rollout, rates: tf.Tensor, step: int, end: int
    ) -> RolloutState:
        """Train from step to step, with the reports of the validation loss in between."""
        cuts = sorted({step, end} | {v for v in rollout.validations if step < v < end})
        total = tf.zeros_like(rates)
        for begin, stop in itertools.pairwise(cuts):
            if begin in rollout.validations:
                losses = self._with_validation(
                    state.loss_history, rollout.data, state.weights, state.first_loss
                )
                state = state._replace(loss_history=losses)
            weights, first, rest = self.population.advance(
                rollout.data, state.weights, rollout.optimizers, rates, rollout.seed, begin, stop
            )
            if stop > begin + 1:
                total += rest * (stop - begin - 1)
            # The first loss after a decision is that of the weights before it.
            if begin > step:
                total += first
            state = state._replace(
                weights=weights, first_loss=first if begin == 0 else state.first_loss
            )
        return state._replace(interval_loss=total / (end - step - 1))

    def _with_validation_graph(
        self, losses: LossHistory, data: BatchedData, weights: BatchedWeights, first_loss: tf.Tensor
    ) -> LossHistory:
        loss = self.population.validation_losses(data, weights)
        return history.with_validation(losses, history.relative_log(loss, first_loss))

    def scores(self, rollout: Rollout, state: RolloutState) -> np.ndarray:
        """log(validation loss / first training loss), `[P]`, at most `WORST`."""
        final = self.population.validate(rollout.data, state.weights)
        ratios = final / state.first_loss.numpy()
        ratios = np.where(np.isfinite(ratios), ratios, np.inf)
        return np.clip(np.log(np.maximum(ratios, 1e-12)), None, WORST)

    def _observe_graph(
        self,
        state: RolloutState,
        optimizers: BatchedOptimizers,
        timing: tf.Tensor,
        has_loss: tf.Tensor,
    ) -> tuple[RolloutState, tf.Tensor, tf.Tensor]:
        progress, num_steps, interval, taken = tf.unstack(timing)
        log_loss = history.relative_log(state.interval_loss, state.first_loss)
        with_loss = history.with_loss(state.loss_history, log_loss)
        losses = LossHistory(
            *(tf.where(has_loss, a, b) for a, b in zip(with_loss, state.loss_history, strict=True))
        )
        watched = self.population.network.watched_kernels(state.weights.trainable)
        parts = [
            motion(now, before, last, start, taken)
            for now, before, last, start in zip(
                watched, state.watched, state.change, state.initial_watched, strict=True
            )
        ]
        zeros = tf.zeros_like(losses.now)
        context = ObservationContext(
            kernels=[],
            rate=state.rates,
            initial_rate=state.initial_rates,
            progress=progress + zeros,
            log_losses=tf.zeros([3]),
            pace=tf.ones([]),
            track=losses,
            motion=tf.add_n(parts) / len(parts),
            optimizer=tf.stack([optimizers.adaptive, _log_gain(optimizers)], axis=-1),
            num_steps=num_steps,
            interval=interval,
        )
        observed = tf.concat([part(context) for part in self.observations], axis=-1)
        observed = tf.where(tf.math.is_finite(observed), observed, 0.0)
        change = [now - before for now, before in zip(watched, state.watched, strict=True)]
        state = state._replace(loss_history=losses, change=change)
        return state, observed, history.has_jumped(losses)

    def _apply_graph(
        self,
        state: RolloutState,
        optimizers: BatchedOptimizers,
        actions: tf.Tensor,
        timing: tf.Tensor,
    ) -> RolloutState:
        is_copy_bad = history.is_copy_bad(state.loss_history)
        losses = history.with_copy_of_start(state.loss_history, is_copy_bad)
        is_best = losses.now <= losses.best
        best_rates = tf.where(is_best, state.rates, state.snapshot_rates)
        backs = tf.zeros_like(is_best)
        outcomes = []
        for number, action in enumerate(self.actions):
            if isinstance(action, StepBack):
                backs = actions == number
                outcomes.append(action.rate_after(state.rates, best_rates))
            else:
                outcomes.append(action.next_rate(state.rates, state.initial_rates, timing[0]))
        low, high = self.rate_bounds
        chosen = tf.gather(tf.stack(outcomes, axis=1), actions, batch_dims=1)
        # Holding a rate that lies outside the bounds is holding it.
        is_held = tf.equal(chosen, state.rates)
        chosen = tf.where(is_held, chosen, tf.clip_by_value(chosen, low, high))

        # Weights alone: the optimizer's slots stay those of the snapshot.
        old = state.snapshot
        old = old._replace(
            trainable=_where(is_copy_bad, state.initial.trainable, old.trainable),
            moving=_where(is_copy_bad, state.initial.moving, old.moving),
        )
        snapshot = _where(is_best, state.weights, old)
        weights = _where(backs, snapshot, state.weights)
        # A velocity that led to a worse loss is not restored.
        stops = backs & ~is_best & (optimizers.adaptive < 0.5)
        slots = _where(stops, [tf.zeros_like(s) for s in weights.first_slots], weights.first_slots)
        weights = weights._replace(first_slots=slots)
        return state._replace(
            weights=weights,
            snapshot=snapshot,
            snapshot_rates=tf.where(backs, chosen, best_rates),
            rates=chosen,
            loss_history=history.with_rate(losses, state.rates, chosen, backs),
            watched=self.population.network.watched_kernels(weights.trainable),
        )


def _where(condition: tf.Tensor, ours: Any, theirs: Any) -> Any:
    """Select between two structures of tensors, member by member."""

    def select(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        wide = tf.reshape(condition, [-1] + [1] * (len(one.shape) - 1))
        return tf.where(wide, one, other)

    return tf.nest.map_structure(select, ours, theirs)


def _log_gain(optimizers: BatchedOptimizers) -> tf.Tensor:
    """log(1 / (1 - μ)) of SGD; 0 of Adam, whose moments are means."""
    return tf.where(optimizers.adaptive > 0.0, 0.0, -tf.math.log(1.0 - optimizers.momentum))
