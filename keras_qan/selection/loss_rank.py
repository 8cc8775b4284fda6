"""Mini-batches by loss: the higher the loss, the more probable an example."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_qan.selection.actions import Press
from keras_qan.selection.base import Selector
from keras_qan.selection.loss_table import DECILES, Lists, LossTable
from keras_qan.selection.observations import SelectionState
from keras_qan.selection.pipeline import BatchChoice, ExampleSource
from keras_qan.selection.stream_state import EpochOrders
from keras_qan.utils.validation import check_integer, check_number

#: The range of pressures: 1 is none; at the ends nearly every draw is from one tenth of the ranks.
PRESSURE_BOUNDS = (1e-8, 1e8)


class LossRank(Selector):
    """Draws examples by the rank of their last losses (Loshchilov & Hutter 2015).

    p_i ∝ exp(-log(s) · i / N) for the example of rank i = 0 … N - 1, the highest loss first: the
    first is s times as probable as the last. The pressure falls from s to 1 over the training.
    Below 1 the lowest loss is the most probable, as in self-paced learning (Kumar et al. 2010):
    wrongly labelled examples are hard, and then rarely drawn.

    Losses are read from the training steps, and the ranks are updated after every `refresh_every`
    batches; the original recomputed all losses at intervals, which costs forward passes. Before
    the first ranking, all examples are visited once.

    With `unbiased`, an example weighs 1 / (N · p_i).

    Args:
      dataset: single examples of any structure.
      batch_size: B, at most N.
      pressure: s, from 1e-8 (the easiest first) over 1 (all alike) to 1e8 (the hardest first).
        Defaults to 100.
      anneal: whether the pressure goes to 1 at the end, as log s · (1 - t/T). T is `total_steps`,
        or the length of the `fit` that `callback()` is in; where it is unknown, the pressure
        stays. Defaults to True.
      refresh_every: batches between rankings. Defaults to as many as hold N examples.
      unbiased: whether batches carry weights. Defaults to False.
      seed: seed of the draws, at least 0. Defaults to 0.
      total_steps: length of the training in steps, where several fits make one. Defaults to the
        length of the first `fit`; further ones of the same model go on, to an unknown end.

    Raises:
      TypeError: it is no dataset, or holds sparse tensors.
      ValueError: an argument is out of range, or the dataset is batched or of unknown length.
    """

    uses_losses = True
    supports = (Press, SelectionState)

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
        total_steps: int | None = None,
    ) -> None:
        hint = "Below 1 the easiest come first, at 1 all are alike, above 1 the hardest."
        self.pressure = check_number("pressure", pressure, *PRESSURE_BOUNDS, hint=hint)
        if refresh_every is not None:
            hint = "None is one ranking after every pass."
            refresh_every = check_integer("refresh_every", refresh_every, 1, hint=hint)
        super().__init__(
            ExampleSource(dataset),
            batch_size,
            groups=DECILES,
            unbiased=unbiased,
            seed=seed,
            total_steps=total_steps,
        )
        self.anneal = anneal
        self.refresh_every = refresh_every or self.steps_per_epoch
        self._table = LossTable(self.num_examples)
        self._lists = Lists(2, self.num_examples)
        # Which list; -1 before the first.
        self._rankings = self._stream.delayed_values("rankings", [[-1.0]])
        log_pressure = math.log(self.pressure)
        self._pressures = self._stream.delayed_values("pressures", [[log_pressure]])
        with tf.device("/cpu:0"):
            self._next_ranking = tf.Variable(
                tf.constant(self.steps_per_epoch, tf.int64), trainable=False
            )

    def actions(self) -> tuple[Press, ...]:
        """A quarter of the pressure, and four times as much."""
        return Press(0.25).bound_to(self), Press(4.0).bound_to(self)

    def raw_actions(self) -> tuple[Press, ...]:
        """A sixteenth of the pressure, a quarter, the same, four times, and sixteen times it."""
        return tuple(Press(f).bound_to(self) for f in (1 / 16, 0.25, 1.0, 4.0, 16.0))

    def press(self, factor: float | tf.Tensor) -> None:
        """Multiply the pressure, within its bounds; it shows `staleness` batches later.

        Args:
          factor: above 0; `[]`.
        """
        bounds = [math.log(bound) for bound in PRESSURE_BOUNDS]
        log_pressure = self._pressures.newest()[1] + tf.math.log(tf.cast(factor, tf.float64))
        within = tf.clip_by_value(log_pressure, *bounds)
        self._pressures.append(within[tf.newaxis], self._stream.first_to_shape())

    def log_pressure(self, number: tf.Tensor) -> tf.Tensor:
        """Return log s at a batch, annealed, float64 `[]`.

        Args:
          number: of the batch, int64 `[]`.
        """
        log_pressure = self._pressures.at(number)[0, 1]
        total = tf.cast(self._stream.num_steps.read_value(), tf.float64)
        progress = tf.math.divide_no_nan(tf.cast(number, tf.float64), total)
        left = tf.clip_by_value(1.0 - progress, 0.0, 1.0)
        return log_pressure * left if self.anneal else log_pressure

    def summary(self) -> tf.Tensor:
        """Shares of the tenths in the latest batches, and log s, float32 `[11]`."""
        log_pressure = tf.cast(self.log_pressure(self._stream.trained.read_value()), tf.float32)
        return tf.concat([super().summary(), log_pressure[tf.newaxis]], axis=0)

    @property
    def summary_size(self) -> int:
        """11."""
        return len(DECILES) + 1

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: EpochOrders) -> BatchChoice:
        which = tf.cast(self._rankings.at(number)[0, 1], tf.int32)

        def visit() -> tuple[tf.Tensor, ...]:
            indices, after = self._stream.sample_all(orders, number)
            return indices, tf.ones([self.batch_size]), *after

        def draw() -> tuple[tf.Tensor, ...]:
            rank, weights = self._draw_ranks(number)
            return self._lists.fetch(which, rank), weights, *orders

        is_plain = tf.logical_or(which < 0, self._is_off(number))
        indices, weights, members, epochs = tf.cond(is_plain, visit, draw)
        return BatchChoice(indices, weights, counters, EpochOrders(members, epochs))

    def _draw_ranks(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Ranks int64 `[B]`, drawn independently, and weights float32 `[B]`."""
        size = tf.constant(self.num_examples, tf.float64)
        log_s = self.log_pressure(number)
        # Nearer to 0 the draws are uniform to seven digits; it keeps the fractions well defined.
        log_s = tf.where(tf.abs(log_s) < 1e-7, tf.constant(1e-7, tf.float64), log_s)
        key = tf.stack([-1 - self._stream.seed.read_value(), number])
        uniform = tf.random.stateless_uniform([self.batch_size], key, dtype=tf.float64)
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
        trained = self._stream.trained.read_value()
        # The other list may be written once the pipeline has left it.
        is_free = since <= tf.cast(trained, tf.float64)
        begins = self._stream.first_to_shape()
        is_due = begins >= self._next_ranking.read_value()

        def rank() -> tf.Tensor:
            other = tf.where(tf.equal(which, 0.0), 1.0, 0.0)
            self._lists.write(tf.cast(other, tf.int32), self._table.ranked())
            self._rankings.append(tf.cast(other, tf.float64)[tf.newaxis], begins)
            return self._next_ranking.assign(begins + self.refresh_every)

        tf.cond(tf.logical_and(is_free, is_due), rank, self._next_ranking.read_value)

    def _reset(self) -> None:
        self._table.reset()
        self._lists.reset()
        self._next_ranking.assign(self.steps_per_epoch)

    def _state(self) -> dict[str, tf.Variable]:
        return super()._state() | {
            "losses": self._table.losses,
            "bounds": self._table.bounds,
            "ranking/0": self._lists.lists[0],
            "ranking/1": self._lists.lists[1],
            "next_ranking": self._next_ranking,
        }
