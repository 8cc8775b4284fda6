"""What can be wrong with a selector's arguments, and with the data of a fit.

What all selectors share: the pipeline, its position, and how far ahead it is.
"""

from __future__ import annotations

import abc
import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.selection.observations import SelectionState
from keras_qan.selection.pipeline import ExampleChooser, ExampleSource, Pipeline
from keras_qan.selection.statistics import BatchComposition, GroupFractions
from keras_qan.selection.stream_state import (
    STRATEGY_BUFFER,
    BatchLog,
    EpochSampler,
    Orders,
    StreamPosition,
)


def check_arguments(name: str, source: ExampleSource, batch_size: int, seed: int) -> None:
    """Raises ValueError for a batch size or seed that is out of range."""
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise ValueError(
            f"{name} got batch_size={batch_size}; expected an integer of at least 1, for example "
            "128."
        )
    if batch_size > source.num_examples:
        raise ValueError(
            f"{name} got batch_size={batch_size} for {source.num_examples} examples; expected a "
            "batch of no more than there are. Choose a smaller batch_size."
        )
    check_seed(name, seed)


def check_seed(name: str, seed: int) -> None:
    """Raises ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"{name} got seed={seed}; expected an integer of at least 0.")


def check_place_for_weights(name: str, spec: Any, unbiased: bool) -> None:
    """Raises ValueError where weights are wanted and the examples have no place for them."""
    if unbiased and not (isinstance(spec, tuple) and len(spec) in (2, 3)):
        raise ValueError(
            f"{name} is to carry weights, and the examples are {spec}; expected (x, y) or "
            "(x, y, sample_weight), so that a sample_weight has a place. Map them to that first, "
            "or set unbiased=False."
        )


def foreign_batches(name: str, trained: int, newest: int) -> str:
    """Says that steps were trained on batches that the selector did not make.

    Args:
      name: of the selector's class.
      trained: the number of the first batch that is not its own.
      newest: that of the last one that it made, -1 for none.
    """
    if newest < 0:
        return (
            f"{name} was told of a training step, but has made no batch: fit's data did not come "
            "from it. Pass selector.dataset() to fit, with "
            "steps_per_epoch=selector.steps_per_epoch."
        )
    return (
        f"{name} was told of training steps on batches {trained} and later, and the last one that "
        f"it made is {newest}: fit's data did not come from it alone, or somebody else iterated "
        "over its dataset at the same time. Pass selector.dataset() itself to fit, and use a "
        "selector for one training at a time."
    )


_log = logging.getLogger(__name__)


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
      notes_losses: whether it is told them: where it has to be, or `note_losses` was called.
      unbiased: whether batches carry weights that undo the selection in expectation, as
        `sample_weight`.

    Raises:
      ValueError: an argument is out of range.
    """

    uses_losses = False

    def __init__(
        self,
        source: ExampleSource,
        batch_size: int,
        *,
        walks: EpochSampler | None = None,
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
        self._walks = walks or EpochSampler(None, source.num_examples)
        self._groups = groups
        self._composition = BatchComposition(groups)
        self._trail = BatchLog(batch_size, num_counters)

        self._position = StreamPosition(num_counters)
        with tf.device("/cpu:0"):
            self._seed = tf.Variable(tf.constant(seed, tf.int64), trainable=False)
            self._loss_total = tf.Variable(0.0, trainable=False)
            self._loss_count = tf.Variable(0.0, trainable=False)
        self.notes_losses = self.uses_losses
        self._sums_losses = False
        self._prefetch, self._buffered = 2, 0
        self._charge = _Charge()
        self._recorder: Any = None
        self._compile()

    def _compile(self) -> None:
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
        return int(self._position.delay.numpy())

    @property
    def trained(self) -> int:
        """Batches that were trained on; where nobody counts them, those that were handed out."""
        return int(self._position.trained.numpy())

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
        self._position.delay.assign(prefetch + buffered)
        pipeline = Pipeline(
            self._choose,
            self._source,
            self._walks,
            self._position,
            self._trail,
            self.unbiased,
            self._watch if self.uses_losses else None,
        )
        return pipeline.dataset(prefetch, transform)

    @abc.abstractmethod
    def actions(self) -> tuple[Any, ...]:
        """What an agent can choose among, bound to this selector."""

    def moves(self) -> tuple[Any, ...]:
        """The actions that an agent should rather be given: few, and none of them ruinous."""
        return self.actions()

    def observations(self) -> tuple[Any, ...]:
        """What an agent with `moves` should see, bound to this selector."""
        return (self.observation(),) if self.summary_size else ()

    def note_losses(self) -> None:
        """From now on it wants to be told the examples' losses, whatever it chooses by."""
        self.notes_losses = True

    def loss_sums(self) -> tuple[tf.Variable, tf.Variable]:
        """Running sums of an estimate of the loss over all data, and of the steps, `[]` each.

        The loss of the chosen batches falls when what is easy is chosen. This is the mean of the
        last seen losses of all examples; where they are not kept, of the classes' running means by
        their shares in the data. Whoever asks for the sums may set them to zero.
        """
        self.note_losses()
        if not self._sums_losses:
            self._sums_losses = True
            self._compile()
        return self._loss_total, self._loss_count

    def callback(self) -> Any:
        """A Keras callback that tells the selector how far the training is, and the losses.

        Not needed beside a `QANCallback` that has the selector's actions.
        """
        from keras_qan.selection.callback import SelectorCallback

        return SelectorCallback(self)

    def recorder(self) -> Any:
        """What reads the examples' losses out of training steps, or None if they are not needed."""
        from keras_qan.selection.loss_recorder import LossRecorder

        if self.notes_losses and self._recorder is None:
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

    def shares(self) -> GroupFractions:
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
        self._position.reset()
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
        self._position.settle()
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
        spread = STRATEGY_BUFFER if num_replicas > 1 else 0
        self._position.begin(num_steps, self._prefetch + self._buffered + spread)
        self._trail.clear(2 * (self.staleness + steps_per_call) + 8)
        self._loss_total.assign(0.0)
        self._loss_count.assign(0.0)

    def advance(self, steps: int = 1, losses: tf.Tensor | None = None) -> None:
        """Counts steps that were trained.

        Args:
          steps: T, batches since the last call.
          losses: the loss of each of their examples, float32 `[T, B]`, not-a-number where unknown;
            only selectors with `notes_losses` look at them.

        Raises:
          ValueError: the batches did not come from this selector's dataset.
          RuntimeError: the pipeline is further ahead than was declared.
        """
        known = losses if self.notes_losses else None
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
        self._position.end()

    # What each selector says.

    @abc.abstractmethod
    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: Orders) -> ExampleChooser:
        """What goes into the batch of that number."""

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """Examples of each group, float32 `[T, G]`, in batches `[T, B]` that counted `[T, S]`."""
        del counted
        return tf.zeros([tf.shape(indices)[0], len(self._groups)])

    def _learn(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        """Takes in the losses `[T, B]` of examples `[T, B]`."""

    def _loss_of_all(self) -> tf.Tensor:
        """What all data lose, as far as is known, float32 `[]`."""
        return tf.constant(float("nan"))

    def _plan(self, steps: tf.Tensor) -> None:
        """Prepares what comes next, after so many steps since the last time."""

    def _forget(self) -> None:
        """Goes back to the beginning."""

    def _state(self) -> dict[str, tf.Variable]:
        """The variables that have to be kept, by name."""
        return {
            "seed": self._seed,
            "trained": self._position.trained,
            "num_steps": self._position.num_steps,
            "counters": self._position.counters,
            "composition/counts": self._composition.counts,
            "composition/width": self._composition.width,
            "composition/recent": self._composition.recent,
        }

    # How the steps are counted.

    def _watch(self, number: tf.Tensor) -> None:
        """Complains once, after two passes whose losses nobody gave back."""
        is_late = tf.equal(number, 2 * self.steps_per_epoch)
        is_unheard = tf.logical_and(is_late, tf.logical_not(self._position.is_counted))
        tf.cond(is_unheard, self._complain, lambda: tf.constant(False))

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
        first = self._position.trained.read_value()
        are_here, indices, counters = self._trail.read(first, steps)

        def take_in() -> tf.Tensor:
            counted = self._position.counters.read_value()
            before = tf.concat([counted[tf.newaxis], counters[:-1]], axis=0)
            if self._groups:
                self._composition.add(first, self._group_counts(indices, counters - before))
            if losses is not None:
                self._learn(indices, tf.cast(losses, tf.float32))
                self._add_loss(tf.cast(steps, tf.float32))
            self._position.advance(first + steps, counters[-1])
            self._plan(steps)
            return tf.constant(True)

        tf.cond(are_here, take_in, lambda: tf.constant(False))
        newest = self._trail.newest.read_value()
        return are_here, newest + 1 - (first + steps), newest

    def _add_loss(self, steps: tf.Tensor) -> None:
        if self._sums_losses:
            loss = self._loss_of_all()
            is_known = tf.math.is_finite(loss)
            self._loss_total.assign_add(tf.where(is_known, steps * loss, 0.0))
            self._loss_count.assign_add(tf.where(is_known, steps, 0.0))


class _Charge:
    """Which `fit` looks after a selector; a plain object, which TensorFlow does not wrap."""

    fit: object = None
