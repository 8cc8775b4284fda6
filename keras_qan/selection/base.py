"""Base of all selectors: the pipeline of batches, and the way back from training steps to them."""

from __future__ import annotations

import abc
import functools
import logging
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.selection.actions import SelectorBound
from keras_qan.selection.callback import SelectorCallback
from keras_qan.selection.loss_recorder import LossRecorder
from keras_qan.selection.observations import SelectionState
from keras_qan.selection.pipeline import BatchChoice, ExampleSource, Pipeline
from keras_qan.selection.statistics import BatchComposition, GroupFractions
from keras_qan.selection.stream_state import (
    STRATEGY_BUFFER,
    EpochOrders,
    EpochSampler,
    StreamState,
)
from keras_qan.utils.validation import check, check_integer

_log = logging.getLogger(__name__)


class Selector(tf.Module, abc.ABC):
    """Decides which examples come next, while a model trains on them.

    The batches are an endless stream, numbered from 0. The examples of a batch are a function of
    its number, of the seed, of earlier batches and of the actions taken until `staleness` batches
    before; never of how far ahead the pipeline happens to be. A new iterator begins at the batch
    after the last one that was trained on.

    Args:
      source: the examples.
      batch_size: B.
      sampler: samples the examples, epoch after epoch. Defaults to one group of all.
      groups: names of the groups whose shares are counted. Defaults to none.
      num_counters: how many numbers are carried from batch to batch. Defaults to 0.
      unbiased: whether batches carry weights. Defaults to False.
      seed: seed of everything random. Defaults to 0.
      total_steps: steps of the whole training, in all its fits. Defaults to those of each `fit`.

    Attributes:
      batch_size: B.
      num_examples: N.
      uses_losses: whether it has to be told the examples' losses.
      notes_losses: whether it is told them: where it has to be, or `note_losses` was called.
      supports: types of the actions and observations that can be bound to it.
      unbiased: whether batches carry weights that undo the selection in expectation, as
        `sample_weight`.

    Raises:
      ValueError: an argument is out of range.
    """

    uses_losses = False
    supports: tuple[type[SelectorBound], ...] = (SelectionState,)

    def __init__(
        self,
        source: ExampleSource,
        batch_size: int,
        *,
        sampler: EpochSampler | None = None,
        groups: tuple[str, ...] = (),
        num_counters: int = 0,
        unbiased: bool = False,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_integer("seed", seed, 0)
        if total_steps is not None:
            hint = "It counts the steps of all fits; None takes each fit for a training."
            total_steps = check_integer("total_steps", total_steps, 1, hint=hint)
        self.total_steps = total_steps
        self.num_examples = source.num_examples
        hint = f"There are {self.num_examples} examples; choose for example 128, or fewer."
        self.batch_size = check_integer("batch_size", batch_size, 1, self.num_examples, hint=hint)
        self.unbiased = unbiased
        self._source = source
        self._groups = groups
        self._composition = BatchComposition(groups)
        sampler = sampler or EpochSampler(None, self.num_examples)
        self._stream = StreamState(self.batch_size, sampler, num_counters, seed)
        with tf.device("/cpu:0"):
            self._loss_total = tf.Variable(0.0, trainable=False)
            self._loss_count = tf.Variable(0.0, trainable=False)
            # The first batch without a choice, and the first one with it again.
            self._off = tf.Variable(tf.zeros([2], tf.int64), trainable=False)
        self.notes_losses = self.uses_losses
        self._sums_losses = False
        self._prefetch, self._buffered = 2, 0
        self._charge = _Charge()
        self._recorder: LossRecorder | None = None
        self._compile()

    def _compile(self) -> None:
        self._advance = tf.function(functools.partial(self._advance_graph), autograph=False)

    # The batches.

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
        return int(self._stream.delay.numpy())

    @property
    def trained(self) -> int:
        """Batches trained on; where nobody counts them, those that were handed out."""
        return int(self._stream.trained.numpy())

    def dataset(
        self,
        prefetch: int = 2,
        buffered: int = 0,
        transform: Callable[..., Any] | None = None,
    ) -> tf.data.Dataset:
        """Make an endless dataset of batches, to be used with `steps_per_epoch`.

        Args:
          prefetch: batches that are made ahead; 0 for none, so that an action shapes the very next
            batch. Defaults to 2.
          buffered: batches held back by transformations that you add behind it: the size of a
            `prefetch`, or the `num_parallel_calls` of a `map`; a plain `map` holds none back.
            Defaults to 0.
          transform: applied to a batch before it is prefetched, for example augmentation; called
            with the parts of a batch, as `Dataset.map` does. Defaults to none.

        Returns:
          Batches of the structure of the examples, `[B, ...]`, with a weight for each example if
          the selector is unbiased: `(x, y, sample_weight)`.

        Raises:
          ValueError: a number is negative, or the examples' structure has no place for weights.
        """
        self._prefetch = check_integer("prefetch", prefetch, 0)
        self._buffered = check_integer("buffered", buffered, 0)
        spec = self._source.spec
        check(
            not self.unbiased or (isinstance(spec, tuple) and len(spec) in (2, 3)),
            "The examples' structure",
            spec,
            "(x, y) or (x, y, sample_weight), as the batches carry weights",
            "Map the examples to that first, or set unbiased=False.",
        )
        self._stream.delay.assign(self._prefetch + self._buffered)
        watch = self._watch if self.uses_losses else None
        pipeline = Pipeline(self._choose, self._source, self._stream, self.unbiased, watch)
        return pipeline.dataset(self._prefetch, transform)

    def turn_off(self) -> None:
        """Sample all examples alike until `turn_on`; it shows `staleness` batches later."""
        self._turn(off=True)

    def turn_on(self) -> None:
        """Choose again after `turn_off`; it shows `staleness` batches later."""
        self._turn(off=False)

    def _turn(self, off: bool) -> None:
        begin, end = self._off.numpy()
        if off != (end == tf.int64.max):
            now = self._stream.first_to_shape()
            self._off.assign(tf.stack([now, tf.int64.max] if off else [begin, now]))
            self._turned()

    def _turned(self) -> None:
        """Take in that the choice was turned on or off."""

    def _is_off(self, number: tf.Tensor) -> tf.Tensor:
        """Return whether the batch of that number is made without a choice, bool `[]`."""
        off = self._off.read_value()
        return tf.logical_and(off[0] <= number, number < off[1])

    # Parts of an agent.

    @abc.abstractmethod
    def actions(self) -> tuple[Any, ...]:
        """Return actions for an agent, bound to this selector: few, and none of them ruinous."""

    def raw_actions(self) -> tuple[Any, ...]:
        """Return the actions of the original code or paper, bound to this selector."""
        return self.actions()

    def moves(self) -> tuple[Any, ...]:
        """Return `actions()`. Deprecated: the former `actions()` are `raw_actions()`."""
        warnings.warn(
            "Selector.moves() is deprecated and will be removed in the next version. Use "
            "actions(); what actions() gave before is raw_actions().",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.actions()

    def observations(self) -> tuple[Any, ...]:
        """Return observations for an agent with `actions()`, bound to this selector."""
        return (self.observation(),) if self.summary_size else ()

    def observation(self) -> SelectionState:
        """Return the summary as a part of an agent's state, bound to this selector.

        Raises:
          ValueError: the selector has nothing to show.
        """
        return SelectionState(self.summary_size).bound_to(self)

    def summary(self) -> tf.Tensor:
        """Return the shares of the groups in the latest batches, float32 `[summary_size]`."""
        return self._composition.recent.read_value()

    @property
    def summary_size(self) -> int:
        """The size of `summary`."""
        return len(self._groups)

    # Losses.

    def note_losses(self) -> None:
        """Ask for the examples' losses, whether the selector chooses by them or not."""
        self.notes_losses = True

    def loss_sums(self) -> tuple[tf.Variable, tf.Variable]:
        """Return running sums of an estimate of the loss over all data, and of steps, `[]` each.

        The loss of the chosen batches falls when what is easy is chosen. This is the mean of the
        last seen losses of all examples; where they are not kept, of the classes' running means by
        their shares in the data. The caller may set the sums to zero.
        """
        self.note_losses()
        if not self._sums_losses:
            self._sums_losses = True
            self._compile()
        return self._loss_total, self._loss_count

    def recorder(self) -> LossRecorder | None:
        """Return the recorder of the losses in training steps, or None if they are not needed."""
        if self.notes_losses and self._recorder is None:
            self._recorder = LossRecorder(self.batch_size)
        return self._recorder

    # Composition of the batches.

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of examples that it tells apart."""
        return self._groups

    def recent_shares(self) -> dict[str, float]:
        """Return the share of each group in the latest batches, by name."""
        return dict(zip(self._groups, self._composition.recent.numpy().tolist(), strict=True))

    def shares(self) -> GroupFractions:
        """Return the share of each group in the batches, in the course of the training.

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

    # Checkpoints.

    def restart(self, seed: int | None = None) -> None:
        """Go back to the beginning, for another training with the same pipeline.

        Args:
          seed: another seed, at least 0. Defaults to the present one.

        Raises:
          ValueError: the seed is negative.
        """
        self._charge.optimizer = None
        self._stream.reset(None if seed is None else check_integer("seed", seed, 0))
        self._composition.reset()
        self._off.assign(tf.zeros([2], tf.int64))
        self._reset()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays from which another selector resumes with the very same batches."""
        return {name: np.array(variable.numpy()) for name, variable in self._state().items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Resume from `arrays` of a selector of the same data and settings.

        Args:
          arrays: by name.

        Raises:
          ValueError: an array is missing, or has another shape.
        """
        state = self._state()
        # One that was saved before it could be turned off holds nothing of that.
        arrays = {"off": np.zeros([2], np.int64)} | arrays
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
        self._stream.resume()

    def set_params(self, params: Any) -> None:
        """Refuse to be one of `fit`'s callbacks, whose parameters Keras sets first.

        Raises:
          TypeError: always.
        """
        del params
        raise TypeError(
            f"fit got a {type(self).__name__} among its callbacks; expected its callback. Write "
            "callbacks=[selector.callback()], and selector.dataset() for the data."
        )

    set_model = set_params

    # Called by a training loop; `callback()` does it within Keras's `fit`.

    def callback(self) -> SelectorCallback:
        """Return a Keras callback that reports the progress of a training, and the losses.

        Not needed beside a `QANCallback` that has the selector's actions.
        """
        return SelectorCallback(self)

    def take_charge(self, fit: object) -> bool:
        """Return whether the caller is the first of a `fit` to ask.

        Args:
          fit: any object of the `fit`.
        """
        if self._charge.fit is fit:
            return False
        self._charge.fit = fit
        return True

    def goes_on_with(self, optimizer: object) -> bool:
        """Return whether the last training had this optimizer; from now on it is this one's.

        A further `fit` of a model is the same training, whose end is not known.

        Args:
          optimizer: of the training that begins.
        """
        last = self._charge.optimizer
        self._charge.optimizer = weakref.ref(optimizer)
        return last is not None and last() is optimizer

    def begin(
        self, num_steps: int | None = None, steps_per_call: int = 1, num_replicas: int = 1
    ) -> None:
        """Begin a training: from now on `advance` counts, not what is handed out.

        Args:
          num_steps: steps of this training. Defaults to None, where they are unknown.
          steps_per_call: the most steps that `advance` will be told of at once. Defaults to 1.
          num_replicas: devices that a distribution strategy feeds. Defaults to 1.
        """
        spread = STRATEGY_BUFFER if num_replicas > 1 else 0
        delay = self._prefetch + self._buffered + spread
        self._stream.begin(num_steps, delay, steps_per_call, self.total_steps)
        self._loss_total.assign(0.0)
        self._loss_count.assign(0.0)

    def advance(
        self, steps: int = 1, losses: tf.Tensor | None = None, are_weighted: bool = False
    ) -> None:
        """Count trained steps.

        Args:
          steps: T, batches since the last call. Defaults to 1.
          losses: the loss of each of their examples, float32 `[T, B]`, not-a-number where unknown;
            only selectors with `notes_losses` look at them. Defaults to none.
          are_weighted: whether the losses were multiplied by the weights that the batches carry,
            which is undone then. Defaults to False.

        Raises:
          ValueError: the batches did not come from this selector's dataset.
          RuntimeError: the pipeline is further ahead than was declared.
        """
        known = losses if self.notes_losses else None
        undo = are_weighted and self.unbiased
        are_ours, lead, newest = self._advance(tf.constant(steps, tf.int64), known, undo)
        if not bool(are_ours):
            raise ValueError(self._foreign_batches(int(newest)))
        if int(lead) > self.staleness:
            raise RuntimeError(
                f"The pipeline of {type(self).__name__} is {int(lead)} batches ahead of the "
                f"training; expected at most {self.staleness} (prefetch={self._prefetch}, "
                f"buffered={self._buffered}), so that actions would come too late for their "
                f"batches. Say dataset(buffered={self._buffered + int(lead) - self.staleness}) if "
                "something behind the dataset prefetches, and do not iterate over the dataset "
                "while it is trained on."
            )

    def end(self) -> None:
        """End a training; iterating counts by itself again."""
        self._charge.fit = None
        self._stream.end()

    # To be defined by each selector.

    @abc.abstractmethod
    def _choose(self, number: tf.Tensor, counters: tf.Tensor, orders: EpochOrders) -> BatchChoice:
        """Choose the contents of the batch of that number."""

    def _group_counts(self, indices: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """Examples of each group, float32 `[T, G]`, in batches `[T, B]` that counted `[T, S]`."""
        del counted
        return tf.zeros([tf.shape(indices)[0], len(self._groups)])

    def _learn(self, indices: tf.Tensor, losses: tf.Tensor) -> None:
        """Take in the losses `[T, B]` of examples `[T, B]`."""

    def _loss_of_all(self) -> tf.Tensor:
        """Estimate of the loss over all data, float32 `[]`; not-a-number where unknown."""
        return tf.constant(float("nan"))

    def _plan(self, steps: tf.Tensor) -> None:
        """Prepare the batches to come, after so many steps since the last time."""

    def _reset(self) -> None:
        """Go back to the beginning."""

    def _state(self) -> dict[str, tf.Variable]:
        """The variables that a checkpoint holds, by name."""
        return self._stream.variables_by_name() | {
            "off": self._off,
            "composition/counts": self._composition.counts,
            "composition/width": self._composition.width,
            "composition/recent": self._composition.recent,
        }

    # Counting.

    def _watch(self, number: tf.Tensor) -> None:
        """Warn once, after two passes whose losses nobody reported."""
        is_late = tf.equal(number, 2 * self.steps_per_epoch)
        is_unreported = tf.logical_and(is_late, tf.logical_not(self._stream.is_counted))
        tf.cond(is_unreported, self._warn, lambda: tf.constant(False))

    def _warn(self) -> tf.Tensor:
        def log() -> np.ndarray:
            _log.warning(
                "%s has made two passes, and nobody told it the examples' losses: it chooses as "
                "Uniform does. Add selector.callback() to fit's callbacks.",
                type(self).__name__,
            )
            return np.asarray(True)

        return tf.reshape(tf.numpy_function(log, [], tf.bool), [])

    def _advance_graph(
        self, steps: tf.Tensor, losses: tf.Tensor | None, are_weighted: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        stream = self._stream
        first = stream.trained.read_value()
        are_known, indices, counters = stream.recorded(first, steps)

        def take_in() -> tf.Tensor:
            counted = stream.counters.read_value()
            before = tf.concat([counted[tf.newaxis], counters[:-1]], axis=0)
            if self._groups:
                self._composition.add(first, self._group_counts(indices, counters - before))
            if losses is not None:
                plain = tf.cast(losses, tf.float32)
                if are_weighted:  # the selection's own weights say nothing of the examples
                    plain /= stream.weights(first, steps)
                self._learn(indices, plain)
                self._add_loss(tf.cast(steps, tf.float32))
            stream.advance(first + steps, counters[-1])
            self._plan(steps)
            return tf.constant(True)

        tf.cond(are_known, take_in, lambda: tf.constant(False))
        newest = stream.newest.read_value()
        return are_known, newest + 1 - (first + steps), newest

    def _add_loss(self, steps: tf.Tensor) -> None:
        if self._sums_losses:
            loss = self._loss_of_all()
            is_known = tf.math.is_finite(loss)
            self._loss_total.assign_add(tf.where(is_known, steps * loss, 0.0))
            self._loss_count.assign_add(tf.where(is_known, steps, 0.0))

    def _foreign_batches(self, newest: int) -> str:
        """Message for steps on batches that the selector did not make; `newest` is its last."""
        name = type(self).__name__
        if newest < 0:
            return (
                f"{name} was told of a training step, but has made no batch: fit's data did not "
                "come from it. Pass selector.dataset() to fit, with "
                "steps_per_epoch=selector.steps_per_epoch."
            )
        return (
            f"{name} was told of training steps on batches {self.trained} and later, and the last "
            f"one that it made is {newest}: fit's data did not come from it alone, or somebody "
            "else iterated over its dataset at the same time. Pass selector.dataset() itself to "
            "fit, and use a selector for one training at a time."
        )


class _Charge:
    """The `fit` that looks after a selector; a plain object, which TensorFlow does not wrap."""

    fit: object = None
    optimizer: weakref.ref[object] | None = None
