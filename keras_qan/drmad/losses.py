"""The loss of each example, from the loss that a model was compiled with."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import tensorflow as tf

from keras_qan.utils.example_losses import ExampleLosses

_SPARSE = ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy")
_DENSE = ("CategoricalCrossentropy", "categorical_crossentropy")
_EPSILON = 1e-7


class ExampleLoss:
    """A loss before the mean over examples, by Keras's own path.

    Args:
      loss: as for `model.compile(loss=...)`: a name, a `keras.losses.Loss`, or a function of
        targets and predictions that gives a loss for each example.
      model: the model that was compiled with it, whose `loss_weights` count. Defaults to none.

    Raises:
      ValueError: there is no loss, or more than one.
    """

    def __init__(self, loss: Any, model: keras.Model | None = None) -> None:
        given = keras.tree.flatten(loss)
        if len(given) != 1 or given[0] is None:
            raise ValueError(
                f"Received loss={loss!r}; expected one loss for the model's one output. Compile "
                "the model with one, or give Training(loss='sparse_categorical_crossentropy')."
            )
        found = given[0]
        if str(found).lower() not in ("crossentropy", "ce"):  # Keras chooses one by the targets
            found = keras.losses.get(found)
        self.name = getattr(found, "__name__", type(found).__name__)
        if inspect.isclass(found):
            found = loss = found()
        is_object = isinstance(found, keras.losses.Loss)
        config = found.get_config() if is_object and self.name in _SPARSE + _DENSE else {}
        plain = not config.get("label_smoothing") and config.get("ignore_class") is None
        self.has_classes = self.name in _SPARSE + _DENSE
        self.is_crossentropy = self.has_classes and plain and config.get("axis", -1) == -1
        if model is None:
            model = keras.Sequential()
            model.compile(loss=loss)
        uniform = _UniformTarget(from_logits=bool(config.get("from_logits", False)))
        self._losses = ExampleLosses(model._compile_loss, of_batch=True)
        self._uniform = ExampleLosses(model._compile_loss, of_batch=True, stand_in=uniform)

    def __call__(self, y: Any, outputs: tf.Tensor, weight: Any = None) -> tf.Tensor:
        """Losses of a batch's examples, `[B]`; their mean is what Keras gives for the batch.

        Args:
          y: targets.
          outputs: the model's.
          weight: sample weights. Defaults to none.
        """
        return tf.convert_to_tensor(self._losses(y, outputs, weight))

    def uniform(self, y: Any, outputs: tf.Tensor, weight: Any = None) -> tf.Tensor:
        """Cross-entropy with a uniform target, mean over classes of −log p_k, `[B]`."""
        return tf.convert_to_tensor(self._uniform(y, outputs, weight))

    def classes(self, y: tf.Tensor) -> tf.Tensor:
        """Class of each example, int64 `[B]`.

        Raises:
          ValueError: an example has several.
        """
        is_sparse = self.name in _SPARSE
        if y.shape.rank > 2 or (is_sparse and y.shape.rank == 2 and y.shape[1] != 1):
            raise ValueError(
                f"LossWeights(per='class') was given with targets of shape {tuple(y.shape)}; "
                "expected one class for each example. Use LossWeights(per='example')."
            )
        if is_sparse:
            return tf.cast(tf.reshape(y, (-1,)), tf.int64)
        return tf.argmax(y, axis=-1)


class _UniformTarget(keras.losses.Loss):
    """Cross-entropy with a target that gives each class the same probability."""

    def __init__(self, from_logits: bool) -> None:
        super().__init__(name="uniform")
        self._from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        del y_true
        if self._from_logits:
            logs = tf.nn.log_softmax(y_pred)
        else:
            shares = y_pred / tf.reduce_sum(y_pred, axis=-1, keepdims=True)
            logs = tf.math.log(tf.clip_by_value(shares, _EPSILON, 1.0 - _EPSILON))
        return -tf.reduce_mean(logs, axis=-1)
