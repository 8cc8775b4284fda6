"""Per-example losses out of Keras's own training step."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_qan.distribute import team_of
from keras_qan.selection.per_example import PerExampleLosses


class _Kept(NamedTuple):
    """The training function with the recorder in it, and the one that stood there before."""

    before: Any
    recording: Any
    steps_per_call: int


class LossRecorder:
    """Notes, in each training step, the loss of every example of the batch.

    `compute_loss`, which every training step calls, is wrapped for the time of a `fit`: beside what
    it did before, it writes the examples' losses to a small variable on the training's device.
    There is no second forward pass, and the model's own class, weights and configuration are left
    alone. The compiled training function is kept for the next `fit` of the same model.

    Args:
      batch_size: B.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._model: keras.Model | None = None
        self._kept: _Kept | None = None
        self._seen = 0
        self.is_evaluating = False

    def attach(self, model: keras.Model, steps_per_call: int) -> None:
        """Wraps a model's `compute_loss`; `detach` undoes it."""
        # What a fit that was broken off left behind.
        for recorder in (self, getattr(model.compute_loss, "__self__", None)):
            if isinstance(recorder, LossRecorder):
                recorder.detach()
        self.is_evaluating = False
        before = model.train_function
        kept = self._kept if self._model_of_kept is model else None
        self._per_example = PerExampleLosses(model)
        self._model = model
        self._original = model.compute_loss
        self._own = vars(model).get("compute_loss")
        if kept is None or kept.before is not before or kept.steps_per_call < steps_per_call:
            self._make_variables(model, steps_per_call)
            model.compute_loss = self._compute_loss
            model.make_train_function(force=True)
            self._kept = _Kept(before, model.train_function, steps_per_call)
            self._model_of_kept = model
        else:
            model.compute_loss = self._compute_loss
            model.train_function = kept.recording
        self._seen = int(self._local(self._slot)[0])

    _model_of_kept: keras.Model | None = None

    def detach(self) -> None:
        """Leaves the model as it was."""
        model = self._model
        self._model = None
        if model is None or self._kept is None:
            return
        if self._own is not None:
            model.compute_loss = self._own
        elif "compute_loss" in vars(model):
            del model.compute_loss
        if model.train_function is self._kept.recording:
            model.train_function = self._kept.before

    def take(self, steps: int) -> tf.Tensor:
        """The losses of the last steps.

        Args:
          steps: T.

        Returns:
          float32 `[T, B]`.

        Raises:
          RuntimeError: the training step recorded another number of batches.
        """
        slots = self._local(self._slot)
        recorded = int(slots[0]) - self._seen
        self._seen += recorded
        if recorded != steps:
            raise RuntimeError(
                f"{recorded} batches of losses were recorded in {steps} training steps; expected "
                "one for each step. The selector reads them where train_step calls "
                "self.compute_loss(x, y, y_pred, sample_weight): a train_step of your own must do "
                "so once for each batch."
            )
        if steps > self._steps_per_call:
            raise RuntimeError(
                f"Keras did {steps} steps in one call, and steps_per_execution was "
                f"{self._steps_per_call} when fit began; expected it to stay the same. Compile "
                "with a fixed number."
            )
        rows = tf.range(self._seen - steps, self._seen) % self._steps_per_call
        parts = [tf.gather(losses, rows) for losses in self._local(self._losses)]
        team = team_of(self._strategy)
        if team is not None:
            # Each worker has the losses of its own part of the batch: [R, T, B / R] of all.
            parts = tf.unstack(tf.reshape(team.gather(tf.stack(parts)), [-1, *parts[0].shape]))
        with tf.device("/cpu:0"):
            widths = zip(parts, self._widths, strict=True)
            return tf.concat([losses[:, :width] for losses, width in widths], axis=1)

    def _make_variables(self, model: keras.Model, steps_per_call: int) -> None:
        strategy = model.distribute_strategy
        replicas = strategy.num_replicas_in_sync
        # As tf.distribute divides a batch: the first replicas get one more where it is not even.
        whole, more = divmod(self._batch_size, replicas)
        self._widths = [whole + (number < more) for number in range(replicas)]
        self._steps_per_call = steps_per_call
        self._strategy = strategy
        each_its_own = {
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.SUM,
        }
        options = each_its_own if replicas > 1 else {}
        with strategy.scope():
            unknown = tf.fill([steps_per_call, self._widths[0]], float("nan"))
            self._losses = tf.Variable(unknown, trainable=False, **options)
            self._slot = tf.Variable(0, trainable=False, **options)

    def _local(self, variable: Any) -> list[tf.Tensor]:
        """A variable's value on each replica."""
        return [
            tf.convert_to_tensor(value)
            for value in self._strategy.experimental_local_results(variable)
        ]

    def _compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        model = self._model
        assert model is not None
        if model._compute_loss_has_training_arg:
            loss = self._original(x, y, y_pred, sample_weight, training=training)
        else:
            loss = self._original(x, y, y_pred, sample_weight)
        if training and not self.is_evaluating:
            self._write(tf.stop_gradient(self._per_example(y, y_pred)))
        return loss

    def _write(self, losses: tf.Tensor) -> None:
        slot = tf.identity(self._slot)
        short = self._widths[0] - tf.shape(losses)[0]
        row = tf.pad(losses, [[0, short]], constant_values=float("nan"))
        place = tf.reshape(slot % self._steps_per_call, [1, 1])
        rows = tf.tensor_scatter_nd_update(tf.identity(self._losses), place, row[tf.newaxis])
        self._losses.assign(rows)
        self._slot.assign(slot + 1)
