"""Scale of the initial weights as a hyperparameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_qan.drmad.hyperparameters.base import GranularHyperparameter

if TYPE_CHECKING:
    from keras_qan.drmad.model_info import ModelInfo


class InitialScale(GranularHyperparameter):
    """A factor on each layer's initial kernels; transform log, bounds 0.01 to 100.

    Args:
      per: "layer" or "universal". Defaults to "layer".
      initial: factor that all start from. Defaults to 1.
      bounds: lowest and highest factor. Defaults to 0.01 to 100.
      search: range that `search_then_descend` looks in. Defaults to 0.2 to 5.
    """

    default_bounds = (0.01, 100.0)
    default_initial = 1.0
    default_search = (0.2, 5.0)
    in_loss = False
    once = True

    def shape(self, info: ModelInfo) -> tuple[int, ...]:
        """`[L]`: layers, or 1."""
        if not info.kernels():
            raise ValueError(
                "InitialScale was given for a model without kernels; expected a trainable weight "
                "with two axes or more. Leave it out."
            )
        return (len(info.layers) if self.per == "layer" else 1,)

    def scaled(
        self, value: tf.Tensor, weights: list[tf.Tensor], info: ModelInfo
    ) -> list[tf.Tensor]:
        """Return the weights with kernels scaled, s · w, and others as they are.

        Args:
          value: the scales, `[L]` or `[1]`.
          weights: the model's trainable weights at the start.
          info: what is known of the model.
        """
        kernels = set(info.kernels())
        return [
            weight * value[info.layer_of[number] if self.per == "layer" else 0]
            if number in kernels
            else weight
            for number, weight in enumerate(weights)
        ]
