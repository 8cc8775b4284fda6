"""A strategy that makes Keras's `fit` work on several workers (keras#20585).

Two calls of Keras 3 fail under MultiWorkerMirroredStrategy. Before training,
`_maybe_symbolic_build` reduces a whole batch, a tuple, in one call, for its shapes. After each
step, `reduce_per_replica` takes the mean of each metric, a scalar, over its axis 0. Both go through
`Strategy.reduce`, so a subclass that handles them is enough, and Keras is not patched.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

#: The Keras versions in which `fit` was seen to fail, the second one exclusive.
#: tests/distribute/test_two_processes.py fails when a version no longer does.
_AFFECTED = ((3, 0), (3, 16))


def is_affected(version: str | None = None) -> bool:
    """Return whether `fit` was seen to fail in a version of Keras.

    Args:
      version: such as "3.15.1". Defaults to the installed one.
    """
    parts = (version or keras.__version__).split(".")[:2]
    first, end = _AFFECTED
    return first <= (int(parts[0]), int(parts[1])) < end


class RepairedMultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """A MultiWorkerMirroredStrategy whose `reduce` handles the two calls of Keras's `fit`."""

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Reduce over the replicas, as `tf.distribute.Strategy.reduce` but for two cases.

        Args:
          reduce_op: "SUM" or "MEAN".
          value: a tensor or per-replica value. A nested batch (tuple, list, dict), which
            TensorFlow refuses, gives this worker's own part: Keras needs only its shapes.
          axis: another axis to reduce; ignored for a scalar, which has none.

        Returns:
          The reduced value, the same on every worker; of a nested batch, this worker's part.
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
