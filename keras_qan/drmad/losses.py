"""The loss of each example, from the loss that a model was compiled with."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import tensorflow as tf

_SPARSE = ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy")
_DENSE = ("CategoricalCrossentropy", "categorical_crossentropy")
_EPSILON = 1e-7


class ExampleLoss:
    """A loss before the mean over examples.

    Args:
      loss: as for `model.compile(loss=...)`: a name, a `keras.losses.Loss`, or a function of
        targets and predictions that gives a loss for each example.

    Raises:
      ValueError: there is no loss, or more than one.
    """

    def __init__(self, loss: Any) -> None:
        if loss is None or isinstance(loss, list | tuple | dict):
            raise ValueError(
                f"Received loss={loss!r}; expected one loss for the model's one output. Compile "
                "the model with one, or give Training(loss='sparse_categorical_crossentropy')."
            )
        found = keras.losses.get(loss)
        self.name = getattr(found, "__name__", type(found).__name__)
        if inspect.isclass(found):
            found = found()
        self._loss = found
        is_object = isinstance(found, keras.losses.Loss)
        self._call = found.call if is_object else found
        config = found.get_config() if is_object and self.name in _SPARSE + _DENSE else {}
        plain = not config.get("label_smoothing") and config.get("ignore_class") is None
        self.has_classes = self.name in _SPARSE + _DENSE
        self.is_crossentropy = self.has_classes and plain and config.get("axis", -1) == -1
        self._from_logits = bool(config.get("from_logits", False))

    def __call__(self, y: Any, outputs: tf.Tensor) -> tf.Tensor:
        """Losses of a batch's examples, `[B]`."""
        losses = tf.convert_to_tensor(self._call(y, outputs))
        if losses.shape.rank == 0:
            raise ValueError(
                f"The loss {self.name} returned one number for a whole batch; expected one for "
                "each example. Leave the mean out of it: the training takes it."
            )
        return tf.reduce_mean(tf.reshape(losses, (tf.shape(losses)[0], -1)), axis=1)

    def uniform(self, outputs: tf.Tensor) -> tf.Tensor:
        """Cross-entropy with a uniform target, mean over classes of −log p_k, `[B]`."""
        if self._from_logits:
            logs = tf.nn.log_softmax(outputs)
        else:
            shares = outputs / tf.reduce_sum(outputs, axis=-1, keepdims=True)
            logs = tf.math.log(tf.clip_by_value(shares, _EPSILON, 1.0 - _EPSILON))
        return -tf.reduce_mean(tf.reshape(logs, (tf.shape(logs)[0], -1)), axis=1)

    def classes(self, y: tf.Tensor) -> tf.Tensor:
        """Class of each example, int64 `[B]`."""
        if self.name in _SPARSE:
            return tf.cast(tf.reshape(y, (-1,)), tf.int64)
        return tf.argmax(y, axis=-1)
