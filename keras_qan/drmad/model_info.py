"""Facts about a model and its data that hyperparameters may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from keras_qan.drmad.losses import ExampleLoss


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """Sizes and names of a model and its data; constant while tuning.

    Args:
      paths: path of each trainable weight, as Keras names it.
      shapes: shape of each trainable weight.
      layers: names of the layers that have trainable weights.
      layer_of: for each weight, the position of its layer in `layers`.
      dtype: dtype of the weights.
      input_shape: shape of one example, or None where the model has several inputs.
      num_examples: number of training examples.
      num_classes: size of the last axis of the model's output.
      loss: loss of each example.
      learning_rate: α that the training starts from where it is not tuned.
      momentum: γ that the training starts from where it is not tuned.
    """

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    layers: tuple[str, ...]
    layer_of: tuple[int, ...]
    dtype: tf.DType
    input_shape: tuple[int, ...] | None
    num_examples: int
    num_classes: int
    loss: ExampleLoss
    learning_rate: float
    momentum: float

    def kernels(self, layers: tuple[str, ...] | None = None, *, biases: bool = False) -> list[int]:
        """Positions of the weights with two axes or more, in the layers named or in all."""
        return [
            number
            for number, shape in enumerate(self.shapes)
            if (biases or len(shape) >= 2)
            and (layers is None or self.layers[self.layer_of[number]] in layers)
        ]
