"""Keras's `fit` under MultiWorkerMirroredStrategy (keras#20585), made to work by the strategy.

Keras 3 asks the strategy twice for what it cannot give. Before training, `_maybe_symbolic_build`
reduces a whole batch, a tuple, in one call, to learn its shapes. After each step,
`reduce_per_replica` takes the mean of each metric, a scalar, over its axis 0. Both calls go through
`Strategy.reduce`, so a strategy that answers them is enough, and nothing of Keras is touched.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

#: The Keras versions that were seen to fail, from the first to the one before the second.
#: tests/distribute/test_two_processes.py tells when a version no longer does.
BROKEN = ((3, 0), (3, 16))


def is_needed(version: str | None = None) -> bool:
    """Whether a version of Keras is one of those that were seen to fail.

    Args:
      version: such as "3.15.1"; by default that of the Keras at hand.
    """
    parts = (version or keras.__version__).split(".")[:2]
    first, end = BROKEN
    return first <= (int(parts[0]), int(parts[1])) < end


class RepairedMultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """A MultiWorkerMirroredStrategy whose `reduce` answers the two calls of Keras's `fit`."""

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Reduces over the replicas, as `tf.distribute.Strategy.reduce`; but for two cases.

        Args:
          reduce_op: "SUM" or "MEAN".
          value: a tensor or per-replica value. A batch of several (tuple, list, dict), which
            TensorFlow refuses, gives this worker's own part: Keras wants its shapes alone.
          axis: the axis to reduce besides; of a scalar's mean, which has none, there is none to
            reduce.

        Returns:
          The reduced value, the same on every worker; of a batch, this worker's part.
        """
        if axis is None and isinstance(value, tuple | list | dict):
            return tf.nest.map_structure(
                lambda part: self.experimental_local_results(part)[0], value
            )
        if axis == 0 and _is_scalar(self.experimental_local_results(value)[0]):
            axis = None
        return super().reduce(reduce_op, value, axis)


def _is_scalar(value: Any) -> bool:
    return tf.is_tensor(value) and value.shape.rank == 0
