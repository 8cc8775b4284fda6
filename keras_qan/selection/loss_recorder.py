"""Per-example losses, recorded in Keras's own training step."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_qan.distribute import worker_group_of
from keras_qan.utils.example_losses import ExampleLosses
from keras_qan.utils.fit_patch import FitPatch, loss_followed_by


class LossRecorder:
    """Records, in each training step, the loss of every example of the batch.

    `compute_loss`, which every training step calls, is wrapped during a `fit`: it also writes the
    examples' losses to a small variable on the training's device. There is no second forward pass,
    and the model's class, weights and configuration are left alone. The compiled training function
    is kept for the next `fit` of the same model.

    A loss is what Keras gives for the example alone: masks, `ignore_class`, sample weights and
    class weights count, penalties on weights do not. See `ExampleLosses`.

    Args:
      batch_size: B.

    Attributes:
      is_evaluating: whether losses are those of a validation, and not recorded.
      is_weighted: whether the losses hold sample weights.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._patch: FitPatch | None = None
        self._steps_per_call = 0
        self._seen = 0
        self.is_evaluating = False
        self.is_weighted = False

    def attach(self, model: keras.Model, steps_per_call: int) -> None:
        """Wrap a model's `compute_loss`; `detach` undoes it.

        Raises:
          ValueError: the model has no loss.
        """
        if model.loss is None:
            raise ValueError(
                f"Model {model.name!r} is compiled without a loss, so that the losses of its "
                "examples are not known; expected model.compile(loss=...). In a training loop of "
                "your own, pass them: selector.advance(losses=...)."
            )
        self.detach()  # an interrupted fit may have left it
        self.is_evaluating = False
        if self._patch is None or self._patch.model is not model:
            self._patch, self._steps_per_call = FitPatch(model), 0
        if self._steps_per_call < steps_per_call:
            self._make_variables(model, steps_per_call)
        self._patch.attach({"compute_loss": self._recording_loss(model)}, self._losses)
        self._seen = int(self._local(self._slot)[0])

    def detach(self) -> None:
        """Leave the model as it was."""
        if self._patch is not None:
            self._patch.detach()

    def take(self, steps: int) -> tf.Tensor:
        """Return the losses of the last steps.

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
        group = worker_group_of(self._strategy)
        if group is not None:
            # Each worker has the losses of its own part of the batch: [R, T, B / R] of all.
            parts = tf.unstack(tf.reshape(group.gather(tf.stack(parts)), [-1, *parts[0].shape]))
        with tf.device("/cpu:0"):
            widths = zip(parts, self._widths, strict=True)
            return tf.concat([losses[:, :width] for losses, width in widths], axis=1)

    def _make_variables(self, model: keras.Model, steps_per_call: int) -> None:
        strategy = model.distribute_strategy
        replicas = strategy.num_replicas_in_sync
        # As tf.distribute divides a batch: the first replicas get one more where it is uneven.
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

    def _recording_loss(self, model: keras.Model) -> Any:
        per_example = ExampleLosses(model._compile_loss)

        def record(
            loss: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool
        ) -> Any:
            del x
            if training and not self.is_evaluating:
                self.is_weighted = sample_weight is not None
                losses = tf.cast(per_example(y, y_pred, sample_weight), tf.float32)
                self._write(tf.stop_gradient(losses))
            return loss

        return loss_followed_by(model, record)

    def _write(self, losses: tf.Tensor) -> None:
        slot, width = tf.identity(self._slot), self._widths[0]
        losses = losses[:width]
        short = width - tf.shape(losses)[0]
        row = tf.pad(losses, [[0, short]], constant_values=float("nan"))
        place = tf.reshape(slot % self._steps_per_call, [1, 1])
        rows = tf.tensor_scatter_nd_update(tf.identity(self._losses), place, row[tf.newaxis])
        self._losses.assign(rows)
        self._slot.assign(slot + 1)
