"""Whole trainings of a population, steered at each decision: what a policy learns from."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.actions import Action, Schedule, StepBack
from keras_qan.observations import Observation, ObservationContext
from keras_qan.observations import loss_history as tracks
from keras_qan.observations.dynamics import motion
from keras_qan.observations.loss_history import LossHistory
from keras_qan.pretraining.batched_training import (
    BatchedData,
    BatchedOptimizers,
    BatchedWeights,
    Population,
)
from keras_qan.qan.decision_schedule import dense_decisions

#: log(validation loss / first loss) of a training that came to nothing.
WORST = 2.0


class ActionChooser(NamedTuple):
    """How the actions of a rollout are chosen.

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
      free: whether the decision was free, bool `[P]`; a step back after a jump of the loss is not.
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
    """What a population is trained on.

    Args:
      data: the examples.
      optimizers: the students' optimizers.
      num_steps: the length of the training.
      seed: the order of the examples follows from it.
      num_validations: how often the validation loss is reported, at equal distances and the last
        time at the end; 0 for never.

    Attributes:
      decisions: the steps after which a decision is taken.
      validations: the steps after which the validation loss is reported; where a decision is
        taken after the same step, it comes first, as in `fit`.
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
    """What a population in training remembers between two decisions; `[P]` leads everywhere."""

    weights: BatchedWeights
    kept: BatchedWeights
    initial: BatchedWeights
    initial_rates: tf.Tensor
    kept_rates: tf.Tensor
    rates: tf.Tensor
    track: LossHistory
    before: list[tf.Tensor]
    moved: list[tf.Tensor]
    start: list[tf.Tensor]
    first_loss: tf.Tensor
    interval_loss: tf.Tensor


def branch(running: RolloutState, students: int) -> RolloutState:
    """Each student becomes so many of itself, one after the other."""
    return tf.nest.map_structure(lambda value: tf.repeat(value, students, axis=0), running)


class BatchedController:
    """Decisions for a population; the same rules as `Controller`'s for one model.

    Args:
      population: what is trained.
      actions: what can be chosen.
      rate_bounds: the lowest and the highest rate.
      observations: the parts of the state; none of them may look at the kernels themselves.
      schedule: what every rate is multiplied by, from a training's beginning to its end.
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
        self._validated = tf.function(
            functools.partial(self._validated_graph), autograph=False, jit_compile=True
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
        choose: ActionChooser,
        num_validations: int = 0,
    ) -> BatchedEpisodes:
        """Trains the population from the beginning to the end."""
        data, weights = task
        running = self.begin(weights, initial_rates)
        course = Rollout(data, optimizers, num_steps, seed, num_validations)
        running, rows = self.go(running, course, choose, 0, len(course.decisions))
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        return BatchedEpisodes(DecisionRow(*columns), self.scores(course, running))

    def begin(self, weights: BatchedWeights, initial_rates: np.ndarray) -> RolloutState:
        """A population before its first step."""
        rates = tf.constant(initial_rates, tf.float32)
        watched = self.population.network.watched(weights.trainable)
        return RolloutState(
            weights=weights,
            kept=weights,
            initial=weights,
            initial_rates=rates,
            kept_rates=rates,
            rates=rates,
            track=tracks.start((self.population.size,)),
            before=watched,
            moved=[tf.zeros_like(w) for w in watched],
            start=watched,
            first_loss=tf.ones_like(rates),
            interval_loss=tf.ones_like(rates),
        )

    def go(
        self, running: RolloutState, course: Rollout, choose: ActionChooser, first: int, last: int
    ) -> tuple[RolloutState, list[DecisionRow]]:
        """Trains on from decision `first` to decision `last` (not included).

        Returns:
          The population after, and what each decision was.
        """
        steps = [*course.decisions, course.num_steps]
        rows = []
        for number in range(first, last):
            step, end = steps[number], steps[number + 1]
            taken = max(step - steps[max(number - 1, 0)], 1)
            terms = tf.constant(
                [step / course.num_steps, course.num_steps, end - step, taken], tf.float32
            )
            running, states, jumped = self._observe(
                running, course.optimizers, terms, tf.constant(number > 0)
            )
            given = choose.override(number)
            values = choose.q_values(states).numpy()
            actions = np.where(given >= 0, given, values.argmax(axis=1))
            forced = jumped.numpy() if self._back is not None else np.zeros(len(actions), bool)
            actions = np.where(forced, self._back or 0, actions)
            running = self._apply(running, course.optimizers, tf.constant(actions, tf.int32), terms)
            rows.append(
                DecisionRow(
                    states.numpy(),
                    actions,
                    running.rates.numpy(),
                    running.track.now.numpy(),
                    ~forced,
                )
            )
            middle = tf.constant((step + end) / 2 / course.num_steps, tf.float32)
            share = 1.0 if self.schedule is None else self.schedule(middle)
            running = self._train(running, course, running.rates * share, step, end)
        return running, rows

    def _train(
        self, running: RolloutState, course: Rollout, rates: tf.Tensor, step: int, end: int
    ) -> RolloutState:
        """Trains from step to step, and hears of the validation loss in between where it is due."""
        cuts = sorted({step, end} | {v for v in course.validations if step < v < end})
        total = tf.zeros_like(rates)
        for begin, stop in itertools.pairwise(cuts):
            if begin in course.validations:
                memory = self._validated(
                    running.track, course.data, running.weights, running.first_loss
                )
                running = running._replace(track=memory)
            weights, first, rest = self.population.advance(
                course.data, running.weights, course.optimizers, rates, course.seed, begin, stop
            )
            if stop > begin + 1:
                total += rest * (stop - begin - 1)
            # The first loss after a decision is that of the weights before it.
            if begin > step:
                total += first
            running = running._replace(
                weights=weights, first_loss=first if begin == 0 else running.first_loss
            )
        return running._replace(interval_loss=total / (end - step - 1))

    def _validated_graph(
        self, memory: LossHistory, data: BatchedData, weights: BatchedWeights, first_loss: tf.Tensor
    ) -> LossHistory:
        loss = self.population.validation_losses(data, weights)
        return tracks.with_validation(memory, tracks.relative_log(loss, first_loss))

    def scores(self, course: Rollout, running: RolloutState) -> np.ndarray:
        """log(validation loss / first training loss), `[P]`, at most `WORST`."""
        final = self.population.validate(course.data, running.weights)
        ratios = final / running.first_loss.numpy()
        ratios = np.where(np.isfinite(ratios), ratios, np.inf)
        return np.clip(np.log(np.maximum(ratios, 1e-12)), None, WORST)

    def _observe_graph(
        self,
        running: RolloutState,
        optimizers: BatchedOptimizers,
        terms: tf.Tensor,
        has_loss: tf.Tensor,
    ) -> tuple[RolloutState, tf.Tensor, tf.Tensor]:
        progress, num_steps, interval, taken = tf.unstack(terms)
        log_loss = tracks.relative_log(running.interval_loss, running.first_loss)
        seen = tracks.with_loss(running.track, log_loss)
        track = LossHistory(
            *(tf.where(has_loss, a, b) for a, b in zip(seen, running.track, strict=True))
        )
        watched = self.population.network.watched(running.weights.trainable)
        parts = [
            motion(now, before, last, start, taken)
            for now, before, last, start in zip(
                watched, running.before, running.moved, running.start, strict=True
            )
        ]
        like = tf.zeros_like(track.now)
        situation = ObservationContext(
            kernels=[],
            rate=running.rates,
            initial_rate=running.initial_rates,
            progress=progress + like,
            log_losses=tf.zeros([3]),
            pace=tf.ones([]),
            track=track,
            motion=tf.add_n(parts) / len(parts),
            optimizer=tf.stack([optimizers.adaptive, _log_gain(optimizers)], axis=-1),
            num_steps=num_steps,
            interval=interval,
        )
        state = tf.concat([part(situation) for part in self.observations], axis=-1)
        state = tf.where(tf.math.is_finite(state), state, 0.0)
        moved = [now - before for now, before in zip(watched, running.before, strict=True)]
        return running._replace(track=track, moved=moved), state, tracks.has_jumped(track)

    def _apply_graph(
        self,
        running: RolloutState,
        optimizers: BatchedOptimizers,
        actions: tf.Tensor,
        terms: tf.Tensor,
    ) -> RolloutState:
        is_copy_bad = tracks.is_copy_bad(running.track)
        track = tracks.with_copy_of_start(running.track, is_copy_bad)
        is_best = track.now <= track.best
        led_here = tf.where(is_best, running.rates, running.kept_rates)
        backs = tf.zeros_like(is_best)
        outcomes = []
        for number, action in enumerate(self.actions):
            if isinstance(action, StepBack):
                backs = actions == number
                outcomes.append(action.rate_after(running.rates, led_here))
            else:
                outcomes.append(action.next_rate(running.rates, running.initial_rates, terms[0]))
        low, high = self.rate_bounds
        chosen = tf.gather(tf.stack(outcomes, axis=1), actions, batch_dims=1)
        # Holding a rate that lies outside the bounds is holding it.
        is_held = tf.equal(chosen, running.rates)
        chosen = tf.where(is_held, chosen, tf.clip_by_value(chosen, low, high))

        def pick(condition: tf.Tensor, ours: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
            wide = tf.reshape(condition, [-1] + [1] * (len(ours.shape) - 1))
            return tf.where(wide, ours, theirs)

        keep = functools.partial(tf.nest.map_structure, functools.partial(pick, is_best))
        # Weights alone: the optimizer's slots stay those of the copy.
        from_start = functools.partial(tf.nest.map_structure, functools.partial(pick, is_copy_bad))
        copied = running.kept._replace(
            trainable=from_start(running.initial.trainable, running.kept.trainable),
            moving=from_start(running.initial.moving, running.kept.moving),
        )
        kept = keep(running.weights, copied)
        restore = functools.partial(tf.nest.map_structure, functools.partial(pick, backs))
        weights = restore(kept, running.weights)
        # The speed that led astray is not taken back.
        stops = backs & ~is_best & (optimizers.adaptive < 0.5)
        slots = [pick(stops, tf.zeros_like(slot), slot) for slot in weights.first_slots]
        weights = weights._replace(first_slots=slots)
        return running._replace(
            weights=weights,
            kept=kept,
            kept_rates=tf.where(backs, chosen, led_here),
            rates=chosen,
            track=tracks.with_rate(track, running.rates, chosen, backs),
            before=self.population.network.watched(weights.trainable),
        )


def _log_gain(optimizers: BatchedOptimizers) -> tf.Tensor:
    """log(1 / (1 - μ)) of SGD; 0 of Adam, whose moments are means."""
    return tf.where(optimizers.adaptive > 0.0, 0.0, -tf.math.log(1.0 - optimizers.momentum))
