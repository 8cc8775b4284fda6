"""The loss of every example of a batch, from what a training step has at hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class PerExampleLosses:
    """The losses of a batch's examples, by the loss that a model was compiled with.

    The outputs are those of the training step: only the loss itself is reckoned again, before its
    mean is taken. Sample weights, class weights and penalties on weights are left out of it.

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
        """The losses.

        Args:
          y: targets, as the model's `compute_loss` gets them.
          y_pred: outputs, each `[B, ...]`.

        Returns:
          float32 `[B]`: the mean over all other axes, and over outputs the sum times
          `loss_weights`.

        Raises:
          ValueError: the loss does not tell examples apart.
        """
        found = [
            weight * _one_output(spec, target, output)
            for spec, weight, target, output in _outputs(self._model, self._weights, y, y_pred)
        ]
        return tf.add_n(found)


def _loss_weights(model: keras.Model) -> Any:
    """What was given to compile, for models with several outputs."""
    if not keras.tree.is_nested(model.loss) and len(getattr(model, "outputs", None) or []) < 2:
        return None
    with warnings.catch_warnings():
        # A compile configuration warns of lambdas, which nobody is going to load from it.
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
