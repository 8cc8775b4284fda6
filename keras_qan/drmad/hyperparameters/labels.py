"""Label smoothing, and weights of examples or classes, as hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_qan.drmad.hyperparameters.base import GranularHyperparameter, Hyperparameter
from keras_qan.drmad.hyperparameters.transforms import Logit

if TYPE_CHECKING:
    from keras_qan.drmad.data import Batch
    from keras_qan.drmad.model_info import ModelInfo


class LabelSmoothing(Hyperparameter):
    """(1 − s) · loss(y) + s · (mean over classes k of loss(k)); transform logit, 1e-4 to 0.9.

    The same as replacing the label by (1 − s) · one-hot + s / classes in a cross-entropy. It acts
    on the training loss alone, as every hyperparameter of the loss does.

    Args:
      initial: s to start from. Defaults to 0.05.
      bounds: lowest and highest s. Defaults to 1e-4 to 0.9.
      search: range that `search_then_descend` looks in. Defaults to 1e-3 to 0.5.
    """

    transform = Logit()
    default_bounds = (1e-4, 0.9)
    default_initial = 0.05
    default_search = (1e-3, 0.5)
    once = True

    def shape(self, info: ModelInfo) -> tuple[int, ...]:
        """`[1]`."""
        if not info.loss.is_crossentropy:
            raise ValueError(
                f"LabelSmoothing was given with the loss {info.loss.name}; expected a categorical "
                "cross-entropy, sparse or not. Compile the model with one, or leave it out."
            )
        return (1,)

    def weigh(
        self, value: tf.Tensor, losses: tf.Tensor, outputs: Any, batch: Batch, info: ModelInfo
    ) -> tf.Tensor:
        """Smooth the losses."""
        uniform = info.loss.uniform(batch.y, outputs, batch.weight)
        return (1.0 - value[0]) * losses + value[0] * tf.cast(uniform, losses.dtype)


class LossWeights(GranularHyperparameter):
    """A factor on the loss of each training example, or of each class's examples; transform log.

    Weights of examples that spoil the validation loss fall: data cleaning. They start from 1, and
    the loss is divided by the number of examples, not by the sum of weights.

    Args:
      per: "class" or "example". Defaults to "class".
      initial: factor that all start from. Defaults to 1.
      bounds: lowest and highest factor. Defaults to 0.01 to 10.
      search: range that `search_then_descend` looks in. Defaults to none.
    """

    granularities = ("class", "example")
    default_bounds = (0.01, 10.0)
    default_initial = 1.0
    once = True

    def shape(self, info: ModelInfo) -> tuple[int, ...]:
        """`[C]` or `[N]`."""
        if self.per == "example":
            return (info.num_examples,)
        if not info.loss.has_classes:
            raise ValueError(
                f"{self.name} was given with the loss {info.loss.name}, whose targets are no "
                "classes; expected a cross-entropy. Use LossWeights(per='example'), or leave it "
                "out."
            )
        return (info.num_classes,)

    def weigh(
        self, value: tf.Tensor, losses: tf.Tensor, outputs: Any, batch: Batch, info: ModelInfo
    ) -> tf.Tensor:
        """Weight the losses."""
        del outputs
        places = batch.index if self.per == "example" else info.loss.classes(batch.y)
        return losses * tf.gather(value, places)
