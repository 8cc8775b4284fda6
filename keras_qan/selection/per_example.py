"""The loss of every example of a batch, from what a training step has at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def per_example_losses(model: keras.Model, y: Any, y_pred: Any) -> tf.Tensor:
    """The losses of a batch's examples, by the loss that the model was compiled with.

    The outputs are those of the training step: only the loss itself is reckoned again, before its
    mean is taken. Sample weights, class weights and penalties on weights are left out of it.

    Args:
      model: the compiled model.
      y: targets, as the model's `compute_loss` gets them.
      y_pred: outputs of the same structure, each `[B, ...]`.

    Returns:
      float32 `[B]`: the mean over all other axes, and over outputs the sum times `loss_weights`.

    Raises:
      ValueError: the model has no loss of its own, or one that does not tell examples apart.
    """
    if model.loss is None:
        raise ValueError(
            f"Model {model.name!r} is compiled without a loss, so that the losses of its examples "
            "are not known; expected model.compile(loss=...). In a training loop of your own, "
            "pass them: selector.advance(losses=...)."
        )
    found = [
        weight * _one_output(spec, target, output)
        for spec, weight, target, output in _outputs(model, y, y_pred)
    ]
    return tf.add_n(found)


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


def _outputs(model: keras.Model, y: Any, y_pred: Any) -> list[tuple[Any, float, Any, Any]]:
    """(loss, weight, target, output) for each output that has a loss."""
    spec = model.loss
    if not keras.tree.is_nested(y_pred):
        return [(keras.tree.flatten(spec)[0], 1.0, keras.tree.flatten(y)[0], y_pred)]
    names = list(y_pred) if isinstance(y_pred, dict) else list(_output_names(model, len(y_pred)))
    weights = (model.get_compile_config() or {}).get("loss_weights")
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
