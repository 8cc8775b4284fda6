"""Penalties on weights as hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_qan.drmad.hyperparameters.base import GranularHyperparameter

if TYPE_CHECKING:
    from keras_qan.drmad.model_info import ModelInfo


class _Penalty(GranularHyperparameter):
    """λ · f(w), with one λ for each weight, unit or layer, or for all."""

    granularities = ("layer", "unit", "weight", "universal")
    default_bounds = (1e-8, 10.0)
    default_initial = 1e-4
    default_search = (1e-7, 0.1)

    def __init__(
        self,
        per: str | None = None,
        *,
        layers: Any = None,
        biases: bool = False,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        if isinstance(layers, str):
            layers = (layers,)
        self.layers = None if layers is None else tuple(layers)
        self.biases = bool(biases)
        super().__init__(per, initial=initial, bounds=bounds, search=search)

    def penalised(self, info: ModelInfo) -> list[int]:
        """Positions of the penalised weights.

        Raises:
          ValueError: there are none.
        """
        unknown = [layer for layer in self.layers or () if layer not in info.layers]
        found = info.kernels(self.layers, biases=self.biases)
        if unknown or not found:
            raise ValueError(
                f"{self.name} got layers={self.layers}, of which the model has no trainable "
                f"kernels in {unknown or 'any'}; expected some of {list(info.layers)}. Name "
                "others, or leave the hyperparameter out."
            )
        return found

    def counts(self, info: ModelInfo) -> list[int]:
        """Number of λ of each penalised weight tensor."""
        return [self._count(info.shapes[number]) for number in self.penalised(info)]

    def shape(self, info: ModelInfo) -> tuple[int, ...]:
        """`[H]`: the λ of all tensors, one after the other."""
        return (1 if self.per == "universal" else sum(self.counts(info)),)

    def _count(self, shape: tuple[int, ...]) -> int:
        if self.per == "weight":
            return int(np.prod(shape))
        return shape[-2 if len(shape) > 1 else 0] if self.per == "unit" else 1

    def spread(self, value: tf.Tensor, info: ModelInfo) -> list[tf.Tensor]:
        """λ of each penalised tensor, in a shape that broadcasts with it."""
        numbers = self.penalised(info)
        if self.per == "universal":
            return [value[0] for _ in numbers]
        counts = self.counts(info)
        return [
            tf.reshape(part, self._broadcast(info.shapes[number]))
            for number, part in zip(numbers, tf.split(value, counts), strict=True)
        ]

    def _broadcast(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.per == "weight":
            return shape
        if self.per == "layer":
            return (1,) * len(shape)
        return (1,) * (len(shape) - 2) + (shape[-2], 1) if len(shape) > 1 else shape

    def penalty(self, value: tf.Tensor, weights: list[tf.Tensor], info: ModelInfo) -> tf.Tensor:
        """Σ λ_j f(w_j)."""
        terms = [
            tf.reduce_sum(rate * self._of(weights[number]))
            for number, rate in zip(self.penalised(info), self.spread(value, info), strict=True)
        ]
        return tf.add_n(terms)

    def _of(self, weight: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError


class L2(_Penalty):
    """Σ λ_j w_j², in the units of `keras.regularizers.L2`; transform log, bounds 1e-8 to 10.

    A *unit* is what feeds a kernel: an input of a Dense kernel (a row), an input channel of a
    convolution (the last axis but one), so that the units of a first Dense layer are the input's
    pixels.

    Args:
      per: "weight", "unit", "layer" or "universal". Defaults to "layer".
      layers: names of the layers to penalise. Defaults to all.
      biases: penalise weights of one axis (biases, scales) too. Defaults to False.
      initial: λ that all start from. Defaults to 1e-4.
      bounds: lowest and highest λ. Defaults to 1e-8 to 10.
      search: range that `search_then_descend` looks in. Defaults to 1e-7 to 0.1.
    """

    def _of(self, weight: tf.Tensor) -> tf.Tensor:
        return tf.square(weight)


class L1(_Penalty):
    """Σ λ_j |w_j|, in the units of `keras.regularizers.L1`; transform log, bounds 1e-8 to 10.

    Args:
      per: "weight", "unit", "layer" or "universal". Defaults to "layer".
      layers: names of the layers to penalise. Defaults to all.
      biases: penalise weights of one axis (biases, scales) too. Defaults to False.
      initial: λ that all start from. Defaults to 1e-4.
      bounds: lowest and highest λ. Defaults to 1e-8 to 10.
      search: range that `search_then_descend` looks in. Defaults to 1e-7 to 0.1.
    """

    def _of(self, weight: tf.Tensor) -> tf.Tensor:
        return tf.abs(weight)
