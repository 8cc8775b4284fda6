"""Mini-batches by loss: the higher an example's rank, the likelier it comes."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_qan.selection.actions import Press
from keras_qan.selection.base import Selector
from keras_qan.selection.loss_table import DECILES, Lists, LossTable
from keras_qan.selection.pipeline import ExampleChooser, ExampleSource
from keras_qan.selection.stream_state import DelayedValues, Orders
from keras_qan.selection.uniform import next_of_all

#: Where pressures end: 1 is none; at the ends nearly every draw is of the first tenth of the ranks.
PRESSURE_BOUNDS = (1e-8, 1e8)


class LossRank(Selector):
    """Draws examples by the rank of their last losses (Loshchilov & Hutter 2015).

    p_i ∝ exp(-log(s) · i / N) for the example of rank i = 0 … N - 1, the highest loss first: the
    first is s times as likely as the last. Their pressure falls from s to 1 over the training.
    Below 1 it is the lowest loss that is likeliest, as in self-paced learning (Kumar et al. 2010):
    what is labelled wrongly is hard, and then seldom comes.

    Losses come out of the training steps themselves, and the ranks are found anew after every
    `refresh_every` batches; the original recomputed all losses at intervals, which costs forward
    passes. Before the first ranks, all examples are walked over once.

    With `unbiased`, an example weighs 1 / (N · p_i).

    Args:
      dataset: single examples of any structure.
      batch_size: B, at most N.
      pressure: s, from 1e-8 (the easiest first) over 1 (all alike) to 1e8 (the hardest first).
      anneal: whether the pressure goes to 1 at the end, as log s · (1 - t/T). T is the length of
        the `fit` that `callback()` is in; where it is not known, the pressure stays.
      refresh_every: batches between rankings; by default as many as hold N examples.
      unbiased: whether batches carry weights.
      seed: what the draws follow from, at least 0.

    Raises:
      TypeError: the dataset is none, or holds sparse tensors.
      ValueError: an argument is out of range, or the dataset is batched or of unknown length.
    """

    uses_losses = True

    def __init__(
        self,
        dataset: tf.data.Dataset,
        batch_size: int,
        *,
        pressure: float = 100.0,
        anneal: bool = True,
        refresh_every: int | None = None,
        unbiased: bool = False,
        seed: int = 0,
    ) -> None:
        low, high = PRESSURE_BOUNDS
        if not low <= pressure <= high:
            raise ValueError(
                f"LossRank got pressure={pressure}; expected a number from {low:g} (the easiest "
                f"first) over 1 (every example alike) to {high:g} (the hardest first)."
            )
        if refresh_every is not None and refresh_every < 1:
            raise ValueError(
                f"LossRank got refresh_every={refresh_every}; expected at least 1 batch between "
                "rankings, or None for one after every pass."
            )
        super().__init__(
            ExampleSource(dataset), batch_size, groups=DECILES, unbiased=unbiased, seed=seed
        )
        self.pressure = float(pressure)
        self.anneal = anneal
        self.refresh_every = refresh_every or self.steps_per_epoch
        self._table = LossTable(self.num_examples)
        self._lists = Lists(2, self.num_examples)
        self._rankings = DelayedValues([[-1.0]])  # which list; -1 before the first
        self._pressures = DelayedValues([[math.log(self.pressure)]])
        with tf.device("/cpu:0"):
            self._next_ranking = tf.Variable(
                tf.constant(self.steps_per_epoch, tf.int64), trainable=False
            )

    def actions(self) -> tuple[Press, ...]:
        """A sixteenth of the pressure, a quarter, the same, four times, and sixteen times it."""
        return tuple(Press(f).bound_to(self) for f in (1 / 16, 0.25, 1.0, 4.0, 16.0))

    def moves(self) -> tuple[Press, ...]:
        """A quarter of the pressure, and four times as much."""
        return Press(0.25).bound_to(self), Press(4.0).bound_to(self)

    def press(self, factor: float | tf.Tensor) -> None:
        """Multiplies the pressure, within its bounds; it shows `staleness` batches later."""
        bounds = [math.log(bound) for bound in PRESSURE_BOUNDS]
        log_pressure = self._pressures.newest()[1] + tf.math.log(tf.cast(factor, tf.float64))
        within = tf.clip_by_value(log_pressure, *bounds)
        self._pressures.append(within[tf.newaxis], self._position.first_to_shape())

    def log_pressure(self, number: tf.Tensor) -> tf.Tensor:
        """log s at a batch, annealed, float64 `[]`."""
        log_pressure = self._pressures.last(number)[0, 1]
        total = tf.cast(self._position.num_steps.read_value(), tf.float64)
        progress = tf.math.divide_no_nan(tf.cast(number, tf.float64), total)
        left = tf.clip_by_value(1.0 - progress, 0.0, 1.0)
        return log_pressure * left if self.anneal else log_pressure

    def summary(self) -> tf.Tensor:
        """Shares of the tenths in late batches, and log s, float32 `[11]`."""
        log_pressure = tf.cast(self.log_pressure(self._position.trained.read_value()), tf.float32)
        return tf.concat([super().summary(), log_pressure[tf.newaxis]], axis=0)

    @property
    def summary_size(self) -> int:
        """Eleven."""
        return len(DECILES) + 1

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: Orders) -> ExampleChooser:
        which = tf.cast(self._rankings.last(number)[0, 1], tf.int32)
        seed = self._seed.read_value()

        def walk() -> tuple[tf.Tensor, ...]:
            indices, after = next_of_all(self._walks, orders, seed, number, self.batch_size)
            return indices, tf.ones([self.batch_size]), *after

        def draw() -> tuple[tf.Tensor, ...]:
            rank, weights = self._drawn_ranks(number, seed)
            return self._lists.fetch(which, rank), weights, *orders

        indices, weights, members, walks = tf.cond(which < 0, walk, draw)
        return ExampleChooser(indices, weights, counters, Orders(members, walks))

    def _drawn_ranks(self, number: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Ranks int64 `[B]`, each drawn by itself, and weights float32 `[B]`."""
        size = tf.constant(self.num_examples, tf.float64)
        log_s = self.log_pressure(number)
        # Nearer to 0 the draws are uniform to seven digits; it keeps the fractions well defined.
        log_s = tf.where(tf.abs(log_s) < 1e-7, tf.constant(1e-7, tf.float64), log_s)
        uniform = tf.random.stateless_uniform(
            [self.batch_size], tf.stack([-1 - seed, number]), dtype=tf.float64
        )
        # The distribution function of ranks is (1 - s^(-i/N)) / (1 - 1/s); this is its inverse.
        place = -tf.math.log1p(uniform * tf.math.expm1(-log_s)) / log_s
        rank = tf.minimum(tf.floor(place * size), size - 1.0)
        own = -tf.math.expm1(-log_s / size) / -tf.math.expm1(-log_s)  # p of rank 0
        weights = tf.exp(rank * log_s / size) / (size * own)
        return tf.cast(rank, tf.int64), tf.cast(weights, tf.float32)

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        del counted
        return self._table.tenths(indices)

    def _learn(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        self._table.update(indices, losses)

    def _loss_of_all(self) -> tf.Tensor:
        return self._table.mean()

    def _plan(self, steps: tf.Tensor) -> None:
        del steps
        since, which = tf.unstack(self._rankings.newest())
        trained = self._position.trained.read_value()
        # The other list may be written once the pipeline has left it.
        is_free = since <= tf.cast(trained, tf.float64)
        begins = self._position.first_to_shape()
        is_due = begins >= self._next_ranking.read_value()

        def rank() -> tf.Tensor:
            other = tf.where(tf.equal(which, 0.0), 1.0, 0.0)
            self._lists.write(tf.cast(other, tf.int32), self._table.ranked())
            self._rankings.append(tf.cast(other, tf.float64)[tf.newaxis], begins)
            return self._next_ranking.assign(begins + self.refresh_every)

        tf.cond(tf.logical_and(is_free, is_due), rank, self._next_ranking.read_value)

    def _forget(self) -> None:
        self._table.reset()
        self._lists.reset()
        self._rankings.reset()
        self._pressures.reset()
        self._next_ranking.assign(self.steps_per_epoch)

    def _state(self) -> dict[str, tf.Variable]:
        return super()._state() | {
            "losses": self._table.losses,
            "bounds": self._table.bounds,
            "ranking/0": self._lists.lists[0],
            "ranking/1": self._lists.lists[1],
            "rankings": self._rankings.rows,
            "pressures": self._pressures.rows,
            "next_ranking": self._next_ranking,
        }
