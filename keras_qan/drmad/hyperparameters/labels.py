"""Hyperparameters of the examples' losses: label smoothing, and weights of examples or classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_qan.drmad.hyperparameters.base import Hyperparameter, one_of
from keras_qan.drmad.hyperparameters.transforms import Logit

if TYPE_CHECKING:
    from keras_qan.drmad.data import Batch
    from keras_qan.drmad.model_info import ModelInfo


class LabelSmoothing(Hyperparameter):
    """(1 − s) · loss(y) + s · (mean over classes k of loss(k)); transform logit, 1e-4 to 0.9.

    The same as replacing the label by (1 − s) · one-hot + s / classes in a cross-entropy. It acts
    on the training loss alone, as every hyperparameter of the loss does.

    Args:
      initial: what it starts from; 0.05.
      bounds: lowest and highest s.
      search: the range that `search_then_descend` looks in.
    """

    transform = Logit()
    default_bounds = (1e-4, 0.9)
    default_initial = 0.05
    default_search = (1e-3, 0.5)
    once = True

    def shape(self, facts: ModelInfo) -> tuple[int, ...]:
        """`[1]`."""
        if not facts.loss.is_crossentropy:
            raise ValueError(
                f"LabelSmoothing was given with the loss {facts.loss.name}; expected a categorical "
                "cross-entropy, sparse or not. Compile the model with one, or leave it out."
            )
        return (1,)

    def weigh(
        self, value: tf.Tensor, losses: tf.Tensor, outputs: Any, batch: Batch, facts: ModelInfo
    ) -> tf.Tensor:
        """The smoothed losses."""
        del batch
        return (1.0 - value[0]) * losses + value[0] * facts.loss.uniform(outputs)


class LossWeights(Hyperparameter):
    """A factor on the loss of each training example, or of each class's examples; transform log.

    Weights of examples that spoil the validation loss fall: data cleaning. They start from 1, and
    the loss is divided by the number of examples, not by the sum of weights.

    Args:
      per: "class" or "example".
      initial: what all start from; 1.
      bounds: lowest and highest factor; by default 0.01 to 10.
    """

    default_bounds = (0.01, 10.0)
    default_initial = 1.0
    once = True

    def __init__(
        self,
        per: str = "class",
        *,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        self.per = one_of("LossWeights", per, ("class", "example"))
        super().__init__(initial=initial, bounds=bounds, search=search)

    @property
    def name(self) -> str:
        """Kind and granularity."""
        return f"LossWeights(per={self.per!r})"

    def shape(self, facts: ModelInfo) -> tuple[int, ...]:
        """`[C]` or `[N]`."""
        if self.per == "example":
            return (facts.num_examples,)
        if not facts.loss.has_classes:
            raise ValueError(
                f"{self.name} was given with the loss {facts.loss.name}, whose targets are no "
                "classes; expected a cross-entropy. Use LossWeights(per='example'), or leave it "
                "out."
            )
        return (facts.num_classes,)

    def weigh(
        self, value: tf.Tensor, losses: tf.Tensor, outputs: Any, batch: Batch, facts: ModelInfo
    ) -> tf.Tensor:
        """The weighted losses."""
        del outputs
        places = batch.index if self.per == "example" else facts.loss.classes(batch.y)
        return losses * tf.gather(value, places)
