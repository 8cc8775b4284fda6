"""What all selectors share: the pipeline, its position, and how far ahead it is."""

from __future__ import annotations

import abc
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.selection.checks import (
    check_arguments,
    check_place_for_weights,
    check_seed,
    foreign_batches,
)
from keras_qan.selection.composition import Composition, Shares
from keras_qan.selection.observing import SelectionState
from keras_qan.selection.pipeline import as_written, options, with_weights
from keras_qan.selection.source import Source
from keras_qan.selection.trail import Trail
from keras_qan.selection.walks import Orders, Walks

_log = logging.getLogger(__name__)

#: Batches that tf.distribute holds back for its devices when there are several.
STRATEGY_BUFFER = 3

#: An iterator that ended within so many batches was a look at the data, not a training.
_A_LOOK = 1 + STRATEGY_BUFFER


class Choice(NamedTuple):
    """What goes into one batch.

    Attributes:
      indices: the examples' numbers, int32 `[B]`.
      weights: what makes the batch's loss an unbiased estimate, float32 `[B]`.
      counters: what the selector counts, after this batch, int64 `[S]`.
      orders: the orders that it walks in.
    """

    indices: tf.Tensor
    weights: tf.Tensor
    counters: tf.Tensor
    orders: Orders


class Selector(tf.Module, abc.ABC):
    """Decides which examples come next, while a model trains on them.

    The batches are an endless stream, numbered from 0. Which examples a batch holds is a function
    of its number, of the seed, of what was chosen before and of the actions taken until
    `staleness` batches before; never of how far ahead the pipeline happens to be. A new iterator
    begins at the batch after the last one that was trained on.

    Args:
      source: the examples.
      batch_size: B.
      walks: what the examples are walked in; by default one walk over all.
      groups: names of the groups whose shares are counted.
      num_counters: how many numbers are carried from batch to batch.
      unbiased: whether batches carry weights.
      seed: what everything random follows from.

    Attributes:
      batch_size: B.
      num_examples: N.
      uses_losses: whether it has to be told the examples' losses.
      unbiased: whether batches carry weights that undo the selection in expectation, as
        `sample_weight`.

    Raises:
      ValueError: an argument is out of range.
    """

    uses_losses = False

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        walks: Walks | None = None,
        groups: tuple[str, ...] = (),
        num_counters: int = 0,
        unbiased: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_arguments(type(self).__name__, source, batch_size, seed)
        self.batch_size = batch_size
        self.num_examples = source.num_examples
        self.unbiased = unbiased
        self._source = source
        self._walks = walks or Walks(None, source.num_examples)
        self._groups = groups
        self._composition = Composition(groups)
        self._trail = Trail(batch_size, num_counters)

        def number(value: int) -> tf.Variable:
            return tf.Variable(tf.constant(value, tf.int64), trainable=False)

        with tf.device("/cpu:0"):
            self._seed = number(seed)
            self._trained = number(0)
            self._counters = tf.Variable(tf.zeros([num_counters], tf.int64), trainable=False)
            # Where the last iterator began: a look at the data is no training.
            self._trained_before = number(0)
            self._counters_before = tf.Variable(self._counters, trainable=False)
            self._is_counted = tf.Variable(False, trainable=False)
            self._num_steps = number(0)
            self._delay = number(2)
        self._prefetch, self._buffered = 2, 0
        self._charge = _Charge()
        self._recorder: Any = None
        self._advance = tf.function(functools.partial(self._advance_graph), autograph=False)

    # What a user calls.

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold as many examples as there are."""
        return -(-self.num_examples // self.batch_size)

    @property
    def staleness(self) -> int:
        """Batches between an action and the first batch that it shapes.

        They were, or may have been, made before the action: `prefetch` and `buffered` of
        `dataset()`, and three more where a distribution strategy feeds several devices.
        """
        return int(self._delay.numpy())

    @property
    def trained(self) -> int:
        """Batches that were trained on; where nobody counts them, those that were handed out."""
        return int(self._trained.numpy())

    def dataset(
        self,
        prefetch: int = 2,
        buffered: int = 0,
        transform: Callable[..., Any] | None = None,
    ) -> tf.data.Dataset:
        """The batches: an endless dataset, to be used with `steps_per_epoch`.

        Args:
          prefetch: batches that are made ahead; 0 for none, so that an action shapes the very next
            batch.
          buffered: batches that are held back by what you add behind it: the size of a `prefetch`,
            or the `num_parallel_calls` of a `map`. A plain `map` holds none back.
          transform: what is done to a batch before it is prefetched, for example augmentation;
            called with the parts of a batch, as `Dataset.map` does.

        Returns:
          Batches of the structure of the examples, `[B, ...]`, with a weight for each example if
          the selector is unbiased: `(x, y, sample_weight)`.

        Raises:
          ValueError: a number is negative, or the examples' structure has no place for weights.
        """
        if prefetch < 0 or buffered < 0:
            raise ValueError(
                f"dataset() got prefetch={prefetch}, buffered={buffered}; expected numbers of "
                "batches, at least 0."
            )
        check_place_for_weights(type(self).__name__, self._source.spec, self.unbiased)
        self._prefetch, self._buffered = prefetch, buffered
        self._delay.assign(prefetch + buffered)
        chosen = tf.data.Dataset.range(1).flat_map(as_written(self._choices))
        batches = chosen.map(as_written(self._fetch))
        if transform is not None:

            def transformed(marks: Any, batch: Any) -> Any:
                return marks, transform(*batch) if isinstance(batch, tuple) else transform(batch)

            batches = batches.map(transformed)
        if prefetch:
            batches = batches.prefetch(prefetch)
        return batches.map(as_written(self._hand_out)).with_options(options())

    @abc.abstractmethod
    def actions(self) -> tuple[Any, ...]:
        """What an agent can choose among, bound to this selector."""

    def callback(self) -> Any:
        """A Keras callback that tells the selector how far the training is, and the losses.

        Not needed beside a `QANCallback` that has the selector's actions.
        """
        from keras_qan.selection.steering import SelectorCallback

        return SelectorCallback(self)

    def recorder(self) -> Any:
        """What reads the examples' losses out of training steps, or None if they are not needed."""
        from keras_qan.selection.recorder import LossRecorder

        if self.uses_losses and self._recorder is None:
            self._recorder = LossRecorder(self.batch_size)
        return self._recorder

    def summary(self) -> tf.Tensor:
        """What an agent sees of the selection, float32 `[summary_size]`: shares of late batches."""
        return self._composition.recent.read_value()

    @property
    def summary_size(self) -> int:
        """How many numbers `summary` gives."""
        return len(self._groups)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of examples that it tells apart."""
        return self._groups

    def recent_shares(self) -> dict[str, float]:
        """The share of each group in the last batches, by name."""
        return dict(zip(self._groups, self._composition.recent.numpy().tolist(), strict=True))

    def observation(self) -> SelectionState:
        """The summary as a part of an agent's state, bound to this selector.

        Raises:
          ValueError: the selector has nothing to show.
        """
        return SelectionState(self.summary_size).bound_to(self)

    def shares(self) -> Shares:
        """What the batches were made of in the course of the training.

        Raises:
          ValueError: the selector knows no groups, or nothing was counted yet.
        """
        if not self._groups:
            raise ValueError(
                f"{type(self).__name__} tells no groups of examples apart; expected a selector by "
                "class or by loss, such as ClassMix, LossRank or Prune."
            )
        if not float(tf.reduce_sum(self._composition.counts)):
            raise ValueError(
                "No batches were counted yet: train with selector.callback() among fit's "
                "callbacks, or with a QANCallback that has the selector's actions."
            )
        return self._composition.shares(self.trained)

    def restart(self, seed: int | None = None) -> None:
        """Goes back to the beginning, for another training with the same pipeline.

        Args:
          seed: another seed, at least 0; by default the one before.

        Raises:
          ValueError: the seed is negative.
        """
        if seed is not None:
            check_seed(type(self).__name__, seed)
            self._seed.assign(seed)
        for variable in (self._trained, self._trained_before, self._num_steps):
            variable.assign(0)
        for variable in (self._counters, self._counters_before):
            variable.assign(tf.zeros_like(variable))
        self._is_counted.assign(False)
        self._trail.clear(0)
        self._composition.reset()
        self._forget()

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that has to be kept to go on from here with the very same batches."""
        return {name: np.array(variable.numpy()) for name, variable in self._state().items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Goes on where `arrays` of a selector of the same data and settings was.

        Raises:
          ValueError: an array is missing, or has another shape.
        """
        state = self._state()
        for name, variable in state.items():
            found = np.shape(arrays[name]) if name in arrays else "nothing"
            if found != tuple(variable.shape):
                raise ValueError(
                    f"The saved selector holds {found} as {name!r}; expected an array of shape "
                    f"{tuple(variable.shape)}, as arrays() of a {type(self).__name__} with the "
                    "same data and settings gives."
                )
        for name, variable in state.items():
            variable.assign(arrays[name])
        self._trained_before.assign(self._trained)
        self._counters_before.assign(self._counters)
        self._trail.clear(0)

    # What a training loop calls; `callback()` does it within Keras's `fit`.

    def take_charge(self, fit: object) -> bool:
        """Whether the caller is the first of a `fit` to ask; `fit` is any object of that fit."""
        if self._charge.fit is fit:
            return False
        self._charge.fit = fit
        return True

    def begin(
        self, num_steps: int | None = None, steps_per_call: int = 1, num_replicas: int = 1
    ) -> None:
        """From now on `advance` says what was trained on, not what was handed out.

        Args:
          num_steps: steps of this training, where they are known.
          steps_per_call: the most steps that `advance` will be told of at once.
          num_replicas: devices that a distribution strategy feeds.
        """
        was_counted = bool(self._is_counted.numpy())
        self._is_counted.assign(True)
        looked = int(self._trained.numpy()) - int(self._trained_before.numpy())
        if not was_counted and 0 < looked <= _A_LOOK:
            self._trained.assign(self._trained_before)
            self._counters.assign(self._counters_before)
        spread = STRATEGY_BUFFER if num_replicas > 1 else 0
        self._delay.assign(self._prefetch + self._buffered + spread)
        self._trail.clear(2 * (self.staleness + steps_per_call) + 8)
        self._num_steps.assign(0 if num_steps is None else self.trained + num_steps)

    def advance(self, steps: int = 1, losses: tf.Tensor | None = None) -> None:
        """Counts steps that were trained.

        Args:
          steps: T, batches since the last call.
          losses: the loss of each of their examples, float32 `[T, B]`, not-a-number where unknown;
            only selectors with `uses_losses` look at them.

        Raises:
          ValueError: the batches did not come from this selector's dataset.
          RuntimeError: the pipeline is further ahead than was declared.
        """
        known = losses if self.uses_losses else None
        are_ours, lead, newest = self._advance(tf.constant(steps, tf.int64), known)
        if not bool(are_ours):
            raise ValueError(foreign_batches(type(self).__name__, self.trained, int(newest)))
        if int(lead) > self.staleness:
            raise RuntimeError(
                f"The pipeline of {type(self).__name__} is {int(lead)} batches ahead of the "
                f"training; expected at most {self.staleness} (prefetch={self._prefetch}, "
                f"buffered={self._buffered}), so that actions would come too late for their "
                f"batches. Say dataset(buffered={self._buffered + int(lead) - self.staleness}) if "
                "something behind the dataset prefetches (Keras does, for class_weight), and do "
                "not iterate over the dataset while it is trained on."
            )

    def end(self) -> None:
        """The training is over; iterating counts by itself again."""
        self._charge.fit = None
        self._is_counted.assign(False)
        self._trained_before.assign(self._trained)
        self._counters_before.assign(self._counters)

    # What each selector says.

    @abc.abstractmethod
    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: Orders) -> Choice:
        """What goes into the batch of that number."""

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """Examples of each group, float32 `[T, G]`, in batches `[T, B]` that counted `[T, S]`."""
        del counted
        return tf.zeros([tf.shape(indices)[0], len(self._groups)])

    def _learn(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        """Takes in the losses `[T, B]` of examples `[T, B]`."""

    def _plan(self, steps: tf.Tensor) -> None:
        """Prepares what comes next, after so many steps since the last time."""

    def _forget(self) -> None:
        """Goes back to the beginning."""

    def _state(self) -> dict[str, tf.Variable]:
        """The variables that have to be kept, by name."""
        return {
            "seed": self._seed,
            "trained": self._trained,
            "num_steps": self._num_steps,
            "counters": self._counters,
            "composition/counts": self._composition.counts,
            "composition/width": self._composition.width,
            "composition/recent": self._composition.recent,
        }

    def _from(self) -> tf.Tensor:
        """The first batch that what is done now can still shape, int64 `[]`."""
        return self._trained.read_value() + self._delay.read_value()

    # The pipeline.

    def _choices(self, _: tf.Tensor) -> tf.data.Dataset:
        """What one iterator chooses, beginning where the training is."""
        first = self._trained.read_value()
        start = (first, self._counters.read_value(), self._walks.fresh())

        def choose(state: Any, _: tf.Tensor) -> Any:
            number, counters, orders = state
            choice = self._choose(number, counters, orders)
            self._trail.write(number, choice.indices, choice.counters)
            made = (number, choice.indices, choice.weights, choice.counters, number == first)
            return (number + 1, choice.counters, choice.orders), made

        return tf.data.Dataset.counter().scan(start, as_written(choose))

    def _fetch(
        self,
        number: tf.Tensor,
        indices: tf.Tensor,
        weights: tf.Tensor,
        after: tf.Tensor,
        is_first: tf.Tensor,
    ) -> Any:
        """The examples of a batch, and what has to be known when it is handed out."""
        batch = self._source.batch(indices)
        if self.unbiased:
            batch = with_weights(batch, weights)
        return (number, after, is_first), batch

    def _hand_out(self, marks: Any, batch: Any) -> Any:
        """Lets a batch go; where nobody says what was trained on, this counts as it."""
        number, after, is_first = marks

        def count() -> tf.Tensor:
            before = tf.where(is_first, self._trained, self._trained_before)
            self._trained_before.assign(before)
            before = tf.where(is_first, self._counters, self._counters_before)
            self._counters_before.assign(before)
            self._trained.assign(number + 1)
            return self._counters.assign(after)

        tf.cond(self._is_counted, lambda: tf.zeros_like(after), count)
        if self.uses_losses:
            # Once, after two passes whose losses nobody gave back.
            is_late = tf.equal(number, 2 * self.steps_per_epoch)
            is_unheard = tf.logical_and(is_late, tf.logical_not(self._is_counted))
            tf.cond(is_unheard, self._complain, lambda: tf.constant(False))
        return batch

    def _complain(self) -> tf.Tensor:
        def log() -> np.ndarray:
            _log.warning(
                "%s has made two passes, and nobody told it the examples' losses: it chooses as "
                "Uniform does. Add selector.callback() to fit's callbacks.",
                type(self).__name__,
            )
            return np.asarray(True)

        return tf.reshape(tf.numpy_function(log, [], tf.bool), [])

    def _advance_graph(
        self, steps: tf.Tensor, losses: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        first = self._trained.read_value()
        are_here, indices, counters = self._trail.read(first, steps)

        def take_in() -> tf.Tensor:
            before = tf.concat([self._counters.read_value()[tf.newaxis], counters[:-1]], axis=0)
            if self._groups:
                self._composition.add(first, self._group_counts(indices, counters - before))
            if losses is not None:
                self._learn(indices, tf.cast(losses, tf.float32))
            self._counters.assign(counters[-1])
            self._trained.assign(first + steps)
            self._plan(steps)
            return tf.constant(True)

        tf.cond(are_here, take_in, lambda: tf.constant(False))
        newest = self._trail.newest.read_value()
        return are_here, newest + 1 - (first + steps), newest


class _Charge:
    """Which `fit` looks after a selector; a plain object, which TensorFlow does not wrap."""

    fit: object = None
