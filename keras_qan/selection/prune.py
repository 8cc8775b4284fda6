"""Mini-batches without some of the examples that are learned already."""

from __future__ import annotations

import tensorflow as tf

from keras_qan.selection.actions import Drop
from keras_qan.selection.base import Selector
from keras_qan.selection.loss_table import DECILES, Lists, LossTable
from keras_qan.selection.observations import SelectionState
from keras_qan.selection.pipeline import BatchChoice, ExampleSource
from keras_qan.selection.stream_state import EpochOrders, EpochSampler
from keras_qan.utils.validation import check_number

#: One in use, one for the next pass, and one for an action that comes in between.
_NUM_LISTS = 3


class Prune(Selector):
    """Leaves out examples of below-average loss at random, and gives the others more weight.

    InfoBatch (Qin et al. 2024): before each pass a share r of the examples whose last loss is below
    the mean is dropped, and the rest of them weighs 1 / (1 - r), so that the gradient is the same
    in expectation. The last eighth of the training sees all examples, unweighted. Passes are
    shorter thereby: the same number of steps holds more passes, so fewer steps are needed.

    A pass is drawn while the batches before it are still on their way. An action shows `staleness`
    batches later if as many batches at least lie between it and the one before.

    Args:
      dataset: single examples, (x, y) or (x, y, sample_weight); of any structure if not `unbiased`.
      batch_size: B, at most N.
      ratio: r, in [0, 1). Defaults to 0.5.
      full_share: the share of the training that sees all examples at its end, in [0, 1]. The
        length of the training is `total_steps`, or that of the `fit` that `callback()` is in;
        where it is unknown, there is no such end. Defaults to 0.125.
      unbiased: whether batches carry the weights. Defaults to True.
      seed: seed of the draws, at least 0. Defaults to 0.
      total_steps: length of the training in steps, where several fits make one. Defaults to the
        length of the first `fit`; further ones of the same model go on, to an unknown end.

    Raises:
      TypeError: it is no dataset, or holds sparse tensors.
      ValueError: an argument is out of range, or the dataset is batched or of unknown length.
    """

    uses_losses = True
    supports = (Drop, SelectionState)

    def __init__(
        self,
        dataset: tf.data.Dataset,
        batch_size: int,
        *,
        ratio: float = 0.5,
        full_share: float = 0.125,
        unbiased: bool = True,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        hint = "It is the share of the below-average examples that is dropped."
        self.ratio = check_number("ratio", ratio, 0, below=1, hint=hint)
        hint = "It is the share of the training that sees all examples."
        self.full_share = check_number("full_share", full_share, 0, 1, hint=hint)
        super().__init__(
            ExampleSource(dataset),
            batch_size,
            sampler=EpochSampler(None, 0),  # each pass is a list that is drawn beforehand
            groups=DECILES,
            unbiased=unbiased,
            seed=seed,
            total_steps=total_steps,
        )
        self._table = LossTable(self.num_examples)
        self._lists = Lists(_NUM_LISTS, self.num_examples)
        # Which list, how many it holds, and the weight of those below the average.
        initial = [[0.0, float(self.num_examples), 1.0]]
        self._passes = self._stream.delayed_values("passes", initial)
        with tf.device("/cpu:0"):
            self._ratio = tf.Variable(self.ratio, dtype=tf.float32, trainable=False)
            self._is_changed = tf.Variable(False, trainable=False)
            self._pass_ends = tf.Variable(tf.constant(0, tf.int64), trainable=False)
            self._num_passes = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self._reset()

    def actions(self) -> tuple[Drop, ...]:
        """Dropping none of the below-average examples, a quarter, half, and three quarters."""
        return tuple(Drop(ratio).bound_to(self) for ratio in (0.0, 0.25, 0.5, 0.75))

    def drop(self, ratio: float | tf.Tensor) -> None:
        """Set the ratio; if it is another, a new pass begins, `staleness` batches later.

        Args:
          ratio: of the below-average examples that are dropped, `[]`, in [0, 1].
        """
        ratio = tf.cast(ratio, tf.float32)
        is_other = tf.not_equal(ratio, self._ratio.read_value())
        self._is_changed.assign(tf.logical_or(self._is_changed.read_value(), is_other))
        self._ratio.assign(ratio)
        self._plan(tf.constant(0, tf.int64))

    def _turned(self) -> None:
        self._is_changed.assign(True)
        self._plan(tf.constant(0, tf.int64))

    def summary(self) -> tf.Tensor:
        """Shares of the tenths in the latest batches, ratio, and share kept, float32 `[12]`."""
        kept = self._passes.at(self._stream.trained.read_value())[0, 2] / self.num_examples
        own = tf.stack([self._ratio.read_value(), tf.cast(kept, tf.float32)])
        return tf.concat([super().summary(), own], axis=0)

    @property
    def summary_size(self) -> int:
        """12."""
        return len(DECILES) + 2

    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: EpochOrders) -> BatchChoice:
        since, which, kept, weight = tf.unstack(self._passes.at(number)[0])
        done = (number - tf.cast(tf.maximum(since, 0.0), tf.int64)) * self.batch_size
        place = (done + tf.range(self.batch_size, dtype=tf.int64)) % tf.cast(kept, tf.int64)
        entry = self._lists.fetch(tf.cast(which, tf.int32), place)
        # An example of below-average loss is written as -1 - its number.
        weights = tf.where(entry < 0, tf.cast(weight, tf.float32), 1.0)
        return BatchChoice(tf.where(entry < 0, -1 - entry, entry), weights, counters, orders)

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        del counted
        return self._table.tenths(indices)

    def _learn(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        self._table.update(indices, losses)

    def _loss_of_all(self) -> tf.Tensor:
        return self._table.mean()

    # Passes.

    def _full_from(self) -> tf.Tensor:
        """The batch from which on all examples are seen, int64 `[]`."""
        total = self._stream.num_steps.read_value()
        pruned = tf.cast((1.0 - self.full_share) * tf.cast(total, tf.float64), tf.int64)
        return tf.where(total > 0, pruned, tf.int64.max)

    def _plan(self, steps: tf.Tensor) -> None:
        full_from = self._full_from()
        newest = tf.cast(self._passes.newest(), tf.int64)
        begun_full = newest[0] >= full_from
        ends = self._pass_ends.read_value()
        ends = tf.where(begun_full, ends, tf.minimum(ends, full_from))
        is_changed = tf.logical_and(self._is_changed.read_value(), tf.logical_not(begun_full))
        # As many steps again may be done before the next chance to plan.
        soonest = self._stream.first_to_shape()
        is_due = soonest + steps > ends
        # The next list in turn may be written once the pipeline has left it.
        oldest_waiting = self._passes.rows.read_value()[1 - _NUM_LISTS, 0]
        is_free = oldest_waiting <= tf.cast(self._stream.trained.read_value(), tf.float64)

        def plan() -> tf.Tensor:
            begins = tf.where(is_changed, soonest, tf.maximum(soonest, ends))
            which = (newest[1] + 1) % _NUM_LISTS
            is_full = tf.logical_or(begins >= full_from, self._is_off(begins))
            entries, kept, weight = self._draw_pass(is_full)
            self._lists.write(tf.cast(which, tf.int32), entries)
            row = [tf.cast(value, tf.float64) for value in (which, kept, weight)]
            self._passes.append(tf.stack(row), begins)
            self._is_changed.assign(False)
            self._num_passes.assign_add(1)
            return self._pass_ends.assign(begins - (-tf.cast(kept, tf.int64) // self.batch_size))

        is_wanted = tf.logical_or(is_due, is_changed)
        tf.cond(tf.logical_and(is_free, is_wanted), plan, self._pass_ends.read_value)

    def _draw_pass(self, is_full: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Draw a pass: entries int32 `[N]` in random order, their number, and a weight."""
        losses = self._table.losses.read_value()
        self._table.update_bounds()
        known = tf.boolean_mask(losses, tf.math.is_finite(losses))
        is_below = losses < tf.reduce_mean(known)  # nowhere, as long as nothing is known
        below = self._shuffled(tf.cast(tf.where(is_below)[:, 0], tf.int32), 0)
        above = tf.cast(tf.where(tf.logical_not(is_below))[:, 0], tf.int32)
        size = tf.cast(tf.size(below), tf.float32)
        ratio = tf.where(is_full, 0.0, self._ratio.read_value())
        stay = tf.cast(tf.round(size * (1.0 - ratio)), tf.int32)
        # What was rounded is undone by the weight, so that it is exact for any size.
        weight = tf.where(stay > 0, size / tf.cast(tf.maximum(stay, 1), tf.float32), 1.0)
        entries = self._shuffled(tf.concat([above, -1 - below[:stay]], axis=0), 1)
        kept = tf.size(entries)
        padded = tf.pad(entries, [[0, self.num_examples - kept]])
        return tf.ensure_shape(padded, [self.num_examples]), kept, weight

    def _shuffled(self, values: tf.Tensor, salt: int) -> tf.Tensor:
        number = 2 * self._num_passes.read_value() + salt
        key = tf.stack([self._stream.seed.read_value(), number])
        return tf.random.experimental.stateless_shuffle(values, key)

    def _reset(self) -> None:
        self._table.reset()
        self._lists.reset()
        self._ratio.assign(self.ratio)
        self._is_changed.assign(False)
        self._num_passes.assign(0)
        everyone = self._shuffled(tf.range(self.num_examples, dtype=tf.int32), 1)
        self._lists.write(tf.constant(0), everyone)
        self._num_passes.assign(1)
        self._pass_ends.assign(self.steps_per_epoch)

    def _state(self) -> dict[str, tf.Variable]:
        return super()._state() | {
            "losses": self._table.losses,
            "bounds": self._table.bounds,
            **{f"pass/{number}": values for number, values in enumerate(self._lists.lists)},
            "ratio": self._ratio,
            "is_changed": self._is_changed,
            "pass_ends": self._pass_ends,
            "num_passes": self._num_passes,
        }
