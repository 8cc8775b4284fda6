"""Hyperparameters of the initial weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_qan.drmad.hyperparameters.base import Hyperparameter, one_of

if TYPE_CHECKING:
    from keras_qan.drmad.model_info import ModelInfo


class InitialScale(Hyperparameter):
    """A factor on each layer's initial kernels; transform log, bounds 0.01 to 100.

    Args:
      per: "layer" or "universal".
      initial: what all start from; 1.
      bounds: lowest and highest factor.
      search: the range that `search_then_descend` looks in.
    """

    default_bounds = (0.01, 100.0)
    default_initial = 1.0
    default_search = (0.2, 5.0)
    in_loss = False
    once = True

    def __init__(
        self,
        per: str = "layer",
        *,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        self.per = one_of("InitialScale", per, ("layer", "universal"))
        super().__init__(initial=initial, bounds=bounds, search=search)

    @property
    def name(self) -> str:
        """Kind and granularity."""
        return f"InitialScale(per={self.per!r})"

    def shape(self, facts: ModelInfo) -> tuple[int, ...]:
        """`[L]`: layers, or 1."""
        if not facts.kernels():
            raise ValueError(
                "InitialScale was given for a model without kernels; expected a trainable weight "
                "with two axes or more. Leave it out."
            )
        return (len(facts.layers) if self.per == "layer" else 1,)

    def scaled(
        self, value: tf.Tensor, weights: list[tf.Tensor], facts: ModelInfo
    ) -> list[tf.Tensor]:
        """s · w for kernels; other weights as they are."""
        kernels = set(facts.kernels())
        return [
            weight * value[facts.layer_of[number] if self.per == "layer" else 0]
            if number in kernels
            else weight
            for number, weight in enumerate(weights)
        ]
