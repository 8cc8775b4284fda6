"""Whole trainings of a population, with an action for each member at each decision."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.actions import Action, ActionSet, Schedule
from keras_qan.observations import Observation, ObservationContext, loss_history, motion_numbers
from keras_qan.pretraining.batched_network import BatchedWeights
from keras_qan.pretraining.batched_slope import SlopeSums, estimate, forget, no_steps
from keras_qan.pretraining.batched_training import BatchedData, BatchedOptimizers, Population
from keras_qan.qan.decision_schedule import dense_decisions
from keras_qan.qan.first_steps import (
    BEGIN_AGAIN_FACTOR,
    factor_of_short_steps,
    were_far_too_long,
)
from keras_qan.qan.rule import DecisionContext, Effect, RateState, apply_action, schedule_share
from keras_qan.qan.slope_ratio import FEWEST_STEPS
from keras_qan.qan.slope_window import LATEST, PAIRS_TO_BE_SURE, WINDOW

#: The highest log(validation loss / first loss), also of a diverged training.
WORST = 2.0


class ActionChooser(NamedTuple):
    """Choice of the actions of a rollout.

    Attributes:
      q_values: states `[P, F]` → values `[P, A]`, NumPy arrays.
      override: decision → actions int `[P]`, -1 where the values decide.
    """

    q_values: Callable[[np.ndarray], np.ndarray]
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
      fewest: steps between decisions at least. Defaults to 2.

    Attributes:
      decisions: the steps after which a decision is made.
      bounds: the steps that each decision's interval lies between: `decisions`, and the last step.
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
        fewest: int = 2,
    ) -> None:
        self.data, self.optimizers = data, optimizers
        self.num_steps, self.seed = num_steps, seed
        self.validations = frozenset(
            num_steps * (n + 1) // num_validations for n in range(num_validations)
        )
        self.decisions = dense_decisions(num_steps, fewest)
        self.bounds = (*self.decisions, num_steps)

    def context(self, number: int) -> DecisionContext:
        """Return the point of the training at which a decision is taken.

        Args:
          number: of the decision.
        """
        step = self.bounds[number]
        return DecisionContext(
            progress=step / self.num_steps,
            num_decisions=len(self.decisions),
            num_steps=self.num_steps,
            interval=self.bounds[number + 1] - step,
            taken=max(step - self.bounds[max(number - 1, 0)], 1),
        )


class RolloutState(NamedTuple):
    """State of a population between two decisions; every array has a leading axis `[P]`.

    Attributes:
      weights: at the last step.
      snapshot: weights to step back to.
      initial: weights before the first step.
      watched: first and last kernel at the last decision.
      change: of the watched kernels in the interval before it.
      initial_watched: watched kernels before the first step.
      rates: learning rates and losses, on the host.
      first_loss: of the first step.
      interval_loss: mean since the last decision.
      measured: of the slope ratio since the last decision, or longer where nothing changed; None
        where no observation asks for it.
      highest_slope: the highest lower bound of the ratio so far.
      slope_is_known: whether the ratio was known at the last decision, bool.
      is_beginning: whether no decision has followed the first one, or a new beginning, bool.
    """

    weights: BatchedWeights
    snapshot: BatchedWeights
    initial: BatchedWeights
    watched: list[tf.Tensor]
    change: list[tf.Tensor]
    initial_watched: list[tf.Tensor]
    rates: RateState
    first_loss: np.ndarray
    interval_loss: np.ndarray
    measured: SlopeSums | None
    highest_slope: np.ndarray
    slope_is_known: np.ndarray
    is_beginning: np.ndarray


def branch(state: RolloutState, members: int) -> RolloutState:
    """Repeat each member a number of times, one after the other."""

    def repeat(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.repeat(value, members, axis=0)
        return None if value is None else tf.repeat(value, members, axis=0)

    return tf.nest.map_structure(repeat, state)


class BatchedController:
    """Decisions for a population, by the rules of `Controller` for one model.

    Args:
      population: of the trainings.
      actions: to choose from.
      rate_bounds: the lowest and the highest rate.
      observations: the parts of the state; none of them may read the kernels themselves.
      schedule: factor of every rate, over the share of the training that is done. Defaults to none.

    Attributes:
      action_set: the actions, within the bounds.
      fewest: steps between decisions at least; see `Rollout`.
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
        self.observations = tuple(observations)
        self.action_set = ActionSet(self.actions, rate_bounds)
        self._measures = any(part.needs_slope_window for part in self.observations)
        self.fewest = FEWEST_STEPS if self._measures else 2
        # Of a function object of its own, as TensorFlow counts how often one is traced.
        self._motion_sums, self._change_weights, self._pick_all = (
            tf.function(functools.partial(function), autograph=False, jit_compile=True)
            for function in (_motion_sums, _change_weights, _pick_all)
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
        rollout = Rollout(data, optimizers, num_steps, seed, num_validations, self.fewest)
        state, rows = self.train(state, rollout, chooser, 0, len(rollout.decisions))
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        return BatchedEpisodes(DecisionRow(*columns), self.scores(rollout, state))

    def initial_state(self, weights: BatchedWeights, initial_rates: np.ndarray) -> RolloutState:
        """Return a population before its first step."""
        rates = np.asarray(initial_rates, np.float64)
        history = loss_history.start_history((self.population.size,))
        watched = self.population.network.watched_kernels(weights.trainable)
        return RolloutState(
            weights=weights,
            snapshot=weights,
            initial=weights,
            watched=watched,
            change=[tf.zeros_like(w) for w in watched],
            initial_watched=watched,
            rates=RateState(rates, rates, rates, history),
            first_loss=np.ones_like(rates),
            interval_loss=np.ones_like(rates),
            measured=no_steps(weights.trainable) if self._measures else None,
            highest_slope=np.zeros_like(rates),
            slope_is_known=np.zeros(self.population.size, bool),
            is_beginning=np.ones(self.population.size, bool),
        )

    def train(
        self, state: RolloutState, rollout: Rollout, chooser: ActionChooser, first: int, last: int
    ) -> tuple[RolloutState, list[DecisionRow]]:
        """Train from decision `first` to decision `last` (not included).

        Returns:
          The state after, and the decisions.
        """
        rows = []
        for number in range(first, last):
            state, states = self.observe(state, rollout, number)
            given = chooser.override(number)
            chosen = self._choose(state, chooser.q_values(states), rollout.context(number).progress)
            actions = np.where(given >= 0, given, chosen)
            state, row = self.act(state, rollout, number, actions)
            rows.append(row._replace(states=states))
        return state, rows

    def observe(
        self, state: RolloutState, rollout: Rollout, number: int
    ) -> tuple[RolloutState, np.ndarray]:
        """Return the population at a decision, with its last losses noted, and the states.

        Args:
          state: after the interval before the decision.
          rollout: the training.
          number: of the decision.

        Returns:
          The state, and float32 `[P, F]`.
        """
        if number > 0:
            state = _with_loss(state)
            if state.measured is not None and state.is_beginning.any():
                state = self._begin_again(state, rollout.optimizers)
        return self._observe(state, rollout.optimizers, rollout.context(number))

    def act(
        self,
        state: RolloutState,
        rollout: Rollout,
        number: int,
        actions: np.ndarray,
        action_set: ActionSet | None = None,
    ) -> tuple[RolloutState, DecisionRow]:
        """Take the actions of a decision, and train to the next one or to the end.

        Args:
          state: as `observe` returned it.
          rollout: the training.
          number: of the decision.
          actions: int `[P]`.
          action_set: the actions of this decision, where it is one of an option; see
            `ActionSet.at`. Defaults to the first decision of each.

        Returns:
          The state, and the decision without the agent's states.
        """
        context = rollout.context(number)
        action_set = action_set or self.action_set
        effect = apply_action(action_set, actions, state.rates, context.progress)
        jumped = loss_history.has_jumped(state.rates.history) & action_set.can_step_back
        if state.measured is not None:
            # As `SlopeWindow.measure_again` has it: a short window goes on where nothing changed.
            is_same = ~effect.restores & np.isclose(effect.state.rates, state.rates.rates)
            goes_on = is_same & (context.interval <= PAIRS_TO_BE_SURE)
            state = state._replace(measured=forget(state.measured, goes_on))
        state = self._apply(state, rollout.optimizers, effect)
        losses = state.rates.history.now
        row = DecisionRow(np.zeros(0), effect.action, state.rates.rates, losses, ~jumped)
        rates = state.rates.rates * schedule_share(self.schedule, context)
        step, end = rollout.bounds[number : number + 2]
        return self._train_interval(state, rollout, rates, step, end), row

    def _train_interval(
        self, state: RolloutState, rollout: Rollout, rates: np.ndarray, step: int, end: int
    ) -> RolloutState:
        """Train from step to step, and take in the validation loss where it is due in between."""
        assigned = tf.constant(rates, tf.float32)
        cuts = sorted({step, end} | {v for v in rollout.validations if step < v < end})
        total = np.zeros_like(rates)
        is_measured = step < LATEST * rollout.num_steps
        measured_from = max(step, end - WINDOW) if is_measured else end
        for begin, stop in itertools.pairwise(cuts):
            if begin in rollout.validations:
                losses = self.population.validate(rollout.data, state.weights)
                log_loss = loss_history.relative_log(losses, state.first_loss)
                history = loss_history.with_validation(state.rates.history, log_loss)
                state = state._replace(rates=state.rates._replace(history=history))
            weights, first, rest, measured = self.population.advance(
                rollout.data,
                state.weights,
                rollout.optimizers,
                assigned,
                rollout.seed,
                begin,
                stop,
                measured=state.measured,
                measured_from=measured_from,
            )
            if stop > begin + 1:
                total = total + rest.numpy() * (stop - begin - 1)
            # The first loss after a decision is that of the weights before it.
            if begin > step:
                total = total + first.numpy()
            state = state._replace(weights=weights, measured=measured)
            if begin == 0:
                state = state._replace(first_loss=first.numpy())
        return state._replace(interval_loss=total / (end - step - 1))

    def scores(self, rollout: Rollout, state: RolloutState) -> np.ndarray:
        """log(validation loss / first training loss), `[P]`, at most `WORST`."""
        final = self.population.validate(rollout.data, state.weights)
        ratios = final / state.first_loss
        ratios = np.where(np.isfinite(ratios), ratios, np.inf)
        return np.clip(np.log(np.maximum(ratios, 1e-12)), None, WORST)

    def _choose(self, state: RolloutState, scores: np.ndarray, progress: float) -> np.ndarray:
        """Return the actions of the highest scores, int `[P]`.

        Where the slope ratio is measured and not known nothing is raised, as in `Controller`.
        """
        chosen = scores.argmax(axis=1)
        if state.measured is None:
            return chosen
        rates, _, initial_rates, _ = state.rates
        following = [
            np.inf * rates
            if action.steps_back
            else action.next_rate(rates, initial_rates, progress)
            for action in self.actions
        ]
        highest = 1.0001 * np.maximum(initial_rates, rates)
        allowed = np.stack(following, axis=1) <= highest[:, np.newaxis]
        instead = np.where(allowed, scores, -np.inf).argmax(axis=1)
        stays = allowed[np.arange(len(chosen)), chosen] | self.action_set.is_step_back(chosen)
        return np.where(state.slope_is_known | stays, chosen, instead)

    def _begin_again(self, state: RolloutState, optimizers: BatchedOptimizers) -> RolloutState:
        """Begin again where the first steps were far too long or short, as `Controller` does."""
        measured = state.measured
        assert measured is not None
        found = estimate(measured, state.highest_slope)
        goes_back = were_far_too_long(found, state.rates.history.now) & state.is_beginning
        goes_back &= ~(optimizers.is_rmsprop.numpy() > 0.0)  # whose first updates are its longest
        factor = np.where(state.is_beginning, factor_of_short_steps(found), 1.0)
        factor = np.where(goes_back, BEGIN_AGAIN_FACTOR, factor)
        begins = factor != 1.0
        state = state._replace(is_beginning=begins)
        if not begins.any():
            return state
        weights = self._pick_all(tf.constant(goes_back), state.initial, state.weights)
        watched = self.population.network.watched_kernels(weights.trainable)
        still = [tf.zeros_like(w) for w in state.change]
        start = loss_history.start_history(begins.shape)
        history = tf.nest.map_structure(
            functools.partial(np.where, begins), start, state.rates.history
        )
        rates = state.rates.rates * factor
        initial_rates = np.where(begins, rates, state.rates.initial_rates)
        kept_rates = np.where(begins, rates, state.rates.kept_rates)
        return state._replace(
            weights=weights,
            watched=watched,
            initial_watched=_pick_all(tf.constant(begins), watched, state.initial_watched),
            change=_pick_all(tf.constant(begins), still, state.change),
            rates=RateState(rates, kept_rates, initial_rates, history),
            measured=forget(measured, ~begins),
            highest_slope=np.where(begins, 0.0, state.highest_slope),
        )

    def _observe(
        self, state: RolloutState, optimizers: BatchedOptimizers, context: DecisionContext
    ) -> tuple[RolloutState, np.ndarray]:
        """Return the population with its kernels' motion noted, and the states, `[P, F]`."""
        watched = self.population.network.watched_kernels(state.weights.trainable)
        sums, change = self._motion_sums(
            watched, state.watched, state.change, state.initial_watched
        )
        motion = np.mean(motion_numbers(sums.numpy(), context.taken), axis=0)  # [P, 3]
        slope = None
        if state.measured is not None:
            slope = estimate(state.measured, state.highest_slope)
            state = state._replace(highest_slope=slope.highest, slope_is_known=slope.is_known)
        situation = ObservationContext(
            kernels=[],
            rate=state.rates.rates,
            initial_rate=state.rates.initial_rates,
            progress=context.progress,
            log_losses=np.zeros(3),
            decisions_in_part=1.0,
            history=state.rates.history,
            motion=motion,
            optimizer=_traits(optimizers),
            num_steps=float(context.num_steps),
            interval=float(context.interval),
            slope=slope,
        )
        parts = [np.asarray(part(situation), np.float32) for part in self.observations]
        states = np.concatenate(parts, axis=-1)
        states = np.where(np.isfinite(states), states, np.float32(0.0))
        return state._replace(change=change), states

    def _apply(
        self, state: RolloutState, optimizers: BatchedOptimizers, effect: Effect
    ) -> RolloutState:
        """Change weights and rates as an action's effect has it."""
        conditions = [tf.constant(c) for c in (effect.forgets, effect.keeps, effect.restores)]
        weights, kept = self._change_weights(
            state.weights, state.snapshot, state.initial, optimizers.adaptive, *conditions
        )
        return state._replace(
            weights=weights,
            snapshot=kept,
            rates=effect.state,
            watched=self.population.network.watched_kernels(weights.trainable),
        )


def _with_loss(state: RolloutState) -> RolloutState:
    log_loss = loss_history.relative_log(state.interval_loss, state.first_loss)
    history = loss_history.with_loss(state.rates.history, log_loss)
    return state._replace(rates=state.rates._replace(history=history))


def _motion_sums(
    watched: list[tf.Tensor],
    before: list[tf.Tensor],
    moved: list[tf.Tensor],
    start: list[tf.Tensor],
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Return the sums of `motion_numbers`, `[L, P, 6]`, and the kernels' changes."""
    rows, changes = [], []
    for now, previous, last, first in zip(watched, before, moved, start, strict=True):
        change, distance = now - previous, now - first
        changes.append(change)
        pairs = [(change, change), (change, last), (last, last), (now, now)]
        pairs += [(distance, distance), (first, first)]
        rows.append(tf.stack([tf.reduce_sum(a * b, axis=-1) for a, b in pairs], axis=-1))
    return tf.stack(rows), changes


def _pick(condition: tf.Tensor, ours: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
    wide = tf.reshape(condition, [-1] + [1] * (len(ours.shape) - 1))
    return tf.where(wide, ours, theirs)


def _pick_all(condition: tf.Tensor, ours: Any, theirs: Any) -> Any:
    """Return ours where a condition holds, bool `[P]`, else theirs: nests of tensors."""
    return tf.nest.map_structure(functools.partial(_pick, condition), ours, theirs)


def _change_weights(
    weights: BatchedWeights,
    kept: BatchedWeights,
    initial: BatchedWeights,
    adaptive: tf.Tensor,
    forgets: tf.Tensor,
    keeps: tf.Tensor,
    restores: tf.Tensor,
) -> tuple[BatchedWeights, BatchedWeights]:
    """Return weights and snapshots after an action's effect; conditions are bool `[P]`."""

    # Weights alone: the optimizer's slots stay those of the snapshot.
    copied = kept._replace(
        trainable=_pick_all(forgets, initial.trainable, kept.trainable),
        moving=_pick_all(forgets, initial.moving, kept.moving),
    )
    kept = _pick_all(keeps, weights, copied)
    weights = _pick_all(restores, kept, weights)
    # The speed that led astray is not restored.
    stops = restores & (adaptive < 0.5)
    slots = [_pick(stops, tf.zeros_like(slot), slot) for slot in weights.first_slots]
    return weights._replace(first_slots=slots), kept


def _traits(optimizers: BatchedOptimizers) -> np.ndarray:
    """Return each optimizer's traits, `[P, 3]`; see `ObservationContext`."""
    adaptive, momentum = optimizers.adaptive.numpy(), optimizers.momentum.numpy()
    # Adam's moments are means.
    gain = np.where(adaptive > 0.0, 0.0, -np.log(1.0 - momentum))
    return np.stack([adaptive, gain, momentum > 0.0], axis=-1)
