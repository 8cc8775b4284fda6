"""Per-example losses, recorded in Keras's own training step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_qan.distribute import worker_group_of


class PerExampleLosses:
    """The losses of a batch's examples, by the loss that a model was compiled with.

    The outputs are those of the training step: only the loss is computed again, without its mean,
    sample weights, class weights and penalties on weights.

    Args:
      model: the compiled model.

    Raises:
      ValueError: the model has no loss.
    """

    def __init__(self, model: keras.Model) -> None:
        if model.loss is None:
            raise ValueError(
                f"Model {model.name!r} is compiled without a loss, so that the losses of its "
                "examples are not known; expected model.compile(loss=...). In a training loop of "
                "your own, pass them: selector.advance(losses=...)."
            )
        self._model = model
        self._weights = _loss_weights(model)

    def __call__(self, y: Any, y_pred: Any) -> tf.Tensor:
        """Compute the losses.

        Args:
          y: targets, as the model's `compute_loss` gets them.
          y_pred: outputs, each `[B, ...]`.

        Returns:
          float32 `[B]`: the mean over all other axes, summed over outputs times `loss_weights`.

        Raises:
          ValueError: the loss does not tell examples apart.
        """
        found = [
            weight * _one_output(spec, target, output)
            for spec, weight, target, output in _outputs(self._model, self._weights, y, y_pred)
        ]
        return tf.add_n(found)


def _loss_weights(model: keras.Model) -> Any:
    """The weights given to compile, for models with several outputs."""
    if not keras.tree.is_nested(model.loss) and len(getattr(model, "outputs", None) or []) < 2:
        return None
    with warnings.catch_warnings():
        # A compile configuration warns of lambdas, which are not loaded from it here.
        warnings.simplefilter("ignore")
        return (model.get_compile_config() or {}).get("loss_weights")


def _one_output(spec: Any, target: Any, output: Any) -> tf.Tensor:
    loss = keras.losses.get(spec)
    call: Callable[[Any, Any], Any] = loss.call if isinstance(loss, keras.losses.Loss) else loss
    output = tf.convert_to_tensor(output)
    target = tf.convert_to_tensor(target)
    dtype = loss.dtype if isinstance(loss, keras.losses.Loss) else keras.config.floatx()
    output, target = tf.cast(output, dtype), tf.cast(target, dtype)
    # As Keras does for losses that are functions.
    if target.shape.rank == output.shape.rank - 1 and output.shape[-1] == 1:
        target = target[..., tf.newaxis]
    values = tf.convert_to_tensor(call(target, output))
    if not values.shape.rank:
        raise ValueError(
            f"The loss {getattr(spec, '__name__', spec)!r} gives one number for the whole batch; "
            "expected one for each example, so that they can be told apart. Leave the mean over "
            "the batch to Keras."
        )
    values = tf.cast(values, tf.float32)
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def _outputs(
    model: keras.Model, weights: Any, y: Any, y_pred: Any
) -> list[tuple[Any, float, Any, Any]]:
    """(loss, weight, target, output) for each output that has a loss."""
    spec = model.loss
    if not keras.tree.is_nested(y_pred):
        return [(keras.tree.flatten(spec)[0], 1.0, keras.tree.flatten(y)[0], y_pred)]
    names = list(y_pred) if isinstance(y_pred, dict) else list(_output_names(model, len(y_pred)))
    found = []
    for place, name in enumerate(names):
        key = name if isinstance(y_pred, dict) else place
        if keras.tree.is_nested(y_pred[key]):
            raise ValueError(
                f"The output {name!r} of model {model.name!r} is nested; expected outputs in a "
                "plain list or dict, so that the losses of examples can be told apart."
            )
        loss = _part(spec, name, place) if keras.tree.is_nested(spec) else spec
        if loss is None:
            continue
        weight = 1.0 if weights is None else _part(weights, name, place)
        found.append((loss, 1.0 if weight is None else weight, _part(y, name, place), y_pred[key]))
    return found


def _output_names(model: keras.Model, count: int) -> list[str]:
    names = getattr(model, "output_names", None)
    return list(names) if names and len(names) == count else [str(n) for n in range(count)]


def _part(value: Any, name: str, place: int) -> Any:
    if isinstance(value, dict):
        return value.get(name)
    return value[place] if isinstance(value, list | tuple) else value


class _TrainFunctions(NamedTuple):
    """The training function that records losses, and the one before."""

    before: Any
    recording: Any
    steps_per_call: int


class LossRecorder:
    """Records, in each training step, the loss of every example of the batch.

    `compute_loss`, which every training step calls, is wrapped during a `fit`: it also writes the
    examples' losses to a small variable on the training's device. There is no second forward pass,
    and the model's class, weights and configuration are left alone. The compiled training function
    is kept for the next `fit` of the same model.

    Args:
      batch_size: B.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._model: keras.Model | None = None
        self._model_of_kept: keras.Model | None = None
        self._kept: _TrainFunctions | None = None
        self._seen = 0
        self.is_evaluating = False

    def attach(self, model: keras.Model, steps_per_call: int) -> None:
        """Wrap a model's `compute_loss`; `detach` undoes it."""
        # An interrupted fit may have left a recorder behind.
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
            self._kept = _TrainFunctions(before, model.train_function, steps_per_call)
            self._model_of_kept = model
        else:
            model.compute_loss = self._compute_loss
            model.train_function = kept.recording
        self._seen = int(self._local(self._slot)[0])
        model.make_train_function = self._detach_for_another_loop

    def _detach_for_another_loop(self, force: bool = False) -> Any:
        """Leave the model as it was where another `fit` or `train_on_batch` begins.

        Keras calls it at their beginning; a `fit` that was interrupted has not detached.
        """
        model = self._model
        self.detach()
        return model.make_train_function(force) if model is not None else None

    def detach(self) -> None:
        """Leave the model as it was."""
        model = self._model
        self._model = None
        if model is None or self._kept is None:
            return
        vars(model).pop("make_train_function", None)
        if self._own is not None:
            model.compute_loss = self._own
        elif "compute_loss" in vars(model):
            del model.compute_loss
        if model.train_function is self._kept.recording:
            model.train_function = self._kept.before

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
