"""How a pull fades: the share of its strength at each point of its time."""

from __future__ import annotations

import tensorflow as tf

from keras_qan.registry import configurable


@configurable
class Linear:
    """1 − t/T: the whole strength at first, nothing at the end."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`, float32 `[]` in [0, 1]."""
        return 1.0 - progress


@configurable
class Constant:
    """1 until the time is over, then nothing: as the original had it."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`, float32 `[]` in [0, 1]."""
        return tf.ones_like(progress)
