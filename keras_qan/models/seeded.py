"""Layers whose initial weights depend on one seed and on nothing else."""

import keras
import numpy as np

from keras_qan.utils.validation import check_integer


class SeededLayers:
    """Makes layers in turn, each with its own seed.

    A layer's seed is drawn from the model's seed and the layer's number. Names are given, as
    Keras would number them across all models of the process.

    Args:
        seed: the model's seed, at least 0.
        weight_decay: λ of the penalty λ/2 · Σ w² on kernels. Defaults to 0, none.

    Raises:
        ValueError: if the seed is negative.

    Example:
        >>> layers = SeededLayers(seed=1)
        >>> layers.dense(10, name="logits").units
        10
    """

    def __init__(self, seed: int, weight_decay: float = 0.0) -> None:
        self._seed = check_integer("seed", seed, 0)
        self._weight_decay = weight_decay
        self._made = 0

    def conv(
        self,
        filters: int,
        size: int,
        *,
        name: str,
        strides: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        initializer: keras.Initializer | None = None,
    ) -> keras.layers.Conv2D:
        """Return a convolution that keeps the image's size but for its strides."""
        return keras.layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=initializer or self.glorot(),
            kernel_regularizer=self._penalty(),
            name=name,
        )

    def dense(
        self, units: int, *, name: str, activation: str | None = None, dtype: str | None = None
    ) -> keras.layers.Dense:
        """Return a fully connected layer."""
        return keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=self.glorot(),
            kernel_regularizer=self._penalty(),
            dtype=dtype,
            name=name,
        )

    def logits(self, num_classes: int) -> keras.layers.Dense:
        """Return the last layer, in float32 under any precision policy."""
        # A softmax of half-precision logits overflows; Keras's mixed precision guide says so.
        return self.dense(num_classes, name="logits", dtype="float32")

    def glorot(self) -> keras.Initializer:
        """Return the initializer that Keras uses by default, with the next seed."""
        return keras.initializers.GlorotUniform(seed=self._next_seed())

    def he_fan_out(self) -> keras.Initializer:
        """Return N(0, 2 / (kernel area · filters)), as for the wide residual networks."""
        return keras.initializers.VarianceScaling(
            2.0, mode="fan_out", distribution="untruncated_normal", seed=self._next_seed()
        )

    def _penalty(self) -> keras.Regularizer | None:
        # Keras's L2(c) adds c · Σ w².
        return keras.regularizers.L2(self._weight_decay / 2) if self._weight_decay else None

    def _next_seed(self) -> int:
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._made,))
        self._made += 1
        # 31 bits: some of Keras's backends hold seeds as int32.
        return int(sequence.generate_state(1)[0] >> 1)
